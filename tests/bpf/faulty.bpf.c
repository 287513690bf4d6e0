// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Its first variant has its place on every kernel, and the verifier of none lets it pass. */
#include "filter.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts KIND("ktime") DOC("When it happened");
} DOC("A program was started");
EVENT(event);

const volatile bool only_faulty DOC("Do without the variant that works") = false;
FILTER(u32, pid, 16) DOC("Only these processes") = {};

SEC("raw_tp/sched_process_exec")
ALTERNATIVE("exec", "faulty")
int reads_where_it_must_not(void *ctx)
{
	return *(volatile u32 *)bpf_get_current_pid_tgid();
}

SEC("tp_btf/sched_process_exec")
ALTERNATIVE("exec", "sound")
SKIP_IF("only_faulty=true")
int BPF_PROG(exec)
{
	struct event *e;

	if (!filter_passes(pid, bpf_get_current_pid_tgid() >> 32))
		return 0;
	e = event_begin(struct event);
	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	event_end(ctx, e);
	return 0;
}
