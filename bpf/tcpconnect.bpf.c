// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per attempt to open a TCP connection, when both ends are known and nothing is sent yet.
 *
 * That is in tcp_connect(). Where no function can be hooked there is the tracepoint of the change of state, still in the
 * call of who connects, but before the kernel has chosen a port.
 */
#include "kprobe.h"
#include "net.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts AS("ktime") DOC("When it was begun");
	u32 pid DOC("Process");
	u32 tid DOC("Thread");
	u32 uid DOC("User it runs as (real user id)");
	char comm[16] DOC("Command");
	enum ip_family family DOC("Version of the Internet Protocol");
	u8 saddr[16] AS("ip") DOC("Address it is opened from");
	u8 daddr[16] AS("ip") DOC("Address it is opened to");
	u16 sport DOC("Port it is opened from; 0 if it is not chosen yet");
	u16 dport DOC("Port it is opened to");
} DOC("One attempt to open a TCP connection");
EVENT(event);

TASK_FILTERS();
FILTER(u16, port, 16) DOC("Only connections to these ports") = {};
FILTER(enum ip_family, family, 2) DOC("Only connections of this version of the Internet Protocol") = {};

static __always_inline int connecting(void *ctx, struct sock *sk)
{
	u64 id = bpf_get_current_pid_tgid();
	struct ends ends;
	struct event *e;

	if (!task_passes(id))
		return 0;
	ends_of(sk, &ends);
	if (!filter_passes(port, ends.remote_port) || !filter_passes(family, ends.family))
		return 0;
	e = event_begin(struct event);
	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	e->pid = id >> 32;
	e->tid = id;
	e->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	e->family = ends.family;
	__builtin_memcpy(e->saddr, ends.local, sizeof(e->saddr));
	__builtin_memcpy(e->daddr, ends.remote, sizeof(e->daddr));
	e->sport = ends.local_port;
	e->dport = ends.remote_port;
	event_end(ctx, e);
	return 0;
}

SEC("fentry/tcp_connect")
ALTERNATIVE("connect", "fentry")
int BPF_PROG(connect_called, struct sock *sk)
{
	return connecting(ctx, sk);
}

SEC("kprobe/tcp_connect")
ALTERNATIVE("connect", "kprobe")
int connect_probed(struct pt_regs *regs)
{
	return connecting(regs, FUNCTION_ARG1(regs));
}

SEC("tp_btf/inet_sock_set_state")
ALTERNATIVE("connect", "tracepoint")
int BPF_PROG(state_changed, struct sock *sk, int from, int to)
{
	if (to != TCP_SYN_SENT || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	return connecting(ctx, sk);
}
