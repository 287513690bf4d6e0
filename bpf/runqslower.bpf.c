// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One event per wait of a thread in the run queue, when the thread gets a CPU. */
#include "runqueue.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts KIND("ktime") DOC("Time at which the thread got the CPU");
	u32 pid DOC("Process ID of the thread that waited");
	u32 tid DOC("Thread ID of the thread that waited");
	char comm[16] DOC("Name of the thread that waited");
	u64 latency_ns UNIT("ns") DOC("Run queue latency: time from when the thread could run until it ran");
	u32 cpu DOC("CPU that the thread got");
	u32 prev_pid DOC("Process ID of the thread that had the CPU before; 0: the CPU was idle");
	char prev_comm[16] DOC("Name of the thread that had the CPU before");
	char process_comm[16] DOC("Name of the process of the thread that waited");
} DOC("A wait of a thread in the run queue") TRY("sleep");
EVENT(event);

ACCURACY(
	RUN_QUEUE_SEES
	RUN_QUEUE_NOT_SEEN
	OWNER("the thread that waits; `prev_pid` and `prev_comm` are the thread that had the CPU before")
	TIME("`ts`: when the thread gets the CPU; `latency_ns`: from when it can run until then")
	EXACT("one event for a wait; the sum of a thread's waits is the second number of `/proc/PID/task/TID/schedstat`")
	VARIANTS("one")
);

const volatile u64 min_latency_ns UNIT("ns") DOC("Only waits of at least this") = 0;

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
	struct event *e;

	if (!latency || latency < min_latency_ns)
		return 0;
	e = event_begin(struct event);
	if (!e)
		return 0;
	e->ts = now;
	e->pid = next->tgid;
	e->tid = next->pid;
	e->latency_ns = latency;
	e->cpu = bpf_get_smp_processor_id();
	e->prev_pid = prev->tgid;
	bpf_probe_read_kernel_str(e->comm, sizeof(e->comm), next->comm);
	bpf_probe_read_kernel_str(e->prev_comm, sizeof(e->prev_comm), prev->comm);
	if (next->pid == next->tgid)
		__builtin_memcpy(e->process_comm, e->comm, sizeof(e->comm));
	else
		bpf_probe_read_kernel_str(e->process_comm, sizeof(e->process_comm), more->group_leader->comm);
	event_end(ctx, e);
	return 0;
}
