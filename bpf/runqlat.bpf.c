// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Run queue latency: how long threads wait for a CPU, as histograms. */
#include "aggregate.h"
#include "runqueue.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum run_key {
	BY_NOTHING,
	BY_PROCESS,
	BY_COMMAND,
};
const volatile enum run_key by DOC("One histogram for all threads (`nothing`), per process (`process`) or per thread name (`command`)") = BY_NOTHING;

struct key {
	u32 pid DOC("Process ID with `by: process`, otherwise 0");
	char comm[16] DOC("Name of the process with `by: process`, of the threads with `by: command`, otherwise empty");
};
struct value {
	struct runner_hist latency_ns UNIT("ns") DOC("Run queue latency: time from when a thread can run until it runs");
};
AGGREGATE(PERCPU_HASH, latencies, struct key, struct value, 2048) DOC("Run queue latency, as histograms") TRY("sleep");

ACCURACY(
	RUN_QUEUE_SEES
	RUN_QUEUE_NOT_SEEN
	OWNER("the thread that waits; a histogram is of all threads, of a process or of a thread name (`by`)")
	TIME("from when a thread can run until it runs")
	EXACT("counts and sums; percentiles are estimates within a bucket; a bucket spans one power of two")
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
