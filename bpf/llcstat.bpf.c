// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * References to the last-level cache of the CPUs and misses, by process.
 *
 * The CPU counts. After each `period` references or misses it runs a function here, which attributes all of them to the
 * current process.
 */
#include "aggregate.h"
#include "perf.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	u32 pid DOC("Process ID; 0: the CPU was idle");
	char comm[16] DOC("Name of the process");
};
struct value {
	u64 references DOC("References to the last-level cache, or the count of `event` (of a clock: ns)");
	u64 misses DOC("Misses among these references; 0 with an `event` other than `auto`");
};
AGGREGATE(PERCPU_HASH, cache, struct key, struct value, 10240) DOC("References to the last-level cache and misses, by process") TRY("spin");

ACCURACY(
	SEES("references to the last-level cache and misses, as each CPU counts them")
	NOT_SEEN("a CPU that goes offline or online, from then on: it is in the summary and in `cpus_not_sampled`")
	NOT_SEEN("machines without these counters, as most virtual machines: verdict `unsupported`")
	OWNER("the process that runs when the counter reaches `period`, for all events of the CPU since the last time")
	TIME("none; with a clock as `event`, the numbers are ns")
	EXACT("an estimate in steps of `period`: right on average, imprecise for processes with few events")
	VARIANTS("one; with an `event` other than `auto`, `references` counts that event and `misses` is 0")
);

TASK_FILTERS();
const volatile enum perf_source event DOC("Event to count; `auto`: references to the last-level cache, and misses") = PERF_AUTO;
const volatile u32 period DOC("Number of references, misses or events between two samples; of a clock: ns") = 10000;

static __always_inline struct value *charged(void)
{
	u64 id = bpf_get_current_pid_tgid();
	struct key key = {.pid = id >> 32};

	if (!task_passes(id))
		return NULL;
	current_process_name(&key.comm, id);
	return aggregate(cache, &key);
}

SEC("perf_event")
PERF_EVENT("cache_references", "event", "period")
int referenced(struct bpf_perf_event_data *ctx)
{
	struct value *value = charged();

	if (value)
		counter_add(&value->references, ctx->sample_period);
	return 0;
}

SEC("perf_event")
PERF_EVENT("cache_misses", "event", "period")
int missed(struct bpf_perf_event_data *ctx)
{
	struct value *value;

	if (event != PERF_AUTO) /* `references` already counts this event */
		return 0;
	value = charged();
	if (value)
		counter_add(&value->misses, ctx->sample_period);
	return 0;
}
