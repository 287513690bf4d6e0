// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How much of a disk's I/O is sequential: requests that start where the one before them ended.
 *
 * Requests are compared when they are issued: the disk gets them in that order, and completes them in another. A driver
 * may requeue a request; its second issue does not count.
 */
#include "aggregate.h"
#include "block.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	char device[32] DOC("Disk");
};
struct value {
	u64 sequential DOC("Requests that start where the previous request on the disk ended");
	u64 random DOC("Requests that start elsewhere");
	u64 requests KIND("events") DOC("All requests; the first one of a disk and zone appends are neither sequential nor random");
	u64 bytes UNIT("bytes") DOC("Total size of the requests");
};
AGGREGATE(PERCPU_HASH, patterns, struct key, struct value, 1024) DOC("Sequential and random block I/O requests by disk") TRY("direct_read");

ACCURACY(
	SEES("reads, writes, discards, secure erases, `write_zeroes` and `write_same`, when they are issued to the driver")
	SEES("a request that the driver requeues, once")
	NOT_SEEN("flushes, zone management and requests of the driver itself: they have no position on the disk")
	NOT_SEEN("disks without requests of their own: device mapper, md, zram, brd, multipath NVMe")
	OWNER("none: the task is unknown, so there are no filters on tasks")
	TIME("requests are in the order of their issue to the driver")
	EXACT("`requests` and `bytes`; a requeued request counts twice if the map `requeued` has evicted it")
	EXACT("`sequential` and `random`; the first request of a disk and zone appends count as neither")
	VARIANTS("one")
);

FILTER(struct runner_disk, device, 4) DOC("Only requests to these disks, by name or major:minor") = {};
/* The values of enum io_op that have a position on the disk */
enum placed_op {
	PLACED_READ = OP_READ,
	PLACED_WRITE = OP_WRITE,
	PLACED_DISCARD = OP_DISCARD,
	PLACED_SECURE_ERASE = OP_SECURE_ERASE,
	PLACED_WRITE_ZEROES = OP_WRITE_ZEROES,
	PLACED_WRITE_SAME = OP_WRITE_SAME,
};

FILTER(enum placed_op, op, 8) DOC("Only requests with these operations; other requests between them still make them random") = {};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH); /* after an eviction the disk's next request counts as its first one */
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} positions SEC(".maps") DOC("End of the last request on each disk");
INSERT_FAILURES(positions);

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH); /* an evicted request counts twice; nothing else goes wrong */
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u8);
} requeued SEC(".maps") DOC("Requests that the driver requeued and that were not issued again");
INSERT_FAILURES(requeued);

SEC("tp_btf/block_rq_issue")
int BPF_PROG(rq_issue, struct request *rq)
{
	u32 bytes = rq->__data_len, disk_number;
	enum io_op operation = io_op_of(rq->cmd_flags, bytes);
	/* The disk chooses where a zone append is written */
	bool placed = !is_req_op(rq->cmd_flags, ZONE_APPEND);
	u64 request = (u64)rq, first = rq->__sector, end = first + (bytes >> 9), *position, before = 0;
	struct gendisk *disk = disk_of(rq);
	struct key key = {};
	struct value *value;

	if (operation == OP_FLUSH || operation == OP_DRIVER || operation == OP_ZONE || !bytes) /* no position on the disk */
		return 0;
	if (!filter_passes_disk(device, disk))
		return 0;
	if (!bpf_map_delete_elem(&requeued, &request))
		return 0;
	disk_number = (u32)BPF_CORE_READ(disk, major) << 20 | (u32)BPF_CORE_READ(disk, first_minor);
	position = placed ? bpf_map_lookup_elem(&positions, &disk_number) : NULL;
	if (position) {
		before = *position + 1;
		*position = end;
	} else if (placed && bpf_map_update_elem(&positions, &disk_number, &end, BPF_ANY)) {
		lost_map_full(positions);
		return 0;
	}
	if (!filter_passes(op, (enum placed_op)operation))
		return 0;
	bpf_probe_read_kernel_str(key.device, sizeof(key.device), disk->disk_name);
	value = aggregate(patterns, &key);
	if (!value)
		return 0;
	counter_add(&value->requests, 1);
	counter_add(&value->bytes, bytes);
	if (before)
		counter_add(before == first + 1 ? &value->sequential : &value->random, 1);
	return 0;
}

SEC("tp_btf/block_rq_requeue")
int BPF_PROG(rq_requeue, struct request *rq)
{
	u64 request = (u64)rq;
	u8 one = 1;

	if (!filter_passes_disk(device, disk_of(rq)))
		return 0;
	/* No room: the request is counted twice */
	if (bpf_map_update_elem(&requeued, &request, &one, BPF_ANY))
		__sync_fetch_and_add(&insert_failures_requeued, 1);
	return 0;
}
