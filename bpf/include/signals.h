/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Signals by name. The numbers are those of x86-64 and arm64 (include/uapi/asm-generic/signal.h). */
#pragma once

enum signal {
	SIGNAL_NONE = 0,
	SIGNAL_SIGHUP = 1,
	SIGNAL_SIGINT = 2,
	SIGNAL_SIGQUIT = 3,
	SIGNAL_SIGILL = 4,
	SIGNAL_SIGTRAP = 5,
	SIGNAL_SIGABRT = 6,
	SIGNAL_SIGBUS = 7,
	SIGNAL_SIGFPE = 8,
	SIGNAL_SIGKILL = 9,
	SIGNAL_SIGUSR1 = 10,
	SIGNAL_SIGSEGV = 11,
	SIGNAL_SIGUSR2 = 12,
	SIGNAL_SIGPIPE = 13,
	SIGNAL_SIGALRM = 14,
	SIGNAL_SIGTERM = 15,
	SIGNAL_SIGSTKFLT = 16,
	SIGNAL_SIGCHLD = 17,
	SIGNAL_SIGCONT = 18,
	SIGNAL_SIGSTOP = 19,
	SIGNAL_SIGTSTP = 20,
	SIGNAL_SIGTTIN = 21,
	SIGNAL_SIGTTOU = 22,
	SIGNAL_SIGURG = 23,
	SIGNAL_SIGXCPU = 24,
	SIGNAL_SIGXFSZ = 25,
	SIGNAL_SIGVTALRM = 26,
	SIGNAL_SIGPROF = 27,
	SIGNAL_SIGWINCH = 28,
	SIGNAL_SIGIO = 29,
	SIGNAL_SIGPWR = 30,
	SIGNAL_SIGSYS = 31,
/* Real-time signals by the kernel's numbers. C libraries reserve the first ones: glibc's SIGRTMIN is sigrt34. */
#define RT(n) SIGNAL_SIGRT##n = n
	RT(32), RT(33), RT(34), RT(35), RT(36), RT(37), RT(38), RT(39), RT(40), RT(41), RT(42),
	RT(43), RT(44), RT(45), RT(46), RT(47), RT(48), RT(49), RT(50), RT(51), RT(52), RT(53),
	RT(54), RT(55), RT(56), RT(57), RT(58), RT(59), RT(60), RT(61), RT(62), RT(63), RT(64),
#undef RT
};
