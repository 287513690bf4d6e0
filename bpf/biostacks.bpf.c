// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How long block I/O requests take, as histograms by command, disk and the kernel's stack when the request was started.
 *
 * The stack is taken at the tracepoint of a request's start (request.h), in the task that starts it. So no hook depends on
 * a function that the compiler may have inlined.
 */
#include "aggregate.h"
#include "block.h"
#include "stack.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	char comm[16] DOC("Name of the thread that started the requests");
	char device[32] DOC("Disk");
	u64 kernel_stack KIND("kernel_stack") DOC("Kernel stack at the start of the requests");
};
struct value {
	struct runner_hist latency_ns UNIT("ns") DOC("Time from the last issue to completion; from the start with `queued: true`, for a flush, and if the driver refuses the request");
};
AGGREGATE(HASH, latencies, struct key, struct value, 8192) DOC("Latencies of block I/O by thread name, disk and kernel stack") TRY("direct_read");

const volatile bool queued DOC("true: latency is measured from the request's start and includes the time in the queue") = false;

struct io {
	struct request_times times;
	enum io_op op;
	u64 kernel_stack;
	char comm[16];
};
#include "request.h"

ACCURACY(
	REQUEST_SEES
	REQUEST_NOT_SEEN
	REQUEST_OWNER
	OWNER("the kernel stack is taken in that task, at the same moment")
	TIME("last issue to completion; from the start with `queued: true`, for a flush, and if the driver refuses the request")
	REQUEST_TIME
	EXACT("counts and sums; percentiles are estimates within a bucket; a bucket spans one power of two")
	EXACT("`max` may miss the largest value if two requests with one stack end at the same moment")
	REQUEST_EXACT
	REQUEST_VARIANTS
);

static __always_inline void request_begins(void *ctx, struct request *rq, struct io *io)
{
	io->kernel_stack = kernel_stack_id(ctx);
	bpf_get_current_comm(io->comm, sizeof(io->comm));
}

static __always_inline void request_issued(struct request *rq, struct io *io)
{
}

static __always_inline void request_fails(struct io *io, s32 error)
{
}

static __always_inline void request_ends(void *ctx, struct request *rq, struct io *io, u64 now)
{
	struct key key = {.kernel_stack = io->kernel_stack};
	struct value *value;

	__builtin_memcpy(key.comm, io->comm, sizeof(key.comm));
	bpf_probe_read_kernel_str(key.device, sizeof(key.device), disk_of(rq)->disk_name);
	value = aggregate(latencies, &key);
	if (value)
		hist_add(&value->latency_ns, queued ? now - io->times.start : request_latency(io, now));
}
