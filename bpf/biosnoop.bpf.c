// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One event per block I/O request, when it completes. */
#include "block.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts KIND("ktime") DOC("Time at which the request completed");
	u32 pid DOC("Process ID of the task that started the request");
	char comm[16] DOC("Name of the thread that started the request");
	char device[32] DOC("Disk");
	enum io_op op DOC("Operation");
	enum io_flag flags KIND("bits") DOC("Flags of the request");
	u64 sector UNIT("sectors of 512 bytes") DOC("First sector on the disk");
	u32 bytes UNIT("bytes") DOC("Size of the request; of a discard: the size of the range");
	u64 queued_ns UNIT("ns") DOC("Time from the request's start to its last issue to the driver");
	u64 latency_ns UNIT("ns") DOC("Time from the last issue to completion; from the start for a flush, and if the driver refuses the request");
	s32 error KIND("errno") DOC("Result: 0 or a negative errno");
	char process_comm[16] DOC("Name of the process that started the request");
} DOC("A block I/O request that completed") TRY("direct_read");
EVENT(event);

const volatile u64 min_latency_ns UNIT("ns") DOC("Only requests with a latency of at least this") = 0;

struct io {
	struct request_times times;
	u64 sector;
	u32 bytes;
	u32 pid;
	enum io_op op;
	u32 flags;
	s32 error;
	char comm[16];
	char process_comm[16];
};
#include "request.h"

ACCURACY(
	REQUEST_SEES
	REQUEST_NOT_SEEN
	REQUEST_OWNER
	TIME("`ts`: completion; `queued_ns`: start to last issue; `latency_ns`: last issue to completion (flushes and refused requests: from the start)")
	REQUEST_TIME
	EXACT("one record for a request, also if the driver requeues it or it completes in parts")
	EXACT("`sector` and `bytes`: as issued to the driver; of a zone append: where the disk wrote it")
	REQUEST_EXACT
	REQUEST_VARIANTS
);

static __always_inline void request_begins(void *ctx, struct request *rq, struct io *io)
{
	u64 id = bpf_get_current_pid_tgid();

	io->pid = id >> 32;
	io->bytes = rq->__data_len;
	io->flags = io_flags_of(rq->cmd_flags);
	bpf_get_current_comm(io->comm, sizeof(io->comm));
	process_name_or(&io->process_comm, (struct task_struct *)bpf_get_current_task(), id >> 32 == (u32)id, io->comm);
}

static __always_inline void request_issued(struct request *rq, struct io *io)
{
	/* Not at the start: the request could still grow. Not at the end: parts that completed are no longer included. */
	io->sector = first_sector_of(rq) - io->times.done / 512;
	io->bytes = rq->__data_len + io->times.done;
}

static __always_inline void request_fails(struct io *io, s32 error)
{
	io->error = error;
}

static __always_inline void request_ends(void *ctx, struct request *rq, struct io *io, u64 now)
{
	u64 latency = request_latency(io, now);
	struct event *e;

	if (latency < min_latency_ns)
		return;
	e = event_begin(struct event);
	if (!e)
		return;
	e->ts = now;
	e->sector = io->sector;
	if (is_req_op(rq->cmd_flags, ZONE_APPEND)) /* the disk chose the sector, and the driver has it by now */
		e->sector = BPF_CORE_READ(rq, __sector);
	e->queued_ns = io->times.issue ? io->times.issue - io->times.start : 0;
	e->latency_ns = latency;
	e->pid = io->pid;
	e->bytes = io->bytes;
	e->op = io->op;
	e->flags = io->flags;
	e->error = io->error;
	__builtin_memcpy(e->comm, io->comm, sizeof(e->comm));
	__builtin_memcpy(e->process_comm, io->process_comm, sizeof(e->process_comm));
	bpf_probe_read_kernel_str(e->device, sizeof(e->device), disk_of(rq)->disk_name);
	event_end(ctx, e);
}
