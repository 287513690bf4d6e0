// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A program that keeps the runner's contract and that no kernel takes: it calls a helper that there never was. */
#include "filter.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts KIND("ktime") DOC("When it happened");
	u32 pid DOC("Process");
} DOC("Never seen");
EVENT(event);

FILTER(u32, pid, 16) DOC("Only these processes") = {};

static long (*const no_such_helper)(void) = (void *)9999;

SEC("tp_btf/sched_process_exec")
int BPF_PROG(calls_what_is_not_there)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct event *e;

	if (!filter_passes(pid, tgid) || no_such_helper())
		return 0;
	e = event_begin(struct event);
	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	e->pid = tgid;
	event_end(ctx, e);
	return 0;
}
