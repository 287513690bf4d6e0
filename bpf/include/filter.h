/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Filters: a probe sets them, and the program evaluates them in the kernel before it sends a record.
 *
 * A filter has one value, several values, or all but these. `n` is the number of values, 0 if the filter is off. So no
 * value means "any", and uid 0 and pid 0 can be selected. All of it is constant at load time: the verifier removes what is
 * not used.
 */
#pragma once

#include "ebpf_run.h"

/* A command or, with a mask of fewer bytes, its beginning. The runner sets `text` and `mask`. */
struct runner_comm {
	char text[16]; /* TASK_COMM_LEN */
	char mask[16];
};
/* A disk by its name or, if that is empty, by its numbers. */
struct runner_disk {
	char name[32]; /* DISK_NAME_LEN */
	u32 major;
	u32 minor;
};
/* A cgroup with everything below it: its ID (0 while it does not exist), and its level below the root. */
struct runner_cgroup {
	u64 id;
	u32 level;
	u32 unused;
};
typedef char prefix_t[64];

/* FILTER(u32, pid, 16) DOC("Only these processes") = {}; */
#define FILTER(T, name, max)                                       \
	const volatile struct name##_filter {                      \
		u32 n;                                             \
		u32 negate; /* not 0: all but these */             \
		T values[max] __attribute__((aligned(8)));         \
	} name

/*
 * Beside a filter of cgroups: its values. They are not constant: a service that is restarted gets another cgroup, and the
 * runner writes its ID while the program runs.
 */
#define FOLLOWED(name) \
	volatile struct runner_cgroup followed_##name[sizeof(name.values) / sizeof(name.values[0])] INTERNAL = {}

#define FILTER_MAX(f) (sizeof((f).values) / sizeof((f).values[0]))
#define FILTER_VERDICT(f, hit) ((f).n == 0 || (hit) != ((f).negate != 0))

/* Whether `x`, a number, an enum or a bool, passes the filter `f`. */
#define filter_passes(f, x)                                        \
	({                                                         \
		u32 count = (f).n; /* read once: the verifier removes branches, but not reads */ \
		bool hit = false;                                  \
		_Pragma("unroll") for (u32 i = 0; i < FILTER_MAX(f); i++) \
			if (i < count && (f).values[i] == (x))     \
				hit = true;                        \
		count == 0 || hit != ((f).negate != 0);            \
	})

/* The same for a command: `words` are its 16 bytes as two u64, zero after the end of the text. */
#define filter_passes_comm(f, words)                               \
	({                                                         \
		bool hit = false;                                  \
		_Pragma("unroll") for (u32 i = 0; i < FILTER_MAX(f); i++) { \
			const volatile u64 *want = (const volatile u64 *)(f).values[i].text; \
			const volatile u64 *mask = (const volatile u64 *)(f).values[i].mask; \
			if (i < (f).n && ((words)[0] & mask[0]) == want[0] && ((words)[1] & mask[1]) == want[1]) \
				hit = true;                        \
		}                                                  \
		FILTER_VERDICT(f, hit);                            \
	})

/* Whether `text`, a char array of at least the filter's element size, begins with one of the filter's values. */
#define filter_passes_prefix(f, text)                              \
	({                                                         \
		bool hit = false;                                  \
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
		FILTER_VERDICT(f, hit);                            \
	})

/* Whether the task is the runner or its symbol helper, whose events are not recorded. */
static __always_inline bool is_runner_task(struct task_struct *task, u32 tgid)
{
	if (runner_self && tgid == runner_self)
		return true;
	return runner_helper && (tgid == runner_helper || BPF_CORE_READ(task, real_parent, tgid) == runner_helper);
}

/* The same for the current task, whose process is `tgid`. */
static __always_inline bool is_runner(u32 tgid)
{
	/* The task is looked up only where there is a helper */
	if (!runner_helper)
		return runner_self && tgid == runner_self;
	return is_runner_task((struct task_struct *)bpf_get_current_task(), tgid);
}
