/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* First argument and result of a function, from the registers of a kprobe or kretprobe. */
#pragma once

#include "kernel_types.h"

#if defined(__TARGET_ARCH_x86)
#define FUNCTION_ARG1(regs) ((void *)(regs)->di)
#define FUNCTION_RESULT(regs) ((void *)(regs)->ax)
#elif defined(__TARGET_ARCH_arm64)
#define FUNCTION_ARG1(regs) ((void *)(regs)->regs[0])
#define FUNCTION_RESULT(regs) ((void *)(regs)->regs[0])
#else
#error "registers of this architecture are missing here"
#endif
