// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How many system calls return, how many fail, and how long they take.
 *
 * Every system call of the host runs these programs. So a thread's entry in `entered` is updated in place and stays until
 * the thread ends: no call inserts or deletes an entry. Without times, the hook on the entry of calls is not attached.
 *
 * A call's number is taken at its entry: an exec, a tracer and the return from a signal handler each change it before the
 * call returns. A call that a signal interrupts counts when the program gets its result: the kernel may restart it any
 * number of times.
 */
#include "aggregate.h"
#include "syscall.h"
#include "syscall_names.h"
#include "task.h"
#include "under_way.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum count_key {
	BY_SYSCALL,
	BY_PROCESS,
	BY_BOTH,
};
const volatile enum count_key by DOC("One row per system call, per process, or per both") = BY_SYSCALL;

struct key {
	enum syscall syscall DOC("Name of the system call; `all` with `by: process`; `compat`: a 32-bit call, `x32`: an x32 call, `unknown`: no kernel has this number");
	u32 pid DOC("Process ID; 0 with `by: syscall`");
	char comm[16] DOC("Name of the process; empty with `by: syscall`");
};
struct value {
	u64 calls KIND("events") DOC("Calls that returned");
	u64 failed DOC("Calls that returned an error, or for which seccomp sent SIGSYS");
	u64 untimed DOC("Calls that are not in `total_ns`: denied by seccomp, or begun before the capture; 0 with `latency: false`");
	u64 total_ns UNIT("ns") DOC("Total time of the calls; 0 with `latency: false`");
};
AGGREGATE(PERCPU_HASH, calls, struct key, struct value, 4096) DOC("System calls that returned, failures, and total time") TRY("syscall");
AGGREGATE_DENSE(calls, struct value, 512);

ACCURACY(
	SEES("calls when they return, by their number at entry, also of 32-bit (`compat`) and x32 programs")
	SEES("calls that seccomp denies: they failed, and have no time (`untimed`)")
	SEES("the number that a ptrace tracer substitutes")
	SEES("a call that signals interrupt, once: it counts as failed only if the program gets `-EINTR`")
	NOT_SEEN("calls that never return: `exit`, and calls of a process that is killed")
	NOT_SEEN("on 5.10: calls for which seccomp kills the process")
	NOT_SEEN("the number that the traced program passed; a result that the tracer changes at the end")
	NOT_SEEN("calls of the vDSO (`clock_gettime`), operations of io_uring, and Syscall User Dispatch: they are no system calls")
	NOT_SEEN("calls that have not returned at the end: counted as `in_flight`")
	OWNER("the process of the calling thread, by its name when the call returns")
	OWNER("filters are evaluated at the entry of a call, or at its return if the entry was not seen")
	TIME("`total_ns`: time in the kernel, with all parts of a restarted call, without signal handlers and stops")
	EXACT("`calls` and `failed`; `untimed` are the calls that are not in `total_ns`")
	EXACT("calls without a time: denied by seccomp, begun before the capture, or `entered` is full")
	VARIANTS("one; with `latency: false` calls are seen only when they return, and have no times")
	VARIANTS("with `latency: false` a call that seccomp denies with an error number from 512 to 516 is not counted")
	VARIANTS("with `latency: false` a successful `execveat` counts as `execve`, a traced `rt_sigreturn` as `unknown`")
);

TASK_FILTERS();
FILTER(enum syscall, syscall, 16) DOC("Only these system calls, by name") = {};
FILTER(bool, failed, 1) DOC("true: only calls that failed; false: only calls that succeeded") = {};
const volatile bool latency DOC("true: times are measured; false costs a third as much per call") = true;

/* The key is the thread's struct: an exec changes the thread ID of the calling thread to the process ID. */
struct thread {
	u64 start; /* entry of the current call; 0: none */
	u32 nr;
	s32 interrupted; /* what the call returned if it has not ended: it restarts, or a handler runs */
	u64 before; /* time of the call up to the interruption, and its number */
	u32 before_nr;
	u32 unused;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u64);
	__type(value, struct thread);
} entered SEC(".maps") DOC("Threads that made calls since the start, with the entry time of those in a call") IN_FLIGHT("calls not returned");
INSERT_FAILURES(entered);
/* Without times, only threads whose call was interrupted have an entry: at most this many */
u64 interrupted INTERNAL = 0;

static __always_inline struct thread *thread_entry(void)
{
	u64 task = bpf_get_current_task();

	return bpf_map_lookup_elem(&entered, &task);
}

static __always_inline long remember_thread(const struct thread *thread)
{
	u64 task = bpf_get_current_task();

	return bpf_map_update_elem(&entered, &task, thread, BPF_ANY);
}

static __always_inline long forget_thread(void)
{
	u64 task = bpf_get_current_task();

	return bpf_map_delete_elem(&entered, &task);
}

/* More than any kernel has; few enough that a program that tries all numbers does not fill the map */
#define NUMBERS 2048

static __always_inline enum syscall name_of(s64 nr, bool compat)
{
	if (compat)
		return SYS_COMPAT;
#if defined(__TARGET_ARCH_x86)
	if (nr >> 30 == 1) /* X32_BIT and no bit above it */
		return SYS_X32;
#endif
	return (u64)nr < NUMBERS ? nr : SYS_UNKNOWN;
}

/* Of a call whose entry was not seen. */
static __always_inline enum syscall name_at_return(struct pt_regs *regs, long ret)
{
	bool compat = is_compat(regs);
	s32 nr = SYSCALL_NR(regs);
	struct task_struct___call *task;

	if (nr >= 0)
		return name_of(is_no_call(regs, ret) ? -1 : nr, compat);
	/* rt_sigreturn() has lost its number: the registers are those from before the signal. A tracer that skips a
	 * call does the same, and the caller can ask for the number -1. */
	if (!latency && !compat && ret != -ENOSYS) {
		task = (void *)bpf_get_current_task();
		if (!BPF_CORE_READ(task, ptrace))
			return SYS_RT_SIGRETURN;
	}
	return name_of(-1, compat);
}

/* A new process returns from a call that it did not make. */
static __always_inline bool is_child(struct pt_regs *regs, long ret)
{
	s32 nr;

	if (ret) /* first the test that excludes most calls */
		return false;
	nr = SYSCALL_NR(regs);
#if defined(__TARGET_ARCH_x86)
	nr &= ~X32_BIT;
	if (nr == SYS_FORK || nr == SYS_VFORK)
		return !is_compat(regs);
#endif
	if (nr == SYS_CLONE)
		return !is_compat(regs);
	if (nr == 2 || nr == 120 || nr == 190) /* fork, clone, vfork of both 32-bit tables */
		return is_compat(regs);
	return nr == SYS_CLONE3; /* of all tables */
}

/* A call has ended, and its thread passes. `took` is 0 if the time is unknown. */
static __always_inline int count_call(enum syscall nr, bool error, u64 took)
{
	struct value *value = NULL;
	struct key key = {};

	if (!filter_passes(failed, error) || !filter_passes(syscall, nr))
		return 0;
	if (by == BY_SYSCALL)
		value = aggregate_dense(calls, nr);
	if (!value) {
		key.syscall = by == BY_PROCESS ? SYS_ALL : nr;
		if (by != BY_SYSCALL) {
			u64 id = bpf_get_current_pid_tgid();

			key.pid = id >> 32;
			current_process_name(&key.comm, id);
		}
		value = aggregate(calls, &key);
	}
	if (!value)
		return 0;
	counter_add_here(&value->calls, 1);
	if (error)
		counter_add_here(&value->failed, 1);
	if (latency && took)
		counter_add_here(&value->total_ns, took);
	else if (latency)
		counter_add_here(&value->untimed, 1);
	return 0;
}

SEC("tp_btf/sys_enter")
SKIP_IF("latency=false") int BPF_PROG(call_begins, struct pt_regs *regs, long number)
{
	struct thread *thread, new = {};
	enum syscall nr;

	if (!task_passes(bpf_get_current_pid_tgid()))
		return 0;
	nr = name_of(number, is_compat(regs));
	thread = thread_entry();
	if (!thread) {
		new.nr = nr;
		new.start = bpf_ktime_get_ns();
		/* If the map is full, the call counts as untimed and is not lost */
		if (remember_thread(&new))
			__sync_fetch_and_add(&insert_failures_entered, 1);
		return 0;
	}
	if (thread->interrupted) {
		if (nr == SYS_RESTART_SYSCALL)
			nr = thread->nr;
		thread->interrupted = 0;
	}
	thread->nr = nr;
	thread->start = bpf_ktime_get_ns();
	return 0;
}

/* The call has not ended: it restarts, or signal_deliver ends it. */
static __always_inline int call_interrupted(struct thread *thread, enum syscall nr, long ret, u64 took)
{
	struct thread new = { .nr = nr, .interrupted = ret };

	if (!latency && interrupted)
		thread = thread_entry();
	if (thread) {
		if (thread->before_nr != nr)
			thread->before = 0;
		thread->before += took;
		thread->before_nr = nr;
		if (latency || nr != SYS_RESTART_SYSCALL)
			thread->nr = nr;
		thread->interrupted = ret;
	} else if (remember_thread(&new)) {
		lost_map_full(entered);
	} else if (!latency) {
		__sync_fetch_and_add(&interrupted, 1);
	}
	return 0;
}

/* A handler runs next: the call that it interrupted fails, unless it restarts when the handler is done. */
SEC("tp_btf/signal_deliver")
int BPF_PROG(signal_delivered, int sig, struct kernel_siginfo *info, struct k_sigaction *action)
{
	struct thread *thread, call;

	if ((!latency && !interrupted) || !has_handler(action))
		return 0;
	thread = thread_entry();
	if (!thread || !thread->interrupted)
		return 0;
	call = *thread;
	thread->interrupted = 0;
	if (!latency && !forget_thread())
		__sync_fetch_and_add(&interrupted, -1);
	if (!is_interrupted(action, call.interrupted))
		return 0;
	if (latency)
		thread->before = 0;
	return count_call(call.nr, true, call.before);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(call_returns, struct pt_regs *regs, long ret)
{
	u64 id = bpf_get_current_pid_tgid(), took = 0;
	struct thread *thread = NULL;
	bool error, denied = false;
	u32 nr;

	if (latency) {
		/* An exec may have changed name and thread ID since the entry, where the filters were evaluated */
		if (is_runner(id >> 32) || !filter_passes(pid, (u32)(id >> 32)))
			return 0;
		thread = thread_entry();
	}
	if (thread && thread->start) {
		took = bpf_ktime_get_ns() - thread->start;
		took += !took; /* 0 means unknown */
		nr = thread->nr;
		thread->start = 0;
		if (is_child(regs, ret))
			return 0;
	} else {
		/* Denied by seccomp, begun before the capture, or of a thread that did not pass at the entry */
		if (!task_passes(id) || is_child(regs, ret))
			return 0;
		nr = name_at_return(regs, ret);
		/* In a thread whose entries are seen, a call without an entry never restarts */
		denied = latency && thread;
		if (denied)
			thread->interrupted = 0;
		/* After a successful exec the thread has another name than at the entry */
		if (latency && !ret && is_exec(regs))
			return 0;
	}
	error = (u64)ret > -4096ULL; /* MAX_ERRNO */
	if (error) {
		/* This result is that of the interrupted call */
		if (nr == SYS_RT_SIGRETURN || (nr == SYS_COMPAT && SYSCALL_NR(regs) < 0 && ret != -ENOSYS))
			error = false;
		else if (!denied && is_restarted(ret))
			return call_interrupted(thread, nr, ret, took);
	} else {
		error = is_trapped(regs, ret);
	}
	if (!latency && interrupted) {
		thread = thread_entry();
		if (thread) {
			if (nr == SYS_RESTART_SYSCALL)
				nr = thread->nr;
			if (!forget_thread())
				__sync_fetch_and_add(&interrupted, -1);
		}
	}
	if (latency && thread && thread->before && thread->before_nr == nr) {
		if (took)
			took += thread->before;
		thread->before = 0;
	}
	return count_call(nr, error, took);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(thread_ends, struct task_struct *task)
{
	if (!forget_thread() && !latency)
		__sync_fetch_and_add(&interrupted, -1);
	return 0;
}

/* Without times, a call makes no entry in the map when it begins */
SEC("iter/task")
SKIP_IF("latency=true") int not_returned(struct bpf_iter__task *ctx)
{
	struct thread thread = {.start = bpf_ktime_get_ns()};
	struct task_struct *task = ctx->task;
	struct call_of_thread call;

	if (!latency && find_call(&call, task) && task_passes_other(task))
		count_under_way(entered, task, &thread);
	return 0;
}
