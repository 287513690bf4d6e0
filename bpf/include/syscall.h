/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls: number and arguments from the registers at the entry, the table that the number belongs to, and the meaning
 * of the kernel's internal return codes for the caller.
 *
 * The caller controls the registers. The table follows from the thread's state. The number has 32 bits; the bits above them
 * are ignored.
 */
#pragma once

#include "kernel_types.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* arch/x86/include/asm/thread_info.h */
struct thread_info___status {
	u32 status;
};
/* include/linux/signal_types.h */
struct sigset___words {
	unsigned long sig[1];
};
struct sigpending___call {
	struct sigset___words signal;
};
/* include/linux/sched.h */
struct task_struct___call {
	struct thread_info___status thread_info;
	unsigned int ptrace;
	struct sigpending___call pending;
};
/* include/linux/signal_types.h */
struct sigaction {
	void *sa_handler;
	unsigned long sa_flags;
};
struct kernel_siginfo; /* an argument of signal_deliver */
struct k_sigaction {
	struct sigaction sa;
};

#pragma clang attribute pop

/* include/uapi/linux/bpf.h: a kernel has a helper if, and only if, its BTF has this value; since 5.11 and 5.15 */
enum bpf_func_id {
	BPF_FUNC_get_current_task_btf = 158,
	BPF_FUNC_task_pt_regs = 175,
};

#if defined(__TARGET_ARCH_x86)
#define NR_EXECVE 59
#define NR_CONNECT 42
#define NR_SPLICE 275
#define NR_IO_URING_ENTER 426
#define NR_EXECVEAT 322
#define NR_OPEN 2
#define NR_CREAT 85
#define NR_OPENAT 257
#define NR_OPENAT2 437
/* arch/x86/entry/syscalls/syscall_32.tbl */
#define NR_COMPAT_EXECVE 11
#define NR_COMPAT_EXECVEAT 358
#define NR_COMPAT_OPEN 5
#define NR_COMPAT_CREAT 8
#define NR_COMPAT_OPENAT 295
#define NR_COMPAT_OPENAT2 437
/* Calls of x32 programs: the 64-bit numbers with this bit, except for calls with pointers to pointers */
#define X32_BIT 0x40000000
#define NR_X32_EXECVE 520
#define NR_X32_EXECVEAT 545
#define SYSCALL_NR(regs) ((s32)(regs)->orig_ax)
#define SYSCALL_ARG1(regs, compat) ((compat) ? (u32)(regs)->bx : (regs)->di)
#define SYSCALL_ARG2(regs, compat) ((compat) ? (u32)(regs)->cx : (regs)->si)
#define SYSCALL_ARG3(regs, compat) ((compat) ? (u32)(regs)->dx : (regs)->dx)
#define SYSCALL_ARG5(regs, compat) ((compat) ? (u32)(regs)->di : (regs)->r8)
/* Whether the caller's register has more bits than the number. Kernels before 5.13 refuse such a call, later ones ignore them */
#define SYSCALL_NR_IS_WIDE(regs) ((s64)(regs)->orig_ax != SYSCALL_NR(regs))
/* The return value after syscall_rollback() */
#define SYSCALL_ROLLED_BACK(regs) ((s64)(regs)->orig_ax)
#define READ_SYSCALL_RAW_NR(regs) ((s64)BPF_CORE_READ(regs, orig_ax)) /* of any task's registers */
#elif defined(__TARGET_ARCH_arm64)
#define NR_EXECVE 221
#define NR_CONNECT 203
#define NR_SPLICE 76
#define NR_IO_URING_ENTER 426
#define NR_EXECVEAT 281
#define NR_OPENAT 56 /* open() and creat() are calls of the C library */
#define NR_OPENAT2 437
/* arch/arm/tools/syscall.tbl */
#define NR_COMPAT_EXECVE 11
#define NR_COMPAT_EXECVEAT 387
#define NR_COMPAT_OPEN 5
#define NR_COMPAT_CREAT 8
#define NR_COMPAT_OPENAT 322
#define NR_COMPAT_OPENAT2 437
#define SYSCALL_NR(regs) ((s32)(regs)->syscallno)
#define SYSCALL_ARG1(regs, compat) ((compat) ? (u32)(regs)->orig_x0 : (regs)->orig_x0)
#define SYSCALL_ARG2(regs, compat) ((compat) ? (u32)(regs)->regs[1] : (regs)->regs[1])
#define SYSCALL_ARG3(regs, compat) ((compat) ? (u32)(regs)->regs[2] : (regs)->regs[2])
#define SYSCALL_ARG5(regs, compat) ((compat) ? (u32)(regs)->regs[4] : (regs)->regs[4])
#define SYSCALL_NR_IS_WIDE(regs) false
#define SYSCALL_ROLLED_BACK(regs) ((s64)(regs)->orig_x0)
#define READ_SYSCALL_RAW_NR(regs) ((s64)BPF_CORE_READ(regs, syscallno))
#else
#error "system call numbers and registers of this architecture are missing here"
#endif

#define EINTR 4
#define ENOSYS 38

static __always_inline bool has_current_task_btf(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf);
}

/*
 * Whether the number of the current call belongs to the 32-bit table: calls of 32-bit programs, and on x86 `int $0x80` in a
 * 64-bit program, whose registers and code segment are those of a 64-bit call.
 */
static __always_inline bool is_compat(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	struct task_struct___call *task;

	if (has_current_task_btf()) {
		task = (void *)bpf_get_current_task_btf();
		return task->thread_info.status & 2; /* TS_COMPAT */
	}
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, thread_info.status) & 2;
#else
	return regs->pstate & 0x10; /* PSR_MODE32_BIT */
#endif
}

/*
 * Whether seccomp sent SIGSYS in place of the call (RET_TRAP, RET_KILL_PROCESS). The kernel then restores the registers, so
 * that the "result" is the call's number or first argument, and the signal is pending.
 */
static __always_inline bool is_trapped(struct pt_regs *regs, long ret)
{
	struct task_struct___call *task;

	if (ret != SYSCALL_ROLLED_BACK(regs))
		return false;
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, pending.signal.sig[0]) & (1UL << (31 - 1)); /* SIGSYS */
}

/* Whether the kernel has not used the number of SYSCALL_NR(), but the wider register. */
static __always_inline bool is_no_call(struct pt_regs *regs, long ret)
{
	return ret == -ENOSYS && SYSCALL_NR_IS_WIDE(regs);
}

/* Whether the number is that of an exec at its successful return: the kernel sets it for the new program. */
static __always_inline bool is_exec(struct pt_regs *regs)
{
	s32 nr = SYSCALL_NR(regs);

	if (is_compat(regs))
		return nr == NR_COMPAT_EXECVE || nr == NR_COMPAT_EXECVEAT;
#if defined(__TARGET_ARCH_x86)
	if (nr == NR_X32_EXECVE || nr == (NR_X32_EXECVE | X32_BIT))
		return true;
#endif
	return nr == NR_EXECVE || nr == NR_EXECVEAT;
}

/* include/linux/errno.h: codes that no program sees. The kernel turns them into -EINTR or restarts the call. */
#define ERESTARTSYS 512           /* restarts, unless a handler runs that does not have SA_RESTART */
#define ERESTARTNOINTR 513        /* always restarts */
#define ERESTARTNOHAND 514        /* restarts, unless a handler runs */
#define ERESTART_RESTARTBLOCK 516 /* the same, by restart_syscall() */

/* Whether the call that returns `ret` has not ended: it restarts, or a handler makes it fail with EINTR (is_interrupted). */
static __always_inline bool is_restarted(long ret)
{
	return ret <= -ERESTARTSYS && ret >= -ERESTART_RESTARTBLOCK && ret != -515; /* ENOIOCTLCMD */
}

/* For signal_deliver: whether the signal has a handler. */
static __always_inline bool has_handler(struct k_sigaction *action)
{
	return (u64)action->sa.sa_handler > 1; /* SIG_DFL, SIG_IGN */
}

/* Whether this handler makes the call that returned `ret` (see is_restarted()) fail with EINTR. */
static __always_inline bool is_interrupted(struct k_sigaction *action, long ret)
{
	if (ret == -ERESTARTSYS)
		return !(action->sa.sa_flags & 0x10000000); /* SA_RESTART */
	return ret != -ERESTARTNOINTR;
}
