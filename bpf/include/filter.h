/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Filters that take several values. `n` counts them, 0 says that the filter is off: no value has to double as "any",
 * so uid 0 and pid 0 can be asked for. As all of it is constant at load time, the verifier removes what is not used.
 */
#pragma once

#include "ebpf_run.h"

typedef char comm_t[16]; /* TASK_COMM_LEN */
typedef char disk_t[32]; /* DISK_NAME_LEN */
typedef char prefix_t[64];

/* FILTER(u32, pid, 16) DOC("Only these processes") = {}; */
#define FILTER(T, name, max)                                       \
	const volatile struct name##_filter {                      \
		u32 n;                                             \
		T values[max] __attribute__((aligned(8)));         \
	} name

#define FILTER_MAX(f) (sizeof((f).values) / sizeof((f).values[0]))

/* Whether `x`, a number, an enum or a bool, passes the filter `f`. */
#define filter_passes(f, x)                                        \
	({                                                         \
		bool hit = (f).n == 0;                             \
		_Pragma("unroll") for (u32 i = 0; i < FILTER_MAX(f); i++) \
			if (i < (f).n && (f).values[i] == (x))     \
				hit = true;                        \
		hit;                                               \
	})

/* The same for text: `words` is a u64 array of the filter's element size, zero behind the text's end. */
#define filter_passes_text(f, words)                               \
	({                                                         \
		bool hit = (f).n == 0;                             \
		_Pragma("unroll") for (u32 i = 0; i < FILTER_MAX(f); i++) { \
			const volatile u64 *want = (const volatile u64 *)(f).values[i]; \
			bool same = i < (f).n;                     \
			_Pragma("unroll") for (u32 w = 0; w < sizeof((f).values[0]) / 8; w++) \
				if (same && want[w] != (words)[w]) \
					same = false;              \
			if (same)                                  \
				hit = true;                        \
		}                                                  \
		hit;                                               \
	})

/* Whether `text`, a char array of at least the filter's element size, begins like one of the filter's values. */
#define filter_passes_prefix(f, text)                              \
	({                                                         \
		bool hit = (f).n == 0;                             \
		_Pragma("unroll") for (u32 i = 0; i < FILTER_MAX(f); i++) { \
			bool same = i < (f).n;                     \
			_Pragma("clang loop unroll(disable)") for (u32 b = 0; same && b < sizeof((f).values[0]); b++) { \
				if (!(f).values[i][b])             \
					break;                     \
				same = (f).values[i][b] == (text)[b]; \
			}                                          \
			if (same)                                  \
				hit = true;                        \
		}                                                  \
		hit;                                               \
	})

/* The runner's own work is not what the user wants to see. */
static __always_inline bool is_runner(u32 tgid)
{
	return runner_self && tgid == runner_self;
}
