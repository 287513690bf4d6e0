// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Alternatives that no kernel has a place for. */
#include "filter.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts KIND("ktime") DOC("When it happened");
} DOC("Never seen");
EVENT(event);

SEC("fentry/no_such_function")
ALTERNATIVE("nothing", "fentry")
int BPF_PROG(by_fentry)
{
	return 0;
}

SEC("kprobe/no_such_function")
ALTERNATIVE("nothing", "kprobe")
int by_kprobe(void *ctx)
{
	return 0;
}

SEC("tracepoint/sched/no_such_tracepoint")
ALTERNATIVE("nothing", "tracepoint")
int by_tracepoint(void *ctx)
{
	return 0;
}

SEC("raw_tp/no_such_tracepoint")
ALTERNATIVE("nothing", "raw_tp")
int by_raw_tp(void *ctx)
{
	return 0;
}
