// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per block I/O request, when it completes.
 *
 * A request is followed by its address from the first hook that sees it in the context of who asked for it, through
 * issue to the driver, to its end. Issue and completion run in whatever task is at hand, so process and command are
 * taken at the start only.
 */
#include "block.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts AS("ktime") DOC("When the request completed");
	u32 pid DOC("Process that started the request");
	char comm[16] DOC("Command that started the request");
	char device[32] DOC("Disk");
	enum io_op op DOC("Operation");
	enum io_flag flags AS("bits") DOC("How it was asked for");
	u64 sector UNIT("sectors of 512 bytes") DOC("First sector");
	u32 bytes UNIT("bytes") DOC("Size; for a discard the size of the range");
	u64 queued_ns UNIT("ns") DOC("From the request's start to its (last) issue to the driver");
	u64 latency_ns UNIT("ns") DOC("From the (last) issue to completion; for a flush, from its start");
	s32 error AS("errno") DOC("0, or a negative error number");
} DOC("One block I/O request");
EVENT(event);

const volatile u64 min_latency_ns UNIT("ns") DOC("Only requests that took at least this long from issue to completion") = 0;
/* Those of who started the request */
TASK_FILTERS();
FILTER(struct runner_disk, device, 4) DOC("Only these disks, by name or major:minor") = {};
FILTER(enum io_op, op, 8) DOC("Only these operations") = {};

struct io {
	u64 start;
	u64 issue; /* 0: not with the driver */
	u64 sector;
	u32 bytes;
	u32 pid;
	enum io_op op;
	u32 flags;
	s32 error;
	char comm[16];
};

/* Not an LRU map: that would forget requests in silence. A refused insert is counted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct io);
} inflight SEC(".maps") DOC("Requests that are under way");
REFUSALS(inflight);

/* Follows `rq` if the filters want it. To be called only where the current task is the one that asked for it. */
static __always_inline struct io *track(struct request *rq, u64 key, u64 now)
{
	u32 flags = rq->cmd_flags, bytes = rq->__data_len;
	u64 id = bpf_get_current_pid_tgid();
	struct io io = {
		.start = now,
		.pid = id >> 32,
		.bytes = bytes,
		.op = io_op_of(flags, bytes),
		.flags = io_flags_of(flags),
	};

	if (!filter_passes(op, io.op) || !task_passes(id) || !filter_passes_disk(device, disk_of(rq)))
		return NULL;
	bpf_get_current_comm(io.comm, sizeof(io.comm));
	if (bpf_map_update_elem(&inflight, &key, &io, BPF_ANY)) {
		count_map_full(inflight);
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

/* Kernels before 6.5 have no block_io_start: there the request is first seen when it is queued or issued. */
static __always_inline struct io *find_or_track(struct request *rq, u64 now)
{
	struct io *io = find(rq);

	if (io || bpf_core_type_exists(btf_trace_block_io_done))
		return io;
	return track(rq, (u64)rq, now);
}

static __always_inline void finish(void *ctx, struct request *rq, struct io *io)
{
	u64 now = bpf_ktime_get_ns();
	u64 latency = now - (io->issue ? io->issue : io->start);
	struct event *e;

	if (latency >= min_latency_ns) {
		e = event_begin(struct event);
		if (e) {
			e->ts = now;
			e->sector = io->sector;
			e->queued_ns = io->issue ? io->issue - io->start : 0;
			e->latency_ns = latency;
			e->pid = io->pid;
			e->bytes = io->bytes;
			e->op = io->op;
			e->flags = io->flags;
			e->error = io->error;
			__builtin_memcpy(e->comm, io->comm, sizeof(e->comm));
			bpf_probe_read_kernel_str(e->device, sizeof(e->device), disk_of(rq)->disk_name);
			event_end(ctx, e);
		}
	}
	forget(rq);
}

SEC("tp_btf/block_io_start")
OPTIONAL int BPF_PROG(io_start, struct request *rq)
{
	forget(rq); /* request structs are used again: what is left of the last use ends here */
	track(rq, (u64)rq, bpf_ktime_get_ns());
	return 0;
}

SEC("tp_btf/block_rq_insert")
int BPF_PROG(rq_insert, struct request *rq)
{
	find_or_track(rq, bpf_ktime_get_ns());
	return 0;
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(rq_issue, struct request *rq)
{
	u64 now = bpf_ktime_get_ns();
	struct io *io = find_or_track(rq, now);

	if (!io)
		return 0;
	io->issue = now;
	/* Here, not at the start: until now the request could grow. Not later: at its end these are used up. */
	io->sector = rq->__sector;
	io->bytes = rq->__data_len;
	return 0;
}

/* The driver gave it back, common on virtio: what follows until the next issue is time in the queue. */
SEC("tp_btf/block_rq_requeue")
int BPF_PROG(rq_requeue, struct request *rq)
{
	struct io *io = find(rq);

	if (io)
		io->issue = 0;
	return 0;
}

/* Swallowed by another request: it has no end of its own. */
SEC("tp_btf/block_rq_merge")
int BPF_PROG(rq_merge, struct request *rq)
{
	forget(rq);
	return 0;
}

/* May come several times for one request; `rq->__data_len` is still what was left before this time. */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(rq_complete, struct request *rq, int status, unsigned int nr_bytes)
{
	struct io *io = find(rq);

	if (!io)
		return 0;
	status = status > 0 ? status & 0xff : status; /* blk_status_t is one byte wide */
	if (status)
		io->error = io_error_of(status);
	if (!bpf_core_type_exists(btf_trace_block_io_done) && nr_bytes >= rq->__data_len)
		finish(ctx, rq, io);
	return 0;
}

SEC("tp_btf/block_io_done")
OPTIONAL int BPF_PROG(io_done, struct request *rq)
{
	struct io *io = find(rq);

	if (io)
		finish(ctx, rq, io);
	return 0;
}
