// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per TCP connection that was established, when it ends.
 *
 * Most of a connection's states change in whatever task an interrupt has stopped, so who it belongs to is taken where
 * the task is known to be the right one. For who opens it, that is the change to SYN_SENT; for who accepts it, the
 * return from accept(). Where no function can be hooked, it is when this side begins to end it: the socket's user too.
 */
#include "kprobe.h"
#include "net.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum direction {
	DIRECTION_IN,
	DIRECTION_OUT,
};

struct event {
	u64 ts KIND("ktime") DOC("When it ended");
	u32 pid DOC("Process that opened or accepted it; 0 if none has");
	u32 uid DOC("User it runs as (real user id); of pid 0, the user of the listening socket");
	char comm[16] DOC("Name of the thread that did that");
	enum ip_family family DOC("Version of the Internet Protocol");
	enum direction direction DOC("Whether it came in or was opened from here");
	u8 laddr[16] KIND("ip") DOC("Address on this side");
	u8 raddr[16] KIND("ip") DOC("Address on the other side");
	u16 lport DOC("Port on this side");
	u16 rport DOC("Port on the other side");
	u64 tx_bytes UNIT("bytes") DOC("Data sent that the other side has acknowledged");
	u64 rx_bytes UNIT("bytes") DOC("Data received in order");
	u64 duration_ns UNIT("ns") DOC("Since it was established");
	char process_comm[16] DOC("Name of that process");
} DOC("One TCP connection that ended") TRY("connection");
EVENT(event);

ACCURACY(
	SEES("each connection that is established during the capture, when it ends; over loopback both of its ends")
	SEES("subflows of Multipath TCP, each as a connection")
	NOT_SEEN("connections that were open before the capture")
	NOT_SEEN("attempts that are never established (`tcpconnect`)")
	NOT_SEEN("connections that are open at the end: counted as `under_way`")
	OWNER("the process that opened or accepted it, also if another one closes it or got its descriptor")
	OWNER("not accepted: `pid` 0 and the user of the listening socket; a filter on tasks excludes these")
	OWNER("a later subflow: the owner of the first one while that is open, else `pid` 0")
	OWNER("connections of the kernel (NFS): `kworker/…`")
	TIME("`ts`: when the socket is closed for good; `duration_ns`: since it was established, without TIME_WAIT")
	EXACT("`tx_bytes` that the other side acknowledged and `rx_bytes` in order, to the byte")
	VARIANTS("`fexit` and `kprobe`: the same events; with `fexit` on 7.3 a first subflow that came in has `pid` 0")
	VARIANTS("`tracepoint`: a connection that came in belongs to the process that begins to end it on this side")
);

const volatile u64 min_duration_ns UNIT("ns") DOC("Only connections that lasted at least this long") = 0;
/* Those of who opened or accepted it */
TASK_FILTERS();
FILTER(u16, local_port, 16) DOC("Only connections with these ports on this side") = {};
FILTER(u16, remote_port, 16) DOC("Only connections with these ports on the other side") = {};
FILTER(enum ip_family, family, 2) DOC("Only connections of this version of the Internet Protocol") = {};
FILTER(enum direction, direction, 1) DOC("Only connections that came in, or only those opened from here") = {};

struct life {
	u64 since; /* what the runner counts as open: `start`, or 0 while the filters have not let it through */
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
} connections SEC(".maps") DOC("Connections that are open") IN_FLIGHT("connections open");
INSERT_FAILURES(connections);

static __always_inline void forget(u64 key)
{
	bpf_map_delete_elem(&connections, &key);
}

/* Makes the current task the owner, or returns false if the filters don't want it. */
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

/* A later subflow of a Multipath TCP connection belongs to whom the first one does. Returns whether that is known. */
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

/* Whether the filters let the connection that `sk` opens through, and whose it is if that is known. */
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
		forget(key); /* what the last use of this address may have left */
		return;
	}
	if (bpf_map_update_elem(&connections, &key, &life, BPF_ANY))
		lost_map_full(connections);
}

/* Data, without the SYN and the FIN that the kernel's counters have in them. */
static __always_inline u64 data_sent(struct sock *sk, bool out, int state)
{
	struct tcp_sock *tp = (void *)sk;
	bool fin = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == TCP_LAST_ACK ||
		   state == TCP_TIME_WAIT;
	u64 control = out; /* the SYN of who accepts is acknowledged before the counting begins */

	if (fin && BPF_CORE_READ(tp, snd_una) == BPF_CORE_READ(tp, write_seq))
		control++;
	return BPF_CORE_READ(tp, bytes_acked) - control;
}

#define SOCK_DONE 1 /* include/net/sock.h, enum sock_flags: the other side's FIN has come */

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

/* What a process has of Multipath TCP is the connection's socket; states and counters are those of its subflows. */
static __always_inline u64 key_of(struct sock *sk, u16 protocol)
{
	return protocol == IPPROTO_MPTCP ? (u64)first_subflow_of(sk) : (u64)sk;
}

/* The current task is the owner, if there is none yet. */
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

/* Whether a change of state can only be the doing of the socket's user: close(), shutdown() or the end of the process. */
static __always_inline bool is_by_user(struct sock *sk, int to)
{
	if (to == TCP_FIN_WAIT1 || to == TCP_LAST_ACK)
		return true;
	/* What was received was not read, or SO_LINGER says so. A reset or a timeout sets the error first. */
	return to == TCP_CLOSE && BPF_CORE_READ(sk, sk_shutdown) == 3 /* SHUTDOWN_MASK */ && !BPF_CORE_READ(sk, sk_err);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(state_changed, struct sock *sk, int from, int to)
{
	u64 key = (u64)sk;
	struct life *life;

	/* Newer kernels accept these by a function of their own; who ends it is its user */
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

/* On its way out it has put the new socket where it belongs; what it returns has no fixed place (6.10 took an argument). */
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

/* Attached before the other hook of this tracepoint, so that at an end the owner is there in time. Not tp_btf: functions of
 * one section come together, and this one would be the first choice. */
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
	/* Subflows are mostly ended by the kernel, which works in a thread of its own then */
	if (in_kernel_thread() && mptcp_connection_of(sk))
		return 0;
	return claim(key, life);
}
