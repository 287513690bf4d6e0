/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel types of programs on the start and end of processes, in addition to kernel_types.h. */
#pragma once

#include "task.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/types.h */
typedef struct {
	int counter;
} atomic_t;
typedef struct {
	s64 counter;
} atomic64_t;

/* include/linux/sched/signal.h */
struct signal_struct {
	atomic_t live; /* threads that have not begun to exit */
	int group_exit_code;
	unsigned int flags;
	short oom_score_adj;
};
#define SIGNAL_GROUP_EXIT 4 /* flags: all threads end, with group_exit_code */

/* include/linux/mm_types_task.h, mm_types.h: pages; plain counters before 6.2, since then sums (f1a7941243c1) */
struct percpu_counter {
	s64 count;
};
struct mm_struct___usage {
	unsigned long total_vm;
	struct percpu_counter rss_stat[4];
};
struct mm_rss_stat {
	atomic64_t count[4];
};
struct mm_struct___before_6_2 {
	struct mm_rss_stat rss_stat;
};

/* include/linux/sched.h */
struct task_struct___process {
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct mm_struct___usage *mm;
};

#pragma clang attribute pop

/* A task struct with the members above. */
#define process_of(task) ((struct task_struct___process *)(task))
