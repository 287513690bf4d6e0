// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Histograms in an array, by what a test asks for: offsets of lseek() by what they count from. */
#include "aggregate.h"
#include "lseek.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum whence {
	WHENCE_SET,
	WHENCE_CUR,
	WHENCE_END,
};

struct key {
	enum whence whence DOC("What the offset counts from");
};
struct value {
	struct runner_hist offset_bytes UNIT("bytes") DOC("Offset");
};
AGGREGATE(ARRAY, spreads, struct key, struct value, 3) DOC("Offsets of seeks");

TASK_FILTERS();

SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long nr)
{
	struct value *value;
	struct key key;

	if (nr != NR_LSEEK || !task_passes(bpf_get_current_pid_tgid()))
		return 0;
	key.whence = SYSCALL_ARG3(regs, false);
	value = aggregate(spreads, &key);
	if (value)
		hist_add(&value->offset_bytes, SYSCALL_ARG2(regs, false));
	return 0;
}
