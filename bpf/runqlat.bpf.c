// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* How long tasks wait for a CPU, as histograms. */
#include "aggregate.h"
#include "runqueue.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum run_key {
	BY_NOTHING,
	BY_PROCESS,
	BY_COMMAND,
};
const volatile enum run_key by DOC("What has a histogram of its own; `command` is a name of threads, `process` has its own") = BY_NOTHING;

struct key {
	u32 pid DOC("Process that waited, with `by: process`; otherwise 0");
	char comm[16] DOC("Name of the process or, with `by: command`, of its threads; empty with `by: nothing`");
};
struct value {
	struct runner_hist latency_ns UNIT("ns") DOC("From the moment at which a thread could run until it ran");
};
AGGREGATE(PERCPU_HASH, latencies, struct key, struct value, 2048) DOC("Histograms of waits for a CPU") TRY("sleep");

ACCURACY(
	RUN_QUEUE_SEES
	RUN_QUEUE_NOT_SEEN
	OWNER("the thread that waits; a histogram is of all, of a process or of a name of threads (`by`)")
	TIME("from the moment at which a thread can run until it runs")
	EXACT("counts and sums; percentiles are estimates within a bucket, which is from one power of two to the next")
	VARIANTS("one")
);

SEC("tp_btf/sched_wakeup")
int BPF_PROG(wakeup, struct task_struct *task)
{
	woken(task);
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(wakeup_new, struct task_struct *task)
{
	woken(task);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(task_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	u64 now, latency = switched(preempt, prev, next, &now);
	struct task_struct___sched *more = (void *)next;
	struct key key = {};
	struct value *value;

	if (!latency)
		return 0;
	if (by == BY_PROCESS) {
		key.pid = next->tgid;
		bpf_probe_read_kernel_str(key.comm, sizeof(key.comm), more->group_leader->comm);
	} else if (by == BY_COMMAND) {
		bpf_probe_read_kernel_str(key.comm, sizeof(key.comm), next->comm);
	}
	value = aggregate(latencies, &key);
	if (value)
		hist_add(&value->latency_ns, latency);
	return 0;
}
