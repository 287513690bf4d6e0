// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How long block I/O requests take, as histograms by command, disk and the kernel's stack when the request was started.
 *
 * The stack is taken at the tracepoint where a request begins (request.h), in the task that begins it: no function is
 * hooked that a compiler could have inlined.
 */
#include "aggregate.h"
#include "block.h"
#include "stack.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	char comm[16] DOC("Name of the thread that started the requests");
	char device[32] DOC("Disk");
	u64 kernel_stack KIND("kernel_stack") DOC("How the kernel came to start them");
};
struct value {
	struct runner_hist latency_ns UNIT("ns") DOC("From the (last) issue to completion; for a flush, if the driver refuses it and with `queued: true` from the start");
};
AGGREGATE(HASH, latencies, struct key, struct value, 8192) DOC("Latencies of block I/O by who started it, with the stack") TRY("direct_read");

const volatile bool queued DOC("true: from the request's start, so that its time in the queue counts too") = false;

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
	OWNER("the kernel stack is that of the same moment")
	TIME("last issue to completion; with `queued: true`, for a flush, and if the driver refuses it, from the request's start")
	REQUEST_TIME
	EXACT("counts and sums; percentiles are estimates within a bucket, which is from one power of two to the next")
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
