// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Two groups of alternatives. An event tells which way it came, so one too many would be seen. */
#include "filter.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum what { WHAT_EXEC, WHAT_EXIT };
enum way { BY_FENTRY, BY_KPROBE, BY_TRACEPOINT };

struct event {
	u64 ts KIND("ktime") DOC("When it happened");
	u32 pid DOC("Process");
	enum what what DOC("What happened");
	enum way way DOC("The variant that saw it");
	u32 zero INTERNAL;
} DOC("The beginning or the end of a program");
EVENT(event);

FILTER(u32, pid, 16) DOC("Only these processes") = {};

static __always_inline int happened(void *ctx, enum what what, enum way way)
{
	u64 id = bpf_get_current_pid_tgid();
	struct event *e;

	if ((u32)id != id >> 32 || !filter_passes(pid, id >> 32))
		return 0;
	e = event_begin(struct event);
	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	e->pid = id >> 32;
	e->what = what;
	e->way = way;
	event_end(ctx, e);
	return 0;
}

SEC("fentry/begin_new_exec")
ALTERNATIVE("exec", "fentry")
int BPF_PROG(exec_by_fentry)
{
	return happened(ctx, WHAT_EXEC, BY_FENTRY);
}

SEC("tp_btf/sched_process_exec")
ALTERNATIVE("exec", "tracepoint")
int BPF_PROG(exec_by_tracepoint)
{
	return happened(ctx, WHAT_EXEC, BY_TRACEPOINT);
}

SEC("kprobe/do_exit")
ALTERNATIVE("exit", "kprobe")
int exit_by_kprobe(void *ctx)
{
	return happened(ctx, WHAT_EXIT, BY_KPROBE);
}

SEC("tracepoint/sched/sched_process_exit")
ALTERNATIVE("exit", "tracepoint")
int exit_by_tracepoint(void *ctx)
{
	return happened(ctx, WHAT_EXIT, BY_TRACEPOINT);
}
