/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Perf events that can run a program:
 *
 *	const volatile enum perf_source event DOC("Event to sample by") = PERF_AUTO;
 *	const volatile u32 frequency_hz UNIT("Hz") DOC("Samples per second on each CPU") = 99;    or
 *	const volatile u32 period DOC("Number of events between two samples") = 100;
 *	SEC("perf_event") PERF_EVENT("cycles|cpu_clock", "event", "frequency_hz") int sample(struct bpf_perf_event_data *ctx)
 *
 * With the unit Hz, the `rate` variable is a frequency, otherwise a period.
 */
#pragma once

#include "filter.h"

/* (type << 8 | config) + 1 of include/uapi/linux/perf_event.h; 0 leaves the choice to PERF_EVENT(). Hardware is type 0,
 * software 1. */
enum perf_source {
	PERF_AUTO = 0,
	PERF_CYCLES = 0x000 + 1,
	PERF_INSTRUCTIONS = 0x001 + 1,
	PERF_CACHE_REFERENCES = 0x002 + 1,
	PERF_CACHE_MISSES = 0x003 + 1,
	PERF_BRANCHES = 0x004 + 1,
	PERF_BRANCH_MISSES = 0x005 + 1,
	PERF_CPU_CLOCK = 0x100 + 1,
	PERF_TASK_CLOCK = 0x101 + 1,
	PERF_PAGE_FAULTS = 0x102 + 1,
	PERF_CONTEXT_SWITCHES = 0x103 + 1,
	PERF_CPU_MIGRATIONS = 0x104 + 1,
	PERF_MINOR_FAULTS = 0x105 + 1,
	PERF_MAJOR_FAULTS = 0x106 + 1,
};

/* include/uapi/linux/bpf_perf_event.h */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_perf_event_data {
	u64 sample_period;
	u64 addr;
};
#pragma clang attribute pop
