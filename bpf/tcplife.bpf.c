// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per TCP connection that was established, when it ends.
 *
 * Most state changes of a connection happen in an interrupt, in an unrelated task. So the owner is taken where the current
 * task is known to be the owner: at the change to SYN_SENT for an outgoing connection, at the return from accept() for an
 * incoming one. If no function can be hooked, it is taken when this side begins to close, which the socket's owner does.
 */
#include "kprobe.h"
#include "net.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum direction {
	DIRECTION_IN,
	DIRECTION_OUT,
};

struct event {
	u64 ts KIND("ktime") DOC("Time at which the connection ended");
	u32 pid DOC("Process ID of the owner, which opened or accepted the connection; 0: none did");
	u32 uid DOC("Real user ID of the owner; with `pid` 0: of the listening socket");
	char comm[16] DOC("Name of the thread that opened or accepted the connection");
	enum ip_family family DOC("IP version");
	enum direction direction DOC("Incoming or outgoing");
	u8 laddr[16] KIND("ip") DOC("Local address");
	u8 raddr[16] KIND("ip") DOC("Remote address");
	u16 lport DOC("Local port");
	u16 rport DOC("Remote port");
	u64 tx_bytes UNIT("bytes") DOC("Data sent and acknowledged by the remote side");
	u64 rx_bytes UNIT("bytes") DOC("Data received in order");
	u64 duration_ns UNIT("ns") DOC("Time since the connection was established");
	char process_comm[16] DOC("Name of the process that opened or accepted the connection");
} DOC("A TCP connection that ended") TRY("connection");
EVENT(event);

ACCURACY(
	SEES("each connection that is established during the capture, when it ends; over loopback both of its ends")
	SEES("subflows of Multipath TCP, each as a connection")
	NOT_SEEN("connections that were established before the capture")
	NOT_SEEN("attempts that are never established (`tcpconnect`)")
	NOT_SEEN("connections that are open at the end: counted as `in_flight`")
	OWNER("the process that opened or accepted it, also if another process closes it or has its descriptor")
	OWNER("of a connection that was not accepted: `pid` 0 and the user of the listening socket; a filter on tasks excludes it")
	OWNER("of a later subflow: the owner of the first one while that is open, otherwise `pid` 0")
	OWNER("of connections of the kernel (NFS): `kworker/…`")
	TIME("`ts`: when the socket is closed; `duration_ns`: from the establishment to the close, without TIME_WAIT")
	EXACT("`tx_bytes` that the remote side acknowledged, and `rx_bytes` in order, to the byte")
	VARIANTS("`fexit` and `kprobe`: the same events; with `fexit` on 7.3 the first subflow of an incoming connection has `pid` 0")
	VARIANTS("`tracepoint`: the owner of an incoming connection is the process that begins to close it on this side")
);

const volatile u64 min_duration_ns UNIT("ns") DOC("Only connections that lasted at least this") = 0;
/* On the owner */
TASK_FILTERS();
FILTER(u16, local_port, 16) DOC("Only connections with these local ports") = {};
FILTER(u16, remote_port, 16) DOC("Only connections with these remote ports") = {};
FILTER(enum ip_family, family, 2) DOC("Only connections with this IP version") = {};
FILTER(enum direction, direction, 1) DOC("Only incoming or only outgoing connections") = {};

struct life {
	u64 since; /* what the runner counts as open: `start`, or 0 while the connection has not passed the filters */
	u64 start; /* 0: not established yet */
	u32 pid;
	u32 uid;
	char comm[16];
	char process_comm[16];
	bool owned; /* pid, uid and names are known */
	bool out;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct life);
} connections SEC(".maps") DOC("Open connections") IN_FLIGHT("connections open");
INSERT_FAILURES(connections);

static __always_inline void forget(u64 key)
{
	bpf_map_delete_elem(&connections, &key);
}

/* Makes the current task the owner, or returns false if it does not pass the filters. */
static __always_inline bool own(struct life *life)
{
	u64 id = bpf_get_current_pid_tgid();

	if (!task_passes(id))
		return false;
	life->pid = id >> 32;
	life->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(life->comm, sizeof(life->comm));
	process_name_or(&life->process_comm, (struct task_struct *)bpf_get_current_task(), id >> 32 == (u32)id, life->comm);
	life->owned = true;
	return true;
}

/* The owner of a later subflow of a Multipath TCP connection is that of the first one. Returns whether it is known. */
static __always_inline bool inherit(struct life *life, struct sock *sk)
{
	struct sock *connection = mptcp_connection_of(sk);
	u64 key = connection ? (u64)first_subflow_of(connection) : 0;
	struct life *first = key && key != (u64)sk ? bpf_map_lookup_elem(&connections, &key) : NULL;

	if (!first || !first->owned)
		return false;
	life->pid = first->pid;
	life->uid = first->uid;
	__builtin_memcpy(life->comm, first->comm, sizeof(life->comm));
	__builtin_memcpy(life->process_comm, first->process_comm, sizeof(life->process_comm));
	life->owned = true;
	return true;
}

/* Whether the connection that `sk` opens passes the filters. Takes its owner if that is known. */
static __always_inline bool opened(struct life *life, struct sock *sk)
{
	if (in_kernel_thread() && mptcp_connection_of(sk))
		return inherit(life, sk) || task_filters_off();
	return own(life);
}

static __always_inline void follow(struct sock *sk, bool out)
{
	struct life life = {};
	u64 key = (u64)sk;

	life.out = out;
	if (!filter_passes(direction, (enum direction)out) || (out && !opened(&life, sk))) {
		forget(key); /* an entry of the last socket at this address may be left */
		return;
	}
	if (bpf_map_update_elem(&connections, &key, &life, BPF_ANY))
		lost_map_full(connections);
}

/* Bytes of data. The kernel's counters include the SYN and the FIN. */
static __always_inline u64 data_sent(struct sock *sk, bool out, int state)
{
	struct tcp_sock *tp = (void *)sk;
	bool fin = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == TCP_LAST_ACK ||
		   state == TCP_TIME_WAIT;
	u64 control = out; /* the SYN of the accepting side is acknowledged before the counting begins */

	if (fin && BPF_CORE_READ(tp, snd_una) == BPF_CORE_READ(tp, write_seq))
		control++;
	return BPF_CORE_READ(tp, bytes_acked) - control;
}

#define SOCK_DONE 1 /* include/net/sock.h, enum sock_flags: the remote side's FIN has arrived */

static __always_inline u64 data_received(struct sock *sk)
{
	struct tcp_sock *tp = (void *)sk;
	u64 fin = BPF_CORE_READ(sk, __sk_common.skc_flags) >> SOCK_DONE & 1;

	return BPF_CORE_READ(tp, bytes_received) - fin;
}

static __always_inline void report(void *ctx, struct sock *sk, struct life *life, int state)
{
	u64 now = bpf_ktime_get_ns();
	struct ends ends;
	struct event *e;

	if (now - life->start < min_duration_ns || (!life->owned && !inherit(life, sk) && !task_filters_off()))
		return;
	ends_of(sk, &ends);
	e = event_begin(struct event);
	if (!e)
		return;
	e->ts = now;
	e->pid = life->pid;
	e->uid = life->owned ? life->uid : BPF_CORE_READ(sk, sk_uid.val);
	__builtin_memcpy(e->comm, life->comm, sizeof(e->comm));
	__builtin_memcpy(e->process_comm, life->process_comm, sizeof(e->process_comm));
	e->family = ends.family;
	e->direction = life->out;
	__builtin_memcpy(e->laddr, ends.local, sizeof(e->laddr));
	__builtin_memcpy(e->raddr, ends.remote, sizeof(e->raddr));
	e->lport = ends.local_port;
	e->rport = ends.remote_port;
	e->tx_bytes = data_sent(sk, life->out, state);
	e->rx_bytes = data_received(sk);
	e->duration_ns = now - life->start;
	event_end(ctx, e);
}

static __always_inline bool ends_pass(struct sock *sk)
{
	struct ends ends;

	ends_of(sk, &ends);
	return filter_passes(local_port, ends.local_port) && filter_passes(remote_port, ends.remote_port) &&
	       filter_passes(family, ends.family);
}

/* With Multipath TCP, a process has the socket of the connection; states and counters are in those of its subflows. */
static __always_inline u64 key_of(struct sock *sk, u16 protocol)
{
	return protocol == IPPROTO_MPTCP ? (u64)first_subflow_of(sk) : (u64)sk;
}

/* Makes the current task the owner if there is none yet. */
static __always_inline int claim(u64 key, struct life *life)
{
	if (!life || life->owned)
		return 0;
	if (own(life))
		life->since = life->start;
	else
		forget(key);
	return 0;
}

static __always_inline int accepted(struct sock *sk)
{
	u64 key = key_of(sk, BPF_CORE_READ(sk, sk_protocol));

	return claim(key, bpf_map_lookup_elem(&connections, &key));
}

/* Whether only the socket's owner can cause this change of state: by close(), shutdown() or the end of the process. */
static __always_inline bool is_by_user(struct sock *sk, int to)
{
	if (to == TCP_FIN_WAIT1 || to == TCP_LAST_ACK)
		return true;
	/* Received data was not read, or SO_LINGER is set. A reset or a timeout sets the error first. */
	return to == TCP_CLOSE && BPF_CORE_READ(sk, sk_shutdown) == 3 /* SHUTDOWN_MASK */ && !BPF_CORE_READ(sk, sk_err);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(state_changed, struct sock *sk, int from, int to)
{
	u64 key = (u64)sk;
	struct life *life;

	/* Newer kernels accept these by another function; the task that closes it is its owner */
	if (sk->sk_protocol == IPPROTO_MPTCP)
		return is_by_user(sk, to) && !in_kernel_thread() ? accepted(sk) : 0;
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (to == TCP_SYN_SENT || (to == TCP_SYN_RECV && from != TCP_SYN_SENT)) {
		follow(sk, to == TCP_SYN_SENT);
		return 0;
	}
	life = bpf_map_lookup_elem(&connections, &key);
	if (!life)
		return 0;
	if (to == TCP_ESTABLISHED) {
		life->start = bpf_ktime_get_ns();
		if (!ends_pass(sk)) {
			forget(key);
			return 0;
		}
		if (life->owned || inherit(life, sk) || task_filters_off())
			life->since = life->start;
		return 0;
	}
	if (to == TCP_CLOSE) {
		if (life->start)
			report(ctx, sk, life, from);
		forget(key);
	}
	return 0;
}

/* At the return the new socket is in its place; the position of the result is not fixed (6.10 removed an argument). */
SEC("fexit/inet_accept")
ALTERNATIVE("owner", "fexit")
int BPF_PROG(accept_returns, struct socket *listening, struct socket *new)
{
	struct sock *sk = BPF_CORE_READ(new, sk);

	return sk ? accepted(sk) : 0;
}

SEC("kretprobe/inet_csk_accept")
ALTERNATIVE("owner", "kprobe")
int accept_probed(struct pt_regs *regs)
{
	struct sock *sk = FUNCTION_RESULT(regs);

	return sk ? accepted(sk) : 0;
}

/* Attached before the other hook of this tracepoint, so that the owner is known at the end of a connection. Not tp_btf:
 * functions of one section are attached together, and this one would be the first choice. */
SEC("raw_tp/inet_sock_set_state")
ALTERNATIVE("owner", "tracepoint")
int BPF_PROG(end_begun, struct sock *sk, int from, int to)
{
	struct life *life;
	u64 key = (u64)sk;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || !is_by_user(sk, to))
		return 0;
	life = bpf_map_lookup_elem(&connections, &key);
	if (!life || life->owned)
		return 0;
	/* Mostly the kernel ends subflows, in a thread of its own */
	if (in_kernel_thread() && mptcp_connection_of(sk))
		return 0;
	return claim(key, life);
}
