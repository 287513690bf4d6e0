/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A system call's number and arguments out of the registers that it was entered with; valid until it has returned. */
#pragma once

#include "kernel_types.h"

#if defined(__TARGET_ARCH_x86)
#define NR_EXECVE 59
#define NR_EXECVEAT 322
#define NR_OPEN 2
#define NR_CREAT 85
#define NR_OPENAT 257
#define NR_OPENAT2 437
/* A 32-bit program, whose numbers mean other calls, runs in another code segment than __USER_CS */
#define is_compat(regs) ((regs)->cs != 0x33)
#define SYSCALL_RAW_NR(regs) ((s64)(regs)->orig_ax)
#define SYSCALL_ARG1(regs) ((regs)->di)
#define SYSCALL_ARG2(regs) ((regs)->si)
#define SYSCALL_ARG3(regs) ((regs)->dx)
#elif defined(__TARGET_ARCH_arm64)
#define NR_EXECVE 221
#define NR_EXECVEAT 281
#define NR_OPEN -2 /* only the calls relative to a folder */
#define NR_CREAT -2
#define NR_OPENAT 56
#define NR_OPENAT2 437
#define is_compat(regs) false /* not told apart: those programs' calls go by wrong names */
#define SYSCALL_RAW_NR(regs) ((s64)(regs)->syscallno)
#define SYSCALL_ARG1(regs) ((regs)->orig_x0)
#define SYSCALL_ARG2(regs) ((regs)->regs[1])
#define SYSCALL_ARG3(regs) ((regs)->regs[2])
#else
#error "system call numbers and registers of this architecture are missing here"
#endif
/* -1 for a call of a 32-bit program, and for one that has lost its number: rt_sigreturn() */
#define SYSCALL_NR(regs) (is_compat(regs) ? -1 : (long)SYSCALL_RAW_NR(regs))
