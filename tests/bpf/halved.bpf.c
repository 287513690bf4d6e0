// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Loses every second event without counting it: what `doctor --try` has to find out. */
#include "filter.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts KIND("ktime") DOC("When it was sent");
} DOC("Every second signal") TRY("signal");
EVENT(event);

FILTER(u32, pid, 16) DOC("Only these processes") = {};

u64 signals INTERNAL = 0;

SEC("tp_btf/signal_generate")
int BPF_PROG(signal_sent)
{
	struct event *e;

	if (!filter_passes(pid, bpf_get_current_pid_tgid() >> 32) || signals++ % 2)
		return 0;
	e = event_begin(struct event);
	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	event_end(ctx, e);
	return 0;
}
