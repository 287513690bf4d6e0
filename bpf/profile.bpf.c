// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What the CPUs are busy with: stacks, taken many times a second on every CPU. */
#include "aggregate.h"
#include "perf.h"
#include "stack.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	u32 pid DOC("Process; 0: the CPU was idle");
	char comm[16] DOC("Name of the thread");
	char process_comm[16] DOC("Name of the process");
	u32 IMAGE_EXE;
	u64 IMAGE_LAYOUT;
	u64 kernel_stack KIND("kernel_stack") DOC("Where it was in the kernel, if it was there");
	u64 user_stack KIND("user_stack") DOC("Where it was in the process, unless `user_stacks: false`");
};
struct value {
	u64 samples KIND("events") DOC("How often it was found there");
};
AGGREGATE(HASH, found, struct key, struct value, 16384) DOC("Samples of what runs, by process and stacks") TRY("spin");

ACCURACY(
	SEES("what runs on each CPU, about `frequency` times a second")
	NOT_SEEN("a CPU that went offline or came online, from then on: named in the summary and in `cpus_not_sampled`")
	NOT_SEEN("idle CPUs without `idle: true`")
	OWNER("the thread that runs at the sample")
	TIME("none: samples divided by `frequency` are an estimate of the time on a CPU")
	EXACT("`samples` counts each sample; what runs between two samples is not seen")
	EXACT("user stacks need frame pointers: without them the innermost function is right, others may not be")
	VARIANTS("one; `event: auto` takes CPU cycles, or `cpu_clock` where the machine does not count them (`fallback`)")
);

TASK_FILTERS();
const volatile enum perf_source event DOC("What to sample by; `auto`: CPU cycles, or the clock where the machine does not count cycles") = PERF_AUTO;
const volatile u32 frequency_hz UNIT("Hz") DOC("How often a second, on each CPU") = 99;
const volatile bool user_stacks DOC("Whether processes' own stacks are taken too") = true;
const volatile bool idle DOC("Whether CPUs that have nothing to do are sampled too") = false;

SEC("perf_event")
PERF_EVENT("cycles|cpu_clock", "event", "frequency_hz")
int sample(struct bpf_perf_event_data *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct key key = {.pid = id >> 32};
	struct value *value;

	if ((!idle && !(u32)id) || !task_passes(id))
		return 0;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	process_name_or(&key.process_comm, (struct task_struct *)bpf_get_current_task(), id >> 32 == (u32)id, key.comm);
	key.kernel_stack = kernel_stack_id(ctx);
	key.user_stack = user_stacks ? user_stack_id(ctx) : STACK_NONE;
	SET_IMAGE(&key);
	value = aggregate(found, &key);
	if (value)
		counter_add(&value->samples, 1);
	return 0;
}
