// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* How long block I/O requests take, as histograms by disk and operation. */
#include "aggregate.h"
#include "block.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	char device[32] DOC("Disk");
	enum io_op op DOC("Operation");
};
struct value {
	struct runner_hist latency_ns UNIT("ns") DOC("Time from the last issue to completion; from the start with `queued: true`, for a flush, and if the driver refuses the request");
};
AGGREGATE(PERCPU_HASH, latencies, struct key, struct value, 1024) DOC("Latencies of block I/O by disk and operation") TRY("direct_read");

const volatile bool queued DOC("true: latency is measured from the request's start and includes the time in the queue") = false;

struct io {
	struct request_times times;
	enum io_op op;
	u32 unused;
};
#include "request.h"

ACCURACY(
	REQUEST_SEES
	REQUEST_NOT_SEEN
	REQUEST_OWNER
	TIME("last issue to completion; from the start with `queued: true`, for a flush, and if the driver refuses the request")
	REQUEST_TIME
	EXACT("counts and sums; percentiles are estimates within a bucket; a bucket spans one power of two")
	REQUEST_EXACT
	REQUEST_VARIANTS
);

static __always_inline void request_begins(void *ctx, struct request *rq, struct io *io)
{
}

static __always_inline void request_issued(struct request *rq, struct io *io)
{
}

static __always_inline void request_fails(struct io *io, s32 error)
{
}

static __always_inline void request_ends(void *ctx, struct request *rq, struct io *io, u64 now)
{
	struct key key = {.op = io->op};
	struct value *value;

	bpf_probe_read_kernel_str(key.device, sizeof(key.device), disk_of(rq)->disk_name);
	value = aggregate(latencies, &key);
	if (value)
		hist_add(&value->latency_ns, queued ? now - io->times.start : request_latency(io, now));
}
