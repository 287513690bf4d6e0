// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counters with both stacks in the key: who calls lseek(). */
#include "aggregate.h"
#include "lseek.h"
#include "stack.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	u32 pid DOC("Process");
	u32 IMAGE_EXE;
	u64 IMAGE_LAYOUT;
	u64 kernel_stack KIND("kernel_stack") DOC("In the kernel");
	u64 user_stack KIND("user_stack") DOC("In the process");
};
struct value {
	u64 calls DOC("Calls");
};
AGGREGATE(PERCPU_HASH, seekers, struct key, struct value, 1024) DOC("Calls by stacks");

TASK_FILTERS();

SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long nr)
{
	u64 id = bpf_get_current_pid_tgid();
	struct value *value;
	struct key key;

	if (nr != NR_LSEEK || !task_passes(id))
		return 0;
	key.pid = id >> 32;
	key.kernel_stack = kernel_stack_id(ctx);
	key.user_stack = user_stack_id(ctx);
	SET_IMAGE(&key);
	value = aggregate(seekers, &key);
	if (value)
		counter_add(&value->calls, 1);
	return 0;
}
