// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per signal that is sent to a task, by a system call or by the kernel.
 *
 * The hook is where the kernel makes a signal, so every way to send one is seen, and each with what became of it. A
 * call that makes none, because it is not permitted or nobody is there, is not.
 */
#include "signals.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Who sent it: si_code of include/uapi/asm-generic/siginfo.h, where those above 0 and SI_KERNEL are the kernel */
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
	u64 ts AS("ktime") DOC("When it was sent");
	u32 pid DOC("Process that sent it, or made the kernel send it; 0 if none did");
	u32 tid DOC("Its thread");
	u32 uid DOC("User it runs as (real user id)");
	char comm[16] DOC("Its command");
	enum signal signal DOC("Signal");
	enum signal_origin origin DOC("How it was sent");
	u32 target_pid DOC("Process that it was sent to");
	u32 target_tid DOC("Its thread; of a signal to a whole process any, mostly the first");
	char target_comm[16] DOC("The command of that thread");
	enum signal_result result DOC("What became of it");
} DOC("One signal that was sent");
EVENT(event);

/* About the sender. What comes of a timer or a device has none. */
TASK_FILTERS();
FILTER(enum signal, signal, 8) DOC("Only these signals") = {};
FILTER(u32, target, 16) DOC("Only signals to these processes") = {};
FILTER(enum signal_origin, origin, 4) DOC("Only signals that were sent like this") = {};

/* include/linux/signal_types.h */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kernel_siginfo {
	int si_code;
};
#pragma clang attribute pop

static __always_inline enum signal_origin origin_of(struct kernel_siginfo *info)
{
	if ((u64)info == 0) /* SEND_SIG_NOINFO: as if by kill() of the current task */
		return ORIGIN_KILL;
	if ((u64)info == 1) /* SEND_SIG_PRIV */
		return ORIGIN_KERNEL;
	switch (BPF_CORE_READ(info, si_code)) {
	case 0: /* SI_USER */
		return ORIGIN_KILL;
	case -1: /* SI_QUEUE */
		return ORIGIN_SIGQUEUE;
	case -2: /* SI_TIMER */
		return ORIGIN_TIMER;
	case -3: /* SI_MESGQ */
		return ORIGIN_MESGQ;
	case -4: /* SI_ASYNCIO */
		return ORIGIN_ASYNCIO;
	case -6: /* SI_TKILL */
		return ORIGIN_TGKILL;
	default:
		return ORIGIN_KERNEL;
	}
}

SEC("tp_btf/signal_generate")
int BPF_PROG(signal_sent, int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)
{
	u64 id = bpf_get_current_pid_tgid();
	enum signal_origin how;
	struct event *e;
	bool sender;

	if (!filter_passes(signal, (enum signal)sig) || !filter_passes(target, (u32)task->tgid))
		return 0;
	how = origin_of(info);
	/* These come in an interrupt, whoever it stopped. So do some of the kernel's, which nothing tells from others; the
	 * runner makes it send none, so one that came while it ran is one of those. */
	sender = how != ORIGIN_TIMER && how != ORIGIN_ASYNCIO && !(how == ORIGIN_KERNEL && is_runner(id >> 32));
	if (!filter_passes(origin, how) || !(sender ? task_passes(id) : task_filters_off()))
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
	}
	e->signal = sig;
	e->origin = how;
	e->target_pid = task->tgid;
	e->target_tid = task->pid;
	BPF_CORE_READ_STR_INTO(&e->target_comm, task, comm);
	e->result = result;
	event_end(ctx, e);
	return 0;
}
