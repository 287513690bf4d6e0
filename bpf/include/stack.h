/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stacks as parts of an aggregate's key:
 *
 *	struct key { u32 pid DOC("..."); s32 kernel_stack AS("kernel_stack") DOC("..."); s32 user_stack AS("user_stack") DOC("...");
 *		     IMAGE_MEMBERS; };
 *	key.kernel_stack = kernel_stack_id(ctx);
 *	key.user_stack = user_stack_id(ctx);
 *	SET_IMAGE(&key);
 *
 * The runner turns the number into a list of symbols. A user stack needs the member `pid` beside it, and the members by
 * which the runner knows whether the process still runs the program that the addresses are of.
 */
#pragma once

#include "filter.h"

#define STACK_FRAMES 127 /* kernel.perf_event_max_stack */

REFUSALS(stacks);
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(u32));
	__uint(value_size, STACK_FRAMES * sizeof(u64));
} stacks SEC(".maps") DOC("Stacks that were seen");

/* What stands for a stack that was not kept, because the map is full or another stack has its place. */
#define STACK_LOST (-17) /* -EEXIST */
/* There is none: a kernel thread has no user stack. */
#define STACK_NONE (-14) /* -EFAULT */

static __always_inline s32 runner_stack(void *ctx, u64 flags)
{
	long id = bpf_get_stackid(ctx, &stacks, flags);

	if (id >= 0 || id == STACK_NONE)
		return id;
	__sync_fetch_and_add(&refused_stacks, 1);
	return STACK_LOST;
}

static __always_inline s32 kernel_stack_id(void *ctx)
{
	return runner_stack(ctx, 0);
}

static __always_inline s32 user_stack_id(void *ctx)
{
	return runner_stack(ctx, 1 << 8); /* BPF_F_USER_STACK */
}

/* Not fields of a row. `image_exe` comes first, so that the two fill up a key of an odd number of u32. */
#define IMAGE_MEMBERS                     \
	u32 image_exe AS("image_exe");    \
	u64 image_layout AS("image_layout")

#define IMAGE_MIX(hash, word)                                               \
	do {                                                                \
		(hash) = ((hash) ^ (word)) * 0x9e3779b97f4a7c15ULL;         \
		(hash) ^= (hash) >> 32;                                     \
	} while (0)

/*
 * Tells one execution of a process from another by what /proc/PID/stat shows as well (src/symbols/helper/process.rs): the
 * start, in hundredths of a second, and where code and stack begin, which the kernel makes anew for each execution.
 */
static __always_inline u64 image_layout(struct task_struct *task, struct mm_struct *mm)
{
	u64 hash = 0;

	IMAGE_MIX(hash, BPF_CORE_READ(task, group_leader, start_boottime) / 10000000);
	IMAGE_MIX(hash, BPF_CORE_READ(mm, start_code));
	IMAGE_MIX(hash, BPF_CORE_READ(mm, end_code));
	IMAGE_MIX(hash, BPF_CORE_READ(mm, start_stack));
	return hash;
}

/* Of the current task; only where it has a user stack. */
#define SET_IMAGE(key)                                                                              \
	do {                                                                                        \
		struct task_struct *__task = (struct task_struct *)bpf_get_current_task();          \
		struct mm_struct *__mm = (key)->user_stack == STACK_NONE ? NULL : BPF_CORE_READ(__task, mm); \
		(key)->image_exe = 0;                                                               \
		(key)->image_layout = 0;                                                            \
		if (__mm) {                                                                         \
			struct file___image *__exe = (void *)BPF_CORE_READ(__mm, exe_file);         \
			(key)->image_exe = BPF_CORE_READ(__exe, f_inode, i_ino);                    \
			(key)->image_layout = image_layout(__task, __mm);                           \
		}                                                                                   \
	} while (0)
