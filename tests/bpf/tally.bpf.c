// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counters in a hash, by what a test asks for: calls of lseek() by their offset. */
#include "aggregate.h"
#include "lseek.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	u64 offset DOC("Where to");
};
struct value {
	u64 calls KIND("events") DOC("Calls");
	u64 total_bytes UNIT("bytes") DOC("All offsets together");
};
AGGREGATE(HASH, tallies, struct key, struct value, 1024) DOC("Calls by offset");

TASK_FILTERS();

SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long nr)
{
	struct value *value;
	struct key key;

	if (nr != NR_LSEEK || !task_passes(bpf_get_current_pid_tgid()))
		return 0;
	key.offset = SYSCALL_ARG2(regs, false);
	value = aggregate(tallies, &key);
	if (!value)
		return 0;
	counter_add(&value->calls, 1);
	counter_add(&value->total_bytes, key.offset);
	return 0;
}
