// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * References to the last level of the CPUs' caches and misses, by process.
 *
 * The CPU counts, and every so many-th reference and miss runs a function here, which charges them all to the process that
 * runs just then.
 */
#include "aggregate.h"
#include "perf.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	u32 pid DOC("Process; 0: the CPU was idle");
	char comm[16] DOC("Name of the process");
};
struct value {
	u64 references DOC("References to the last-level cache, or what `event` says: of a clock, ns");
	u64 misses DOC("Of these, not answered by it; 0 with an `event` of one's own");
};
AGGREGATE(PERCPU_HASH, cache, struct key, struct value, 10240) DOC("References to the last-level cache and misses by process") TRY("spin");

ACCURACY(
	SEES("references to the last-level cache and misses, as the counters of each CPU have them")
	NOT_SEEN("a CPU that went offline or came online, from then on: named in the summary and in `cpus_not_sampled`")
	NOT_SEEN("machines without these counters, which most virtual machines are: `unsupported`")
	OWNER("the process of the thread that runs when the counter reaches `period`, for all events of the CPU since the last time")
	TIME("none; with a clock as `event`, the numbers are ns")
	EXACT("an estimate in steps of `period`: right in the mean, rough for what is rare")
	VARIANTS("one; with an `event` of its own, `references` counts that and `misses` is 0")
);

TASK_FILTERS();
const volatile enum perf_source event DOC("What to count in place of the cache's references; `auto`: these, and misses") = PERF_AUTO;
const volatile u32 period DOC("Run with every so many-th reference, miss or event; of a clock, ns") = 10000;

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

	if (event != PERF_AUTO) /* `references` has it already */
		return 0;
	value = charged();
	if (value)
		counter_add(&value->misses, ctx->sample_period);
	return 0;
}
