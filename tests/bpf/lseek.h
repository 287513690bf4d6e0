/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The system call that the tests of aggregates make: its arguments are theirs to choose. */
#pragma once

#include "syscall.h"

#if defined(__TARGET_ARCH_x86)
#define NR_LSEEK 8
#elif defined(__TARGET_ARCH_arm64)
#define NR_LSEEK 62
#endif
