/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stacks as parts of an aggregate's key:
 *
 *	struct key { u32 pid DOC("..."); u32 IMAGE_EXE; u64 IMAGE_LAYOUT;
 *		     u64 kernel_stack KIND("kernel_stack") DOC("..."); u64 user_stack KIND("user_stack") DOC("..."); };
 *	key.kernel_stack = kernel_stack_id(ctx);
 *	key.user_stack = user_stack_id(ctx);
 *	SET_IMAGE(&key);
 *
 * The runner resolves the number to a list of symbols. A user stack needs the member `pid` beside it, and the IMAGE members:
 * by these the runner finds out whether the process still runs the program that the addresses belong to.
 */
#pragma once

#include "aggregate.h"

#define STACK_FRAMES 127 /* fewer where kernel.perf_event_max_stack is less */

struct runner_stack {
	u64 frames[STACK_FRAMES]; /* the innermost first, zeros after the last */
};

/*
 * Stacks by a hash of their frames. A BPF_MAP_TYPE_STACK_TRACE would be simpler, but it keeps one stack for each slot: it
 * refuses a fifth of the stacks when it is half full, and can't be created if kernel.perf_event_max_stack is below its
 * default.
 */
INSERT_FAILURES(stacks);
struct stacks_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct runner_stack);
};
struct stacks_map stacks_first SEC(".maps") INTERNAL;
RUNNER_NOW(stacks, struct stacks_map, stacks_first);
struct stacks_map stacks SEC(".maps") DOC("Stacks that were captured; with an `interval`: since the last snapshot");
/* Scratch space for a stack, which is too large for the program's own stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct runner_stack);
} stack_scratch SEC(".maps");

/* Random, so that no process can construct stacks whose hash is that of another process's stack. */
const volatile u64 runner_seed INTERNAL = 0;

/* No stack: a kernel thread has no user stack. */
#define STACK_NONE 0ULL
/* A stack that was not kept, because the map is full. */
#define STACK_LOST 1ULL

#define STACK_MIX(hash, word)                                               \
	do {                                                                \
		(hash) = ((hash) ^ (word)) * 0x9e3779b97f4a7c15ULL;         \
		(hash) ^= (hash) >> 32;                                     \
	} while (0)

static __always_inline u64 runner_keep_stack(void *map, struct runner_stack *stack, u64 hash)
{
	if (!map)
		return STACK_LOST; /* never: one of the two is always named */
	if (bpf_map_lookup_elem(map, &hash))
		return hash;
	/* Another CPU may have been first */
	if (!bpf_map_update_elem(map, &hash, stack, BPF_NOEXIST) || bpf_map_lookup_elem(map, &hash))
		return hash;
	__sync_fetch_and_add(&insert_failures_stacks, 1);
	return STACK_LOST;
}

static __always_inline u64 runner_stack(void *ctx, u64 flags)
{
	u32 zero = 0;
	struct runner_stack *stack = bpf_map_lookup_elem(&stack_scratch, &zero);
	u64 hash = runner_seed;
	long bytes;

	if (!stack)
		return STACK_NONE;
	bytes = bpf_get_stack(ctx, stack, sizeof(*stack), flags);
	if (bytes <= 0)
		return STACK_NONE;
	for (u32 i = 0; i < STACK_FRAMES; i++) {
		if (!stack->frames[i])
			break;
		STACK_MIX(hash, stack->frames[i]);
	}
	if (hash <= STACK_LOST)
		hash = STACK_LOST + 1;
	return runner_swap ? runner_keep_stack(runner_now(&stacks_now), stack, hash) : runner_keep_stack(&stacks, stack, hash);
}

static __always_inline u64 kernel_stack_id(void *ctx)
{
	return runner_stack(ctx, 0);
}

static __always_inline u64 user_stack_id(void *ctx)
{
	return runner_stack(ctx, 1 << 8); /* BPF_F_USER_STACK */
}

/* Members that are not fields of a row. */
#define IMAGE_EXE image_exe KIND("image_exe")
#define IMAGE_LAYOUT image_layout KIND("image_layout")

enum bpf_func_id___stack {
	BPF_FUNC_get_current_task_btf___stack = 158, /* since 5.11 (3ca1032ab7ab) */
};

/*
 * Distinguishes executions of a process by values that /proc/PID/stat shows too (src/symbols/helper/process.rs): the start
 * time, in hundredths of a second, and the addresses of code and stack, which the kernel chooses for each execution.
 */
static __always_inline u64 image_hash(u64 start_boottime, u64 start_code, u64 end_code, u64 start_stack)
{
	u64 hash = 0;

	STACK_MIX(hash, start_boottime / 10000000);
	STACK_MIX(hash, start_code);
	STACK_MIX(hash, end_code);
	STACK_MIX(hash, start_stack);
	return hash;
}

/* Of the current task, if it has a user stack. Pointers that the verifier knows are read without a helper call. */
#define SET_IMAGE(key)                                                                                       \
	do {                                                                                                 \
		(key)->image_exe = 0;                                                                        \
		(key)->image_layout = 0;                                                                     \
		if ((key)->user_stack == STACK_NONE)                                                         \
			break;                                                                               \
		if (bpf_core_enum_value_exists(enum bpf_func_id___stack, BPF_FUNC_get_current_task_btf___stack)) { \
			struct task_struct *__task = bpf_get_current_task_btf();                             \
			struct mm_struct *__mm = __task->mm;                                                 \
			if (!__mm)                                                                           \
				break;                                                                       \
			(key)->image_exe = ((struct file___image *)__mm->exe_file)->f_inode->i_ino;          \
			(key)->image_layout = image_hash(__task->group_leader->start_boottime, __mm->start_code, \
							 __mm->end_code, __mm->start_stack);                 \
		} else {                                                                                     \
			struct task_struct *__task = (struct task_struct *)bpf_get_current_task();           \
			struct mm_struct *__mm = BPF_CORE_READ(__task, mm);                                  \
			struct file___image *__exe;                                                          \
			if (!__mm)                                                                           \
				break;                                                                       \
			__exe = (void *)BPF_CORE_READ(__mm, exe_file);                                       \
			(key)->image_exe = BPF_CORE_READ(__exe, f_inode, i_ino);                             \
			(key)->image_layout = image_hash(BPF_CORE_READ(__task, group_leader, start_boottime), \
							 BPF_CORE_READ(__mm, start_code), BPF_CORE_READ(__mm, end_code), \
							 BPF_CORE_READ(__mm, start_stack));                  \
		}                                                                                            \
	} while (0)
