/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The runner's C API. A program includes this file, and depends on nothing else of the runner.
 *
 *	struct event { u64 ts KIND("ktime") DOC("..."); ... } DOC("...");
 *	EVENT(event);
 *	...
 *	struct event *e = event_begin(struct event);
 *	if (!e)
 *		return 0;                       // the loss is counted already
 *	e->... = ...;
 *	event_end(ctx, e);
 *
 * docs/reference/program-api.md has the reference.
 */
#pragma once

#include "kernel_types.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* Tags. The compiler puts them into the object's BTF, where the runner reads them; an unknown tag fails the tests. */
#define DOC(text) __attribute__((btf_decl_tag("doc:" text)))
#define UNIT(unit) __attribute__((btf_decl_tag("unit:" unit)))
#define KIND(meaning) __attribute__((btf_decl_tag("as:" meaning)))
/*
 * On the event struct, or on the aggregate's map: the load with which `ebpf-run doctor --try` runs the program. The names
 * are those of `Load` in src/catalog/load.rs. No tag: no harmless load causes its events.
 */
#define TRY(load) __attribute__((btf_decl_tag("try:" load)))
/* Neither a field nor a filter: for the runner itself, or part of another member. */
#define INTERNAL __attribute__((btf_decl_tag("internal")))
/*
 * On a map: its entries are operations that have begun and not ended. A value begins with a u64: the start time, or 0 while
 * no operation is under way. At the end of the window the runner counts the values that are not 0 as `in_flight`; `what`
 * names them.
 */
#define IN_FLIGHT(what) __attribute__((btf_decl_tag("in_flight:" what)))
/* On a BPF function: optional, not attached if the kernel lacks its tracepoint. */
#define OPTIONAL __attribute__((btf_decl_tag("optional")))
/* On a BPF function: "filter=value"; the hook is not attached if a probe sets this filter to this value. */
#define SKIP_IF(condition) __attribute__((btf_decl_tag("skip_if:" condition)))
/*
 * On a BPF function: one of several alternatives. All functions of a `group` with the same `variant` are attached together.
 * Of the variants, in the order of the file, only the first one that this kernel accepts is attached.
 *	SEC("fentry/tcp_connect") ALTERNATIVE("connect", "fentry") ...
 *	SEC("kprobe/tcp_connect") ALTERNATIVE("connect", "kprobe") ...
 */
#define ALTERNATIVE(group, variant) __attribute__((btf_decl_tag("alternative:" group "/" variant)))
/*
 * On a BPF function in SEC("perf_event"): the perf event that runs it, on every CPU that is online. `sources` are names of
 * enum perf_source (perf.h) in order of preference, "cycles|cpu_clock". `variable` names the filter that overrides the
 * choice (0: order of preference), `rate` the filter that sets the frequency or period.
 */
#define PERF_EVENT(sources, variable, rate) __attribute__((btf_decl_tag("perf_event:" sources "," variable "," rate)))

/*
 * What the program sees and what it does not, for `describe` and docs/explanation/accuracy.md. Each tag is a phrase. An
 * aspect may have several, and every program has all aspects.
 *	ACCURACY(SEES("...") SEES("...") NOT_SEEN("...") OWNER("...") TIME("...") EXACT("...") VARIANTS("..."));
 * The variable is never read. It carries the tags, and takes a byte of .rodata.
 */
#define ACCURACY(...) const char runner_accuracy INTERNAL __VA_ARGS__ = 0
#define SEES(phrase) __attribute__((btf_decl_tag("sees:" phrase)))
#define NOT_SEEN(phrase) __attribute__((btf_decl_tag("not_seen:" phrase)))
#define OWNER(phrase) __attribute__((btf_decl_tag("owner:" phrase)))   /* the task that a record belongs to */
#define TIME(phrase) __attribute__((btf_decl_tag("time:" phrase)))     /* the moments at which its times are taken */
#define EXACT(phrase) __attribute__((btf_decl_tag("exact:" phrase)))   /* which numbers are exact, which are bounds */
#define VARIANTS(phrase) __attribute__((btf_decl_tag("variants:" phrase))) /* how its variants and kernels differ */

/*
 * Declares the event type. The pointer is never read: it keeps the struct in BTF, and takes eight bytes of .rodata.
 *
 * An event is built in the scratch space if it can't be built in the buffer itself (`submit: output`, perf buffer). Another
 * program of the same object can interrupt a program, so there are several slots per CPU.
 */
#define EVENT(tag)                                           \
	const struct tag *const volatile runner_event INTERNAL = 0; \
	struct {                                             \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);     \
		__uint(max_entries, RUNNER_SCRATCH);         \
		__type(key, u32);                            \
		__type(value, struct tag);                   \
	} scratch SEC(".maps")
#define RUNNER_SCRATCH 4

/* A field that is a list of texts. The texts are contiguous, each with its NUL, in the event's last member,
 * `char tail[N] INTERNAL`. A struct has at most one list or text. */
struct runner_list {
	u32 len; /* bytes of `tail` in use */
	u32 cut; /* not 0: more did not fit */
};

/* The same for one text. Unlike with a char array, a record can be as short as the text (event_begin_cut). */
struct runner_text {
	u32 len; /* bytes of `tail` in use, the NUL among them; 0: could not be read, and shown as `…` */
};

#define ENOSPC 28

/* How records are sent. The runner gives the map `events` the type that goes with it. */
enum runner_transport { RUNNER_RESERVE, RUNNER_OUTPUT, RUNNER_PERF };

/* Set by the runner before load. The verifier treats them as constants and deletes the branches not taken. */
const volatile u32 runner_self INTERNAL = 0; /* the runner's own process, 0: unknown */
const volatile u32 runner_helper INTERNAL = 0; /* the parent of the processes that look up symbols for it, 0: none */
const volatile u32 runner_transport INTERNAL = RUNNER_RESERVE;
/* Wakeups of the ring buffer; those of a perf buffer are up to the kernel. If all three numbers are 0, the flags decide. */
const volatile u32 runner_wakeup_flags INTERNAL = 0;  /* 0: the kernel decides, BPF_RB_NO_WAKEUP, BPF_RB_FORCE_WAKEUP */
const volatile u32 runner_wakeup_bytes INTERNAL = 0;  /* wake when this many bytes are unread */
const volatile u32 runner_wakeup_band INTERNAL = 0;   /* ... and only up to this many bytes more */
const volatile u32 runner_wakeup_events INTERNAL = 0; /* wake after this many records of a CPU */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

/* Counts in the kernel, per CPU. The runner adds them up at the end. */
struct runner_counters {
	u64 seen;             /* events that passed every filter */
	u64 lost_buffer_full; /* of these, not sent: the buffer had no room */
	u64 lost_map_full;    /* of these, not followed: a map had no room */
	u64 lost_other;       /* of these, not sent: no scratch space was free, or the CPU has no perf buffer */
	u64 peak_unread;      /* ring buffer: the most bytes that were unread */
	u32 unsignalled;      /* records since the last wakeup, for runner_wakeup_events */
	u32 depth;            /* scratch slots in use */
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct runner_counters);
} counters SEC(".maps");

static __always_inline struct runner_counters *runner_count(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

/*
 * Beside every map that can be full: the number of failed inserts. It is one number for all CPUs, updated by an atomic
 * addition: failures are rare. 5.10 supports atomic additions whose result is not used.
 *
 *	struct { ... } inflight SEC(".maps") DOC("...");
 *	INSERT_FAILURES(inflight);
 */
#define INSERT_FAILURES(map) u64 insert_failures_##map INTERNAL = 0

/*
 * After a map with IN_FLIGHT(): the number of entries whose end no hook saw. The runner reads it, and adds the entries older
 * than a minute that it deletes when inserts fail.
 */
#define UNSEEN_ENDS(map) u64 unseen_##map INTERNAL = 0
#define count_end_unseen(map) __sync_fetch_and_add(&unseen_##map, 1)

/* Counts an event that could not be followed because the insert into `map` failed. */
#define lost_map_full(map) runner_map_full(&insert_failures_##map)
static __always_inline void runner_map_full(u64 *refused)
{
	struct runner_counters *c = runner_count();

	__sync_fetch_and_add(refused, 1);
	if (c) {
		c->seen++;
		c->lost_map_full++;
	}
}

/*
 * Room for one record of `size` bytes (a constant and a multiple of 8), all zero; or NULL, and the loss is counted. Zeroed
 * because the memory is reused: bytes that a program does not set, padding too, must not leak.
 */
static __always_inline void *runner_reserve(void *scratch_map, u32 size)
{
	struct runner_counters *c = runner_count();
	volatile u64 *words; /* volatile: otherwise clang turns the loop into a call of memset() */
	u32 slot;

	if (!c) /* never: the map has the entry */
		return NULL;
	c->seen++;
	if (runner_transport == RUNNER_RESERVE) {
		words = bpf_ringbuf_reserve(&events, size, 0);
		if (!words) {
			c->lost_buffer_full++;
			c->peak_unread = bpf_ringbuf_query(&events, BPF_RB_RING_SIZE);
			return NULL;
		}
	} else {
		slot = c->depth;
		words = slot < RUNNER_SCRATCH ? bpf_map_lookup_elem(scratch_map, &slot) : NULL;
		if (!words) {
			c->lost_other++;
			return NULL;
		}
		c->depth++;
	}
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < size / 8; i++)
		words[i] = 0;
	return (void *)words;
}

/*
 * Wakes the runner when the unread bytes cross the threshold, not while they stay above it: otherwise every record above the
 * threshold would cost a wakeup. The unsigned difference makes the threshold a band, so that a wakeup happens even if
 * several CPUs cross it together. Records that never cross it are read by the runner's timer (max_latency).
 */
static __always_inline u64 runner_wakeup(struct runner_counters *c)
{
	u64 unread = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);

	if (c && unread > c->peak_unread)
		c->peak_unread = unread;
	if (runner_wakeup_bytes)
		return unread - runner_wakeup_bytes < runner_wakeup_band ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
	if (runner_wakeup_events) {
		if (!c || ++c->unsignalled < runner_wakeup_events)
			return BPF_RB_NO_WAKEUP;
		c->unsignalled = 0;
		return BPF_RB_FORCE_WAKEUP;
	}
	return runner_wakeup_flags;
}

static __always_inline void runner_send(void *ctx, void *record, u32 size)
{
	struct runner_counters *c = runner_count();
	long failed;

	if (runner_transport == RUNNER_RESERVE) {
		bpf_ringbuf_submit(record, runner_wakeup(c));
		return;
	}
	if (runner_transport == RUNNER_OUTPUT)
		failed = bpf_ringbuf_output(&events, record, size, runner_wakeup(c));
	else
		failed = bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, record, size);
	if (!c)
		return;
	c->depth--;
	if (failed && runner_transport == RUNNER_PERF && failed != -ENOSPC) {
		c->lost_other++; /* a CPU that was offline when the buffers were created, or since then, has none */
	} else if (failed) {
		c->lost_buffer_full++;
		if (runner_transport == RUNNER_OUTPUT)
			c->peak_unread = bpf_ringbuf_query(&events, BPF_RB_RING_SIZE);
	}
}

#define event_begin(T) ((T *)runner_reserve(&scratch, sizeof(T)))
/* `ctx` is the program's first argument: a perf buffer needs it. */
#define event_end(ctx, e) runner_send(ctx, e, sizeof(*(e)))
/* A record whose last member, `tail`, has only `size` bytes: a constant that makes the record a multiple of 8. */
#define event_begin_cut(T, size) ((T *)runner_reserve(&scratch, __builtin_offsetof(T, tail) + (size)))
#define event_end_cut(ctx, e, size) runner_send(ctx, e, __builtin_offsetof(typeof(*(e)), tail) + (size))
