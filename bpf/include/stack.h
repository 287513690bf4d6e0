/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stacks as parts of an aggregate's key:
 *
 *	struct key { u32 pid DOC("..."); s32 kernel_stack AS("kernel_stack") DOC("..."); s32 user_stack AS("user_stack") DOC("..."); };
 *	key.kernel_stack = kernel_stack_id(ctx);
 *
 * The runner turns the number into a list of symbols. A user stack needs the member `pid` beside it.
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
