// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per signal that is sent to a task, by a system call or by the kernel.
 *
 * The hook is where the kernel generates a signal, so every way to send one is seen, each with its result. A call that
 * generates none, because it is not permitted or the target does not exist, is not seen.
 *
 * The sender is the current task, unless the kernel generated the signal in an interrupt or for a timer. si_code does not
 * decide that: a sender with rt_sigqueueinfo() chooses any value below 0, and a process that signals itself any value. The
 * addresses of the hook's arguments decide: on the stack of the current task, on the interrupt stack, or elsewhere.
 */
#include "signals.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum signal_origin {
	ORIGIN_KERNEL,
	ORIGIN_KILL,
	ORIGIN_TGKILL,
	ORIGIN_SIGQUEUE,
	ORIGIN_TIMER,
	ORIGIN_MESGQ,
	ORIGIN_ASYNCIO,
};

/* include/trace/events/signal.h, TRACE_SIGNAL_* */
enum signal_result {
	RESULT_DELIVERED,
	RESULT_IGNORED,
	RESULT_ALREADY_PENDING,
	RESULT_OVERFLOW,
	RESULT_INFO_LOST,
};

struct event {
	u64 ts KIND("ktime") DOC("Time at which the signal was sent");
	u32 pid DOC("Process ID of the sender, or of the task that made the kernel send it; 0: none");
	u32 tid DOC("Thread ID of the sender");
	u32 uid DOC("Real user ID of the sender");
	char comm[16] DOC("Name of the sending thread");
	enum signal signal DOC("Signal that was sent");
	enum signal_origin origin DOC("How the signal was sent");
	u32 target_pid DOC("Process ID of the target");
	u32 target_tid DOC("Thread ID of the target; of a signal to a whole process: one of its threads, mostly the first");
	char target_comm[16] DOC("Name of the target thread");
	enum signal_result result DOC("Whether the signal was delivered, and if not, why");
	s32 si_code DOC("si_code that the target gets; chosen by the sender: below 0 with sigqueue, any for a signal to itself");
	char process_comm[16] DOC("Name of the sending process");
	char target_process_comm[16] DOC("Name of the target process");
} DOC("A signal that was sent") TRY("signal");
EVENT(event);

ACCURACY(
	SEES("each signal that a call or the kernel sends, with its result, also if it is ignored or already pending")
	NOT_SEEN("a call that sends nothing: the target does not exist, or the call is not permitted")
	NOT_SEEN("what the target does with the signal, and when")
	OWNER("the task whose call sends it; what it writes into the siginfo does not matter")
	OWNER("of a `kernel` signal: the task that made the kernel send it, such as one that crashed, or a child that ended")
	OWNER("none (`pid` 0) for timers, `alarm()` and other interrupts; a filter on tasks excludes these")
	TIME("`ts`: when it is sent, not when the target handles it")
	EXACT("one event for a signal; `pid` is from the kernel, `si_code` is what the sender claims")
	EXACT("`origin` can be a claim too: `mesgq`, and any value for a signal that a process sends to itself")
	EXACT("`sigio` and `sigurg` of a device or the network: the owner can be the task that was interrupted")
	EXACT("`target_tid`: of a signal to a whole process one of its threads, mostly the first")
	VARIANTS("one")
);

/* On the sender. A signal of a timer or a device has none. */
TASK_FILTERS();
FILTER(enum signal, signal, 8) DOC("Only these signals") = {};
FILTER(u32, target, 16) DOC("Only signals to these processes") = {};
FILTER(enum signal_origin, origin, 4) DOC("Only signals that were sent in one of these ways") = {};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* include/linux/signal_types.h */
struct kernel_siginfo {
	int si_code;
};
/* include/linux/sched.h */
struct task_struct___stack {
	void *stack;
};
#pragma clang attribute pop

/* include/uapi/asm-generic/siginfo.h */
#define SI_USER 0
#define SI_KERNEL 0x80
#define SI_TIMER -2
#define SI_MESGQ -3
#define SI_ASYNCIO -4
#define SI_TKILL -6

/* Two values in place of a pointer, include/linux/sched/signal.h */
#define SEND_SIG_NOINFO 0 /* as if by kill() of the current task */
#define SEND_SIG_PRIV 1	  /* by the kernel */

static __always_inline int code_of(struct kernel_siginfo *info)
{
	if ((u64)info == SEND_SIG_NOINFO)
		return SI_USER;
	if ((u64)info == SEND_SIG_PRIV)
		return SI_KERNEL;
	return BPF_CORE_READ(info, si_code);
}

/* The largest THREAD_SIZE of any kernel. Stacks and the data of timers are allocated far from each other. */
#define STACK_AT_MOST (64 * 1024)

/* Whether `address` is on the kernel stack of the current task. It is only compared: it may be a pointer. */
static __always_inline bool is_on_stack(const void *address)
{
	struct task_struct___stack *task = (void *)bpf_get_current_task();
	u64 low = (u64)BPF_CORE_READ(task, stack), high = low + STACK_AT_MOST;

	barrier_var(high);
	return (u64)address >= low && (u64)address < high;
}

/*
 * Whether the current task made this signal by a call. The kernel puts a tracepoint's arguments on the stack that it runs
 * on. Interrupts have a stack of their own, except those that arrive while the task is in user space. Of the signals that
 * are generated there, only that of alarm() and setitimer() can be recognised: nothing else sends it like this.
 */
static __always_inline bool is_in_call(const void *ctx, int sig, struct kernel_siginfo *info, int code)
{
	if (code == SI_USER || code == SI_TKILL)
		return true; /* nothing sends these in an interrupt */
	return is_on_stack(ctx) && !((u64)info == SEND_SIG_PRIV && sig == SIGNAL_SIGALRM);
}

/* Values that the sender chooses do not count: a negative code from a call is sigqueue, except that of mq_notify(), which
 * the kernel also generates in a call. */
static __always_inline enum signal_origin origin_of(struct kernel_siginfo *info, int code, bool in_call)
{
	switch (code) {
	case SI_USER:
		return ORIGIN_KILL;
	case SI_TKILL:
		return ORIGIN_TGKILL;
	case SI_MESGQ:
		return ORIGIN_MESGQ;
	case SI_TIMER:
		return in_call && is_on_stack(info) ? ORIGIN_SIGQUEUE : ORIGIN_TIMER;
	case SI_ASYNCIO:
		return in_call ? ORIGIN_SIGQUEUE : ORIGIN_ASYNCIO;
	default:
		return code < 0 && in_call ? ORIGIN_SIGQUEUE : ORIGIN_KERNEL;
	}
}

SEC("tp_btf/signal_generate")
int BPF_PROG(signal_sent, int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)
{
	u64 id = bpf_get_current_pid_tgid();
	enum signal_origin how;
	struct event *e;
	bool sender;
	int code;

	if (!filter_passes(signal, (enum signal)sig) || !filter_passes(target, (u32)task->tgid))
		return 0;
	/* If the current task does not pass a filter, no sender passes it */
	if (!task_filters_off() && !task_passes(id))
		return 0;
	code = code_of(info);
	sender = is_in_call(ctx, sig, info, code);
	how = origin_of(info, code, sender);
	if (how == ORIGIN_TIMER)
		sender = false;
	if (!filter_passes(origin, how) || !(sender ? !is_runner(id >> 32) : task_filters_off()))
		return 0;
	e = event_begin(struct event);
	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	if (sender) {
		e->pid = id >> 32;
		e->tid = id;
		e->uid = bpf_get_current_uid_gid();
		bpf_get_current_comm(e->comm, sizeof(e->comm));
		process_name_or(&e->process_comm, (struct task_struct *)bpf_get_current_task(), id >> 32 == (u32)id, e->comm);
	}
	e->signal = sig;
	e->origin = how;
	e->target_pid = task->tgid;
	e->target_tid = task->pid;
	BPF_CORE_READ_STR_INTO(&e->target_comm, task, comm);
	process_name_or(&e->target_process_comm, task, task->pid == task->tgid, e->target_comm);
	e->result = result;
	e->si_code = code;
	event_end(ctx, e);
	return 0;
}
