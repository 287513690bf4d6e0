// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What the CPUs run: stacks, sampled many times a second on every CPU. */
#include "aggregate.h"
#include "perf.h"
#include "stack.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	u32 pid DOC("Process ID; 0: the CPU was idle");
	char comm[16] DOC("Name of the thread");
	char process_comm[16] DOC("Name of the process");
	u32 IMAGE_EXE;
	u64 IMAGE_LAYOUT;
	u64 kernel_stack KIND("kernel_stack") DOC("Kernel stack at the sample; empty if the thread was in user space");
	u64 user_stack KIND("user_stack") DOC("User stack at the sample; empty with `user_stacks: false`");
};
struct value {
	u64 samples KIND("events") DOC("Number of samples");
};
AGGREGATE(HASH, found, struct key, struct value, 16384) DOC("Samples of the running threads, by process, thread name and stacks") TRY("spin");

ACCURACY(
	SEES("the thread that runs on each CPU, about `frequency` times a second")
	NOT_SEEN("a CPU that goes offline or online, from then on: it is in the summary and in `cpus_not_sampled`")
	NOT_SEEN("without `idle: true`: idle CPUs")
	OWNER("the thread that runs at the sample")
	TIME("none: `samples` divided by `frequency` is an estimate of the CPU time in seconds")
	EXACT("`samples` counts each sample; threads that run only between two samples are not seen")
	EXACT("user stacks need frame pointers: without them only the innermost function is reliable")
	VARIANTS("one; `event: auto` is CPU cycles, or `cpu_clock` if the machine does not count cycles (`fallback`)")
);

TASK_FILTERS();
const volatile enum perf_source event DOC("Event to sample by; `auto`: CPU cycles, or the CPU clock if the machine does not count cycles") = PERF_AUTO;
const volatile u32 frequency_hz UNIT("Hz") DOC("Samples per second on each CPU") = 99;
const volatile bool user_stacks DOC("true: user stacks are captured too") = true;
const volatile bool idle DOC("true: idle CPUs are sampled too") = false;

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
