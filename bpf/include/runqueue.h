/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Run queue latency: how long a thread waits for a CPU, from the moment at which it can run (it was woken, is new, was
 * preempted or yielded) to the context switch to it. Moves between the run queues of CPUs are part of the wait.
 *
 * Every wakeup and every context switch of the host runs this code. An insert or delete per wait would take a lock, so a
 * thread's entry stays until the thread ends, and is 0 while the thread does not wait.
 */
#pragma once

#include "sched.h"

/* What these programs have in common in ACCURACY() */
#define RUN_QUEUE_SEES                                                                                          \
	SEES("each wait of a thread that is woken, is new, was preempted or yielded; when the thread runs")   \
	SEES("a move to another CPU's run queue, as part of the wait")
#define RUN_QUEUE_NOT_SEEN                                                                                      \
	NOT_SEEN("threads that wait at the end: counted as `in_flight`")                                        \
	NOT_SEEN("waits that began before the capture")                                                         \
	NOT_SEEN("context switches that the host hides from every tracer, on some virtual machines one in some thousands; not counted")

/* On the thread that waits */
TASK_FILTERS();

INSERT_FAILURES(waiting);
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u32);
	__type(value, u64);
} waiting SEC(".maps") DOC("Threads that ran or waited since the start, with the start of the wait of those that wait") IN_FLIGHT("threads waiting for a CPU");

/* The entry of a thread that passes the filters. */
static __always_inline u64 *waiting_entry(u32 thread)
{
	u64 *since = bpf_map_lookup_elem(&waiting, &thread);
	u64 not_yet = 0;

	if (since)
		return since;
	bpf_map_update_elem(&waiting, &thread, &not_yet, BPF_NOEXIST);
	since = bpf_map_lookup_elem(&waiting, &thread);
	if (!since)
		lost_map_full(waiting);
	return since;
}

/* For sched_wakeup and sched_wakeup_new. */
static __always_inline void woken(struct task_struct *task)
{
	struct task_struct___sched *more = (void *)task;
	u64 *since;

	if (!task_number_passes(task))
		return;
	/* It was woken before it had left the CPU: there is no wait */
	if (bpf_core_field_exists(more->on_cpu) && more->on_cpu)
		return;
	since = task_rest_passes(task) ? waiting_entry(task->pid) : NULL;
	/* If it was preempted on its way to sleep, it is already waiting */
	if (since && !*since)
		*since = bpf_ktime_get_ns();
}

/* For sched_switch: how long `next` has waited until `*now`; 0 if it did not wait or does not pass the filters. */
static __always_inline u64 switched(bool preempt, struct task_struct *prev, struct task_struct *next, u64 *now)
{
	u32 thread = prev->pid;
	u64 *since, start;

	*now = 0;
	if (thread && task_number_passes(prev)) {
		if (still_runnable(preempt, prev)) {
			since = task_rest_passes(prev) ? waiting_entry(thread) : NULL;
			if (since)
				*since = *now = bpf_ktime_get_ns();
		} else if (state_of(prev) & STATE_DEAD) {
			bpf_map_delete_elem(&waiting, &thread);
		}
	}
	thread = next->pid;
	if (!thread || !task_number_passes(next))
		return 0;
	since = bpf_map_lookup_elem(&waiting, &thread);
	if (!since || !*since)
		return 0;
	start = *since;
	*since = 0;
	if (!*now)
		*now = bpf_ktime_get_ns();
	return *now - start;
}
