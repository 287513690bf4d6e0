/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shared by programs on the scheduler. All of it is for tasks that are arguments of a tp_btf program: their members are
 * read without a helper call.
 */
#pragma once

#include "task.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* include/linux/sched.h */
struct task_struct___sched {
	unsigned int on_cpu; /* int; u8 in 7.3, and libbpf makes no signed one shorter. Only with CONFIG_SMP, until 6.17 */
	struct task_struct *group_leader;
};
#pragma clang attribute pop

/* include/linux/sched.h, values that are the same in all kernels from 5.10 on */
#define STATE_RUNNING 0
#define STATE_INTERRUPTIBLE 1
#define STATE_UNINTERRUPTIBLE 2
#define STATE_DEAD 0x80
#define STATE_NOLOAD 0x400 /* with the one above: TASK_IDLE, a kernel worker without work */

static __always_inline u32 state_of(struct task_struct *task)
{
	struct task_struct___with_state *old = (void *)task;

	return bpf_core_field_exists(task->__state) ? task->__state : old->state;
}

/*
 * Whether `prev` of sched_switch is still on the run queue: it was preempted or yielded. That includes a thread that was preempted on
 * its way to sleep, with its state already set.
 */
static __always_inline bool still_runnable(bool preempt, struct task_struct *prev)
{
	return preempt || state_of(prev) == STATE_RUNNING;
}

/* The filters on a task in two halves: those that need a few instructions, for hooks that run at every context switch, ... */
#define task_number_passes(task) \
	(!is_runner_task(task, (task)->tgid) && filter_passes(pid, (u32)(task)->tgid) && filter_passes(tid, (u32)(task)->pid))

/* ... and the rest. */
#define task_rest_passes(task) \
	(!(uid.n || comm.n || process_comm.n || cgroup.n || unit.n) || task_passes_other(task))
