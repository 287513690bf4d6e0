/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The life of a block I/O request, for programs that follow requests: start, insert, issue, requeue, merge, completion.
 *
 * A request is followed by its address, from the first hook that runs in the task that started it, to its end. Issue and
 * completion run in an unrelated task, so everything about the task is taken at the start. The program defines what it
 * remembers of a request, includes this file after that, and defines the four functions below:
 *
 *	#include "block.h"
 *	struct io { struct request_times times; ... };
 *	#include "request.h"
 */
#pragma once

#include "block.h"

/* What the program does at each step. The filters on tasks, disks and operations are evaluated before the first one. */
static __always_inline void request_begins(void *ctx, struct request *rq, struct io *io);  /* the current task started it */
/* Issued to the driver, or ended without that; it no longer grows. */
static __always_inline void request_issued(struct request *rq, struct io *io);
static __always_inline void request_fails(struct io *io, s32 error);
static __always_inline void request_ends(void *ctx, struct request *rq, struct io *io, u64 now); /* `__data_len` lacks the parts that completed before */

/* What these programs have in common in ACCURACY() */
#define REQUEST_SEES                                                                                            \
	SEES("requests to disks that have a directory `/sys/block/NAME/mq`, when they complete, also with an error") \
	SEES("requests that a driver makes or passes on (`op: driver`)")
#define REQUEST_NOT_SEEN                                                                                        \
	NOT_SEEN("disks without requests of their own: device mapper, md, zram, brd, multipath NVMe")           \
	NOT_SEEN("a request that is merged into another one; the other one is seen")                                    \
	NOT_SEEN("requests that began before the capture (before 6.5: that were in a scheduler or the driver)")     \
	NOT_SEEN("I/O that fails before it becomes a request, as on a disk that was removed")                        \
	NOT_SEEN("the flush after a write that the block layer splits: the write ends with its data")          \
	NOT_SEEN("requests that have not completed at the end: counted as `in_flight`")                             \
	NOT_SEEN("requests whose start the host hides from tracing programs; not counted")
#define REQUEST_OWNER                                                                                           \
	OWNER("the task that started the request; for buffered writes often a kernel worker")                   \
	OWNER("before 6.5: the task that queued or issued it; for flushes and some others a kernel worker")
#define REQUEST_TIME TIME("before 6.5: the start is when the request is queued or issued")
#define REQUEST_EXACT EXACT("`unseen` is an upper bound of the requests whose end no hook saw")
#define REQUEST_VARIANTS VARIANTS("one; the tracepoint `block_io_start` (6.5) is optional")

/* On the task that started the request */
TASK_FILTERS();
FILTER(struct runner_disk, device, 4) DOC("Only requests to these disks, by name or major:minor") = {};
FILTER(enum io_op, op, 8) DOC("Only requests with these operations") = {};

/* Not an LRU map: that would evict requests without counting them. A failed insert is counted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct io);
} inflight SEC(".maps") DOC("Requests that have started and not completed") IN_FLIGHT("requests under way");
INSERT_FAILURES(inflight);
UNSEEN_ENDS(inflight);

/* From the last issue to `now`; from the start if the driver does not have it: flushes, and requests that it refuses. */
static __always_inline u64 request_latency(const struct io *io, u64 now)
{
	return now - (io->times.issue ? io->times.issue : io->times.start);
}

/* Follows `rq` if it passes the filters. To be called only where the current task started it. */
static __always_inline struct io *track(void *ctx, struct request *rq, u64 now)
{
	struct io io = {.times.start = now};
	u64 key = (u64)rq;

	io.op = io_op_of(rq->cmd_flags, rq->__data_len);
	if (!filter_passes(op, io.op) || !task_passes(bpf_get_current_pid_tgid()) || !filter_passes_disk(device, disk_of(rq)))
		return NULL;
	request_begins(ctx, rq, &io);
	if (bpf_map_update_elem(&inflight, &key, &io, BPF_ANY)) {
		lost_map_full(inflight);
		return NULL;
	}
	return bpf_map_lookup_elem(&inflight, &key);
}

static __always_inline struct io *find(struct request *rq)
{
	u64 key = (u64)rq;

	return bpf_map_lookup_elem(&inflight, &key);
}

static __always_inline void forget(struct request *rq)
{
	u64 key = (u64)rq;

	bpf_map_delete_elem(&inflight, &key);
}

/* Request structs are reused: an entry of the last use has ended, and no hook saw that. */
static __always_inline void forget_last_use(struct request *rq)
{
	u64 key = (u64)rq;

	if (!bpf_map_delete_elem(&inflight, &key))
		count_end_unseen(inflight);
}

/* Whether a scheduler had it: then block_rq_insert fired before, in the task that started it. */
static __always_inline bool was_inserted(struct request *rq)
{
	u32 flags = io_flags_of(rq->cmd_flags);

	return BPF_CORE_READ(rq, q, elevator) && !(flags & (IO_PREFLUSH | IO_FUA)) &&
	       io_op_of(rq->cmd_flags, rq->__data_len) != OP_DRIVER;
}

/*
 * Kernels before 6.5 have no block_io_start: there the request is first seen when it is queued or issued. Another task may
 * issue a queued request, and the filters do not apply to that task.
 */
static __always_inline struct io *find_or_track(void *ctx, struct request *rq, u64 now, bool at_issue)
{
	struct io *io = find(rq);

	if (bpf_core_type_exists(btf_trace_block_io_start))
		return io;
	/* Not with the driver, or requeued: still the same request. Otherwise this is the struct's next use */
	if (io && !io->times.issue)
		return io;
	if (io)
		forget_last_use(rq);
	return at_issue && was_inserted(rq) ? NULL : track(ctx, rq, now);
}

/*
 * Before 6.5, a request that the driver refuses at once reaches only the hook on its end, in the task that started it. (A
 * request that the driver had is no longer idle at its end.)
 */
static __always_inline bool is_first_seen_refused(struct request *rq, int status)
{
	return !bpf_core_type_exists(btf_trace_block_io_start) && status && BPF_CORE_READ(rq, state) == MQ_RQ_IDLE &&
	       !was_inserted(rq);
}

static __always_inline void finish(void *ctx, struct request *rq, struct io *io)
{
	request_ends(ctx, rq, io, bpf_ktime_get_ns());
	forget(rq);
}

SEC("tp_btf/block_io_start")
OPTIONAL int BPF_PROG(io_start, struct request *rq)
{
	forget_last_use(rq);
	track(ctx, rq, bpf_ktime_get_ns());
	return 0;
}

SEC("tp_btf/block_rq_insert")
int BPF_PROG(rq_insert, struct request *rq)
{
	find_or_track(ctx, rq, bpf_ktime_get_ns(), false);
	return 0;
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(rq_issue, struct request *rq)
{
	u64 now = bpf_ktime_get_ns();
	struct io *io = find_or_track(ctx, rq, now, true);

	if (!io)
		return 0;
	io->times.issue = now;
	request_issued(rq, io);
	return 0;
}

/* The driver requeues it, common on virtio: the time until the next issue is time in the queue. */
SEC("tp_btf/block_rq_requeue")
int BPF_PROG(rq_requeue, struct request *rq)
{
	struct io *io = find(rq);

	if (io)
		io->times.issue = 0;
	return 0;
}

/* Merged into another request: it has no end of its own. */
SEC("tp_btf/block_rq_merge")
int BPF_PROG(rq_merge, struct request *rq)
{
	forget(rq);
	return 0;
}

/*
 * Can fire several times for one request; `rq->__data_len` is still what was left before this time. Not block_io_done: that
 * never fires for requests of the driver itself, nor on a disk without `iostats` and scheduler.
 */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(rq_complete, struct request *rq, int status, unsigned int nr_bytes)
{
	struct io *io = find(rq);

	if (!io && is_first_seen_refused(rq, status))
		io = track(ctx, rq, bpf_ktime_get_ns());
	if (!io)
		return 0;
	if (!io->times.issue)
		request_issued(rq, io);
	status = status > 0 ? status & 0xff : status; /* blk_status_t is one byte wide */
	if (status)
		request_fails(io, io_error_of(status));
	if (nr_bytes >= rq->__data_len)
		finish(ctx, rq, io);
	else
		io->times.done += nr_bytes;
	return 0;
}
