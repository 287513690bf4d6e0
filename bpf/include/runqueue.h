/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How long a task waits for a CPU: from the moment at which it could run (it was woken, it is new, or it had to leave the
 * CPU to another) to the switch to it. Moves from one CPU's queue to another's belong to the wait.
 *
 * Every wakeup and every switch of the machine comes here, so nothing is inserted or deleted per wait, which would take
 * a lock: a thread's entry stays until it ends, and says 0 while the thread does not wait.
 */
#pragma once

#include "sched.h"

/* What these programs have in common in ACCURACY() */
#define RUN_QUEUE_SEES                                                                                          \
	SEES("each wait of a thread that is woken, is new, or has to leave the CPU to another, when it runs")   \
	SEES("a move to another CPU's queue as a part of the wait")
#define RUN_QUEUE_NOT_SEEN                                                                                      \
	NOT_SEEN("threads that wait at the end: counted as `under_way`")                                        \
	NOT_SEEN("waits that began before the capture")                                                         \
	NOT_SEEN("switches that the host hides from every tracer, on some virtual machines one in some thousands; not counted")

/* About the task that waits */
TASK_FILTERS();

INSERT_FAILURES(waiting);
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u32);
	__type(value, u64);
} waiting SEC(".maps") DOC("Threads that ran or waited since the start, and since when those that wait do") IN_FLIGHT("threads waiting for a CPU");

/* The entry of a thread that the filters let through. */
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
	/* It had not left the CPU yet when it was woken: nothing to wait for */
	if (bpf_core_field_exists(more->on_cpu) && more->on_cpu)
		return;
	since = task_rest_passes(task) ? waiting_entry(task->pid) : NULL;
	/* If it was preempted on its way to sleep, it waits already */
	if (since && !*since)
		*since = bpf_ktime_get_ns();
}

/* For sched_switch: how long `next` has waited until `*now`; 0 if it did not, or the filters don't want it. */
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
