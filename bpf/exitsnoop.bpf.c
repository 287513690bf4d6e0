// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per process that ends, or with `threads: true` per thread.
 *
 * A process ends with its last thread. That need not be its first thread, which can have ended long before. Code and
 * signal are those that the parent gets: of exit_group() or of the signal that ended all threads, otherwise of the first
 * thread.
 */
#include "process.h"
#include "signals.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts KIND("ktime") DOC("Time at which the process or thread ended");
	u32 pid DOC("Process ID");
	u32 tid DOC("Thread ID; of a whole process: its first thread");
	u32 ppid DOC("Process ID of the parent");
	u32 uid DOC("Real user ID of the process");
	char comm[16] DOC("Name of the thread; of a whole process: of its first thread, as ps shows it");
	u64 age_ns UNIT("ns") DOC("Time since the process or thread was started");
	u32 exit_code DOC("Exit code, 0 to 255; 0 if a signal ended it");
	enum signal signal DOC("Signal that ended it, or `none`");
	bool core_dumped DOC("Whether a core was dumped");
	char process_comm[16] DOC("Name of the process; with `threads: true` it can differ from `comm`");
} DOC("A process that ended, or a thread with `threads: true`") TRY("exit");
EVENT(event);

ACCURACY(
	SEES("every process, when its last thread ends; with `threads: true` every thread")
	NOT_SEEN("without `threads: true`: the ends of single threads")
	NOT_SEEN("the moment at which the parent reaps the process: until then it is a zombie")
	OWNER("the process that ends: `comm`, `tid` and `age_ns` are its first thread's, user and cgroup its last thread's")
	OWNER("with `threads: true`: the thread that ends; `process_comm` is the name of its process")
	TIME("`ts`: the end of the last thread; `age_ns`: since the first thread was started")
	EXACT("one event for a process; code and signal are those that its parent gets")
	VARIANTS("one; before 6.16, threads that end at the same moment all look like the last one: the first that is seen is taken")
);

/* On the process, with the name of its first thread, as ps shows it; with `threads: true` on the thread */
TASK_FILTERS();
const volatile bool threads DOC("true: one event per thread, not per process") = false;
FILTER(bool, failed, 1) DOC("true: only exits with a code other than 0 or by a signal; false: only exits with code 0") = {};
FILTER(enum signal, signal, 8) DOC("Only processes or threads that these signals ended; `none`: that no signal ended") = {};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* include/trace/events/sched.h: since 6.16 an argument of the tracepoint is whether the thread is the last one. BTF has the
 * members of the tracepoint's record, which are the same as its arguments. */
struct trace_event_raw_sched_process_exit {
	bool group_dead;
};
#pragma clang attribute pop

/* Before 6.16, each of several threads that end together sees that no thread is left: the first that gets here counts. LRU:
 * an entry matters only until these threads have ended. */
struct first_thread {
	u64 task;
	u64 start;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct first_thread);
	__type(value, u8);
} ended SEC(".maps") DOC("Processes that have just ended (kernels before 6.16)");
INSERT_FAILURES(ended);

#define EEXIST 17

static __always_inline bool is_last(u64 *ctx, struct task_struct *task, struct task_struct *first)
{
	struct trace_event_raw_sched_process_exit *record = NULL;
	struct first_thread key = { .task = (u64)first, .start = BPF_CORE_READ(first, start_time) };
	u8 yes = 1;

	if (bpf_core_field_exists(record->group_dead))
		return (bool)ctx[1];
	if (BPF_CORE_READ(process_of(task), signal, live.counter))
		return false;
	/* An int: before 6.4 the kernel calls the map's own function here, and that leaves the upper half of an error zero */
	return (int)bpf_map_update_elem(&ended, &key, &yes, BPF_NOEXIST) != -EEXIST;
}

static __always_inline int code_of(struct task_struct *task, struct task_struct *first)
{
	struct signal_struct *all = BPF_CORE_READ(process_of(task), signal);

	if (!threads && BPF_CORE_READ(all, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(all, group_exit_code);
	return BPF_CORE_READ(first, exit_code);
}

SEC("tp_btf/sched_process_exit")
int process_exit(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0], *about = task;
	struct event *e;
	u64 now;
	int code;

	if (!threads) {
		about = BPF_CORE_READ(process_of(task), group_leader);
		if (!is_last(ctx, task, about))
			return 0;
	}
	code = code_of(task, about);
	if (!filter_passes(failed, code != 0) || !filter_passes(signal, (enum signal)(code & 0x7f)))
		return 0;
	if (!(threads ? task_passes_other(task) : process_passes(task)))
		return 0;
	e = event_begin(struct event);
	if (!e)
		return 0;
	now = bpf_ktime_get_ns();
	e->ts = now;
	e->pid = BPF_CORE_READ(about, tgid);
	e->tid = BPF_CORE_READ(about, pid);
	e->ppid = BPF_CORE_READ(about, real_parent, tgid);
	e->uid = BPF_CORE_READ(task, cred, uid.val);
	BPF_CORE_READ_STR_INTO(&e->comm, about, comm);
	e->age_ns = now - BPF_CORE_READ(about, start_time);
	e->exit_code = code >> 8 & 0xff;
	e->signal = code & 0x7f;
	e->core_dumped = code & 0x80;
	process_name_or(&e->process_comm, task, e->pid == e->tid, e->comm);
	event_end(ctx, e);
	return 0;
}
