/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls that have not returned at the end of the window, for programs that hook only the return: the runner then
 * runs the program's function in SEC("iter/task") for each thread.
 *
 *	UNDER_WAY("opens not returned");
 *
 *	SEC("iter/task")
 *	int not_returned(struct bpf_iter__task *ctx)
 *	{
 *		struct call_of_thread call;
 *
 *		if (find_call(&call, ctx->task) && ... call.nr ... && task_passes_other(ctx->task))
 *			count_under_way(under_way, ctx->task);
 *		return 0;
 *	}
 */
#pragma once

#include "syscall.h"
#include "task.h"

#define UNDER_WAY(what)                                            \
	struct {                                                   \
		__uint(type, BPF_MAP_TYPE_HASH);                   \
		__uint(max_entries, 4096);                         \
		__type(key, u64);                                  \
		__type(value, u64);                                \
	} under_way SEC(".maps") DOC("Calls that have not returned at the end") IN_FLIGHT(what); \
	INSERT_FAILURES(under_way)

/* kernel/bpf/task_iter.c */
struct bpf_iter_meta;
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task; /* NULL at the end */
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* include/linux/sched.h */
struct task_struct___stack {
	void *stack;
	unsigned int on_cpu; /* as in sched.h */
};
#pragma clang attribute pop

/* The system call that a thread is in. */
struct call_of_thread {
	s32 nr;
	bool compat;
};

#define PF_EXITING 0x4 /* include/linux/sched.h */
#define PF_KTHREAD 0x00200000
#define STACK_SIZE 16384 /* THREAD_SIZE, without KASAN and with pages of 4 KiB */

/* Returns false if `task` is in no call. */
static __always_inline bool find_call(struct call_of_thread *call, struct task_struct *task)
{
	struct task_struct___stack *more = (void *)task;
	struct task_struct___call *state = (void *)task;
	struct pt_regs *regs;

	if (!task || task->flags & (PF_EXITING | PF_KTHREAD))
		return false;
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		regs = (void *)bpf_task_pt_regs(task);
	else
		regs = BPF_CORE_READ(more, stack) + STACK_SIZE - bpf_core_type_size(struct pt_regs);
#if defined(__TARGET_ARCH_x86)
	/* Until a call returns, its result is -ENOSYS; outside of a call the number is -1 */
	if ((s64)BPF_CORE_READ(regs, ax) != -ENOSYS)
		return false;
	call->nr = BPF_CORE_READ(regs, orig_ax);
	call->compat = BPF_CORE_READ(state, thread_info.status) & 2; /* TS_COMPAT */
#else
	/* A thread that is on a CPU may be back in user space */
	if (bpf_core_field_exists(more->on_cpu) && BPF_CORE_READ(more, on_cpu))
		return false;
	call->nr = BPF_CORE_READ(regs, syscallno);
	call->compat = BPF_CORE_READ(regs, pstate) & 0x10; /* PSR_MODE32_BIT */
#endif
	return call->nr >= 0;
}

/* Counts the call of `task` as under way, in a map with IN_FLIGHT(). `value` begins with a u64 that is not 0. */
#define count_under_way(map, task, value)                          \
	({                                                         \
		u64 __thread_of_call = (u64)(task);                \
		if (bpf_map_update_elem(&(map), &__thread_of_call, value, BPF_ANY)) \
			__sync_fetch_and_add(&insert_failures_##map, 1);   \
	})
