/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Aggregates: counters and histograms that a program keeps in one map, and that the runner reads at an interval and at the
 * end. A program has either events (EVENT) or an aggregate.
 *
 *	struct key { u32 pid DOC("Process ID"); };                 members are the columns of a row, as those of an event
 *	struct value { struct runner_hist latency UNIT("ns") DOC("Time ..."); };         one histogram, or ...
 *	struct value { u64 calls DOC("Calls"); u64 total_ns UNIT("ns") DOC("..."); };    ... counters, u64 each
 *	AGGREGATE(PERCPU_HASH, latencies, struct key, struct value, 10240) DOC("Latencies by process");
 *	...
 *	struct value *v = aggregate(latencies, &key);           counts one event as seen
 *	if (v)                                                  NULL: the map is full, the loss is counted
 *		hist_add(&v->latency, ns);                      or counter_add(&v->calls, 1)
 *
 * The map's type is HASH, PERCPU_HASH, ARRAY or PERCPU_ARRAY (the key of an array is a struct with one u32). Keys are
 * compared byte by byte: set all bytes. `struct key key = {}` leaves padding undefined, so a key must have no padding.
 *
 * With an `interval`, a hash map exists twice. The program updates the one that `NAME_now` refers to. The runner switches
 * `NAME_now` to the other one, waits until no program can still use the first, reads it and empties it. So no update is
 * lost, and the map holds the keys of one interval. In all other cases nothing is deleted from the map during the window:
 * the runner keeps the last snapshot and reports the difference.
 */
#pragma once

#include "filter.h"

#define HIST_SLOTS 48
/* Slot i counts values from 2^i to 2^(i+1)-1, slot 0 also the value 0, the last slot also all larger values. */
struct runner_hist {
	u64 slots[HIST_SLOTS];
	u64 sum;
	u64 max;
};

/* Whether the map exists twice; set by the runner before load. */
const volatile bool runner_swap INTERNAL = false;

#define AGGREGATED __attribute__((btf_decl_tag("aggregate")))
#define AGGREGATE(kind, name, K, V, entries)                               \
	const volatile V name##_zero INTERNAL = {};                        \
	INSERT_FAILURES(name);                                                    \
	struct name##_map {                                                \
		__uint(type, BPF_MAP_TYPE_##kind);                         \
		__uint(max_entries, entries);                              \
		__type(key, K);                                            \
		__type(value, V);                                          \
	};                                                                 \
	struct name##_map name##_first SEC(".maps") INTERNAL;                       \
	RUNNER_NOW(name, struct name##_map, name##_first);                 \
	struct name##_map name SEC(".maps") AGGREGATED

/* The one of two maps that is in use */
#define RUNNER_NOW(name, map_type, first)                                  \
	struct {                                                           \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                  \
		__uint(max_entries, 1);                                    \
		__type(key, u32);                                          \
		__array(values, map_type);                                 \
	} name##_now SEC(".maps") INTERNAL = { .values = { (void *)&first } }

static __always_inline void *runner_now(void *now)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(now, &zero);
}

static __always_inline void *runner_aggregate(void *map, const void *key, const volatile void *zero, u64 *refused)
{
	struct runner_counters *c = runner_count();
	void *value;

	if (!map)
		return NULL; /* never: NAME_now always refers to one of the two */
	value = bpf_map_lookup_elem(map, key);
	if (c)
		c->seen++;
	if (value)
		return value;
	bpf_map_update_elem(map, key, (const void *)zero, BPF_NOEXIST); /* another CPU may have been first */
	value = bpf_map_lookup_elem(map, key);
	if (!value) {
		if (c)
			c->lost_map_full++;
		__sync_fetch_and_add(refused, 1);
	}
	return value;
}

/* `value` is libbpf's way to keep the value's type: a pointer to it. The verifier checks only one of the two calls. */
#define aggregate(name, key)                                                                                \
	((typeof((name).value))(runner_swap                                                                 \
		? runner_aggregate(runner_now(&name##_now), key, &name##_zero, &insert_failures_##name)             \
		: runner_aggregate(&(name), key, &name##_zero, &insert_failures_##name)))

/*
 * Beside an aggregate in a hash map: values of keys whose first member, a u32, is below `entries`, with all other members 0.
 * An array needs no hashing, which is most of a counter's cost. The runner reads both maps as one.
 *
 *	AGGREGATE_DENSE(calls, struct value, 512);
 *	struct value *v = aggregate_dense(calls, number);
 *	if (!v)
 *		v = aggregate(calls, &key);                     other keys, and larger numbers
 */
#define AGGREGATE_DENSE(name, V, entries)                          \
	struct {                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);           \
		__uint(max_entries, entries);                      \
		__type(key, u32);                                  \
		__type(value, V);                                  \
	} name##_dense SEC(".maps")

static __always_inline void *runner_aggregate_dense(void *map, u32 index)
{
	struct runner_counters *c = runner_count();
	void *value = bpf_map_lookup_elem(map, &index);

	if (value && c)
		c->seen++;
	return value;
}
#define aggregate_dense(name, index) ((typeof((name##_dense).value))runner_aggregate_dense(&(name##_dense), index))

static __always_inline void counter_add(u64 *counter, u64 by)
{
	__sync_fetch_and_add(counter, by);
}

/* The same without the cost of an atomic: for values of a per-CPU map, if no hook interrupts another. */
static __always_inline void counter_add_here(u64 *counter, u64 by)
{
	*counter += by;
}

/* The position of the highest bit, 0 for 0 and 1. (u64: verifiers up to 6.1 track bounds of all 64 bits or none.) */
static __always_inline u64 log2_of(u64 v)
{
	u64 r = 0, s;

	s = (v > 0xffffffff) << 5; v >>= s; r |= s;
	s = (v > 0xffff) << 4; v >>= s; r |= s;
	s = (v > 0xff) << 3; v >>= s; r |= s;
	s = (v > 0xf) << 2; v >>= s; r |= s;
	s = (v > 0x3) << 1; v >>= s; r |= s;
	return r | (v >> 1);
}

static __always_inline void hist_add(struct runner_hist *h, u64 value)
{
	u64 slot = log2_of(value);

	if (slot >= HIST_SLOTS)
		slot = HIST_SLOTS - 1;
	__sync_fetch_and_add(&h->slots[slot], 1);
	__sync_fetch_and_add(&h->sum, value);
	if (value > h->max)
		h->max = value;
}
