// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Off-CPU time of threads, by the stacks at which they left the CPU.
 *
 * The time is added when the thread is switched in again. Its entry in `off_cpu_since` stays until the thread ends, so that
 * no context switch inserts or deletes an entry.
 */
#include "aggregate.h"
#include "sched.h"
#include "stack.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Why a thread left the CPU */
enum off_reason {
	OFF_RUNNABLE,        /* preempted or yielded: it stays on the run queue */
	OFF_INTERRUPTIBLE,   /* it sleeps until an event or a signal */
	OFF_UNINTERRUPTIBLE, /* it sleeps until an event: disk I/O, locks */
	OFF_OTHER,           /* stopped, traced, parked */
	OFF_IDLE,            /* a kernel worker without work */
};

struct key {
	u32 pid DOC("Process ID");
	char comm[16] DOC("Name of the thread");
	char process_comm[16] DOC("Name of the process");
	u32 IMAGE_EXE;
	u64 IMAGE_LAYOUT;
	u64 kernel_stack KIND("kernel_stack") DOC("Kernel stack at which the thread left the CPU");
	u64 user_stack KIND("user_stack") DOC("User stack at which the thread left the CPU; empty with `user_stacks: false`");
};
struct value {
	u64 total_ns UNIT("ns") DOC("Total off-CPU time"); /* first: `top` is by time */
	u64 count KIND("events") DOC("Number of off-CPU periods that ended");
};
AGGREGATE(HASH, off_cpu, struct key, struct value, 16384) DOC("Off-CPU time by process, thread name and stacks") TRY("sleep");

ACCURACY(
	SEES("each time that a thread leaves the CPU and runs again, with the stacks at which it left")
	NOT_SEEN("threads that are still off the CPU at the end: counted as `in_flight`")
	NOT_SEEN("threads that left the CPU before the capture began")
	NOT_SEEN("context switches that the host hides from every tracer, on some virtual machines one in some thousands; not counted")
	OWNER("the thread that left the CPU; filters and names are those of that moment")
	TIME("`total_ns`: from the context switch away from the thread to the one back to it, with its time in the run queue")
	EXACT("times and counts of the context switches that were seen")
	EXACT("user stacks need frame pointers: without them only the innermost function is reliable")
	VARIANTS("one")
);

TASK_FILTERS();
FILTER(enum off_reason, reason, 5) DOC("Only off-CPU periods with these reasons: `runnable` was preempted or yielded, `uninterruptible` waits for a disk or a lock, `idle` is a kernel worker without work") = {};
const volatile u64 min_block_ns UNIT("ns") DOC("Only off-CPU periods of at least this") = 0;
const volatile u64 max_block_ns UNIT("ns") DOC("Only off-CPU periods of at most this") = ~0ULL;
const volatile bool user_stacks DOC("true: user stacks are captured too") = true;

struct absence {
	u64 since; /* 0: it has the CPU */
	struct key key;
};

INSERT_FAILURES(off_cpu_since);
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u32);
	__type(value, struct absence);
} off_cpu_since SEC(".maps") DOC("Threads that left the CPU since the start, with the time at which those off the CPU left it") IN_FLIGHT("threads off the CPU");

static __always_inline enum off_reason reason_of(bool preempt, struct task_struct *task)
{
	u32 state = state_of(task);

	if (still_runnable(preempt, task))
		return OFF_RUNNABLE;
	if (state & STATE_INTERRUPTIBLE)
		return OFF_INTERRUPTIBLE;
	if (state & STATE_NOLOAD)
		return OFF_IDLE;
	return state & STATE_UNINTERRUPTIBLE ? OFF_UNINTERRUPTIBLE : OFF_OTHER;
}

/* `task`, which is still the current one, leaves the CPU. */
static __always_inline void leave(void *ctx, bool preempt, struct task_struct *task)
{
	u32 thread = task->pid;
	struct absence absence = {}, *entry;

	if (!thread || !task_number_passes(task))
		return;
	if (state_of(task) & STATE_DEAD) {
		bpf_map_delete_elem(&off_cpu_since, &thread);
		return;
	}
	if (!filter_passes(reason, reason_of(preempt, task)) || !task_passes(bpf_get_current_pid_tgid()))
		return;
	absence.key.pid = task->tgid;
	bpf_get_current_comm(absence.key.comm, sizeof(absence.key.comm));
	process_name_or(&absence.key.process_comm, task, task->tgid == thread, absence.key.comm);
	absence.key.kernel_stack = kernel_stack_id(ctx);
	absence.key.user_stack = user_stacks ? user_stack_id(ctx) : STACK_NONE;
	SET_IMAGE(&absence.key);
	absence.since = bpf_ktime_get_ns();
	entry = bpf_map_lookup_elem(&off_cpu_since, &thread);
	if (entry)
		*entry = absence;
	else if (bpf_map_update_elem(&off_cpu_since, &thread, &absence, BPF_ANY))
		lost_map_full(off_cpu_since);
}

static __always_inline void come_back(struct task_struct *task)
{
	u32 thread = task->pid;
	struct absence *absence;
	struct value *value;
	struct key key;
	u64 took;

	if (!thread || !task_number_passes(task))
		return;
	absence = bpf_map_lookup_elem(&off_cpu_since, &thread);
	if (!absence || !absence->since)
		return;
	took = bpf_ktime_get_ns() - absence->since;
	absence->since = 0;
	if (took < min_block_ns || took > max_block_ns)
		return;
	key = absence->key;
	value = aggregate(off_cpu, &key);
	if (!value)
		return;
	counter_add(&value->count, 1);
	counter_add(&value->total_ns, took);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(task_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	leave(ctx, preempt, prev);
	come_back(next);
	return 0;
}
