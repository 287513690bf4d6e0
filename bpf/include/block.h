/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shared by programs on block I/O: disk, operation, flags and error of a request, independent of the kernel version. */
#pragma once

#include "task.h"

/* REQ_OP_* of include/linux/blk_types.h; zone append is a write. Not the kernel's numbers, which change between releases: an
 * operation that is not in the list keeps its own number, below 256. */
enum io_op {
	OP_READ = 256,
	OP_WRITE,
	OP_FLUSH,
	OP_DISCARD,
	OP_SECURE_ERASE,
	OP_WRITE_ZEROES,
	OP_WRITE_SAME,
	OP_ZONE,
	OP_DRIVER,
};

/* Our own bits: the kernel's change between releases */
enum io_flag {
	IO_SYNC = 1,
	IO_META = 2,
	IO_PRIO = 4,
	IO_FUA = 8,
	IO_PREFLUSH = 16,
	IO_READAHEAD = 32,
	IO_BACKGROUND = 64,
	IO_NOWAIT = 128,
};

/* The first member of what a program that follows requests remembers of each (request.h) */
struct request_times {
	u64 start;
	u64 issue; /* 0: not with the driver */
	u64 done;  /* bytes that have completed; the rest may be issued again */
};

static __always_inline bool has_flag(u32 cmd_flags, u32 bit)
{
	return cmd_flags & (1U << bit);
}

#define REQ_OP_MASK 0xff /* REQ_OP_BITS */

/* Whether a request's operation is REQ_OP_`name` of the running kernel. */
#define is_old_req_op(cmd_flags, name)                                            \
	(bpf_core_enum_value_exists(enum req_opf, REQ_OP_##name##___opf) &&      \
	 ((cmd_flags) & REQ_OP_MASK) == bpf_core_enum_value(enum req_opf, REQ_OP_##name##___opf))
#define is_req_op(cmd_flags, name)                                                \
	((bpf_core_enum_value_exists(enum req_op, REQ_OP_##name) &&              \
	  ((cmd_flags) & REQ_OP_MASK) == bpf_core_enum_value(enum req_op, REQ_OP_##name)) || \
	 is_old_req_op(cmd_flags, name))

static __always_inline enum io_op io_op_of(u32 cmd_flags, u32 bytes)
{
	/* A flush starts as an empty write with the preflush flag */
	if (!bytes && has_flag(cmd_flags, bpf_core_enum_value(enum req_flag_bits, __REQ_PREFLUSH)))
		return OP_FLUSH;
	if (is_req_op(cmd_flags, READ))
		return OP_READ;
	if (is_req_op(cmd_flags, WRITE) || is_req_op(cmd_flags, ZONE_APPEND))
		return OP_WRITE;
	if (is_req_op(cmd_flags, FLUSH))
		return OP_FLUSH;
	if (is_req_op(cmd_flags, DISCARD))
		return OP_DISCARD;
	if (is_req_op(cmd_flags, WRITE_ZEROES))
		return OP_WRITE_ZEROES;
	if (is_req_op(cmd_flags, SECURE_ERASE))
		return OP_SECURE_ERASE;
	if (is_old_req_op(cmd_flags, WRITE_SAME))
		return OP_WRITE_SAME;
	if (is_req_op(cmd_flags, DRV_IN) || is_req_op(cmd_flags, DRV_OUT) || is_old_req_op(cmd_flags, SCSI_IN) ||
	    is_old_req_op(cmd_flags, SCSI_OUT))
		return OP_DRIVER;
	if (is_req_op(cmd_flags, ZONE_OPEN) || is_req_op(cmd_flags, ZONE_CLOSE) || is_req_op(cmd_flags, ZONE_FINISH) ||
	    is_req_op(cmd_flags, ZONE_RESET) || is_req_op(cmd_flags, ZONE_RESET_ALL))
		return OP_ZONE;
	return cmd_flags & REQ_OP_MASK;
}

/* First sector of the request; 0 if it has no position: the kernel uses the largest number for that. */
static __always_inline u64 first_sector_of(struct request *rq)
{
	u64 sector = rq->__sector;

	return sector == ~0ULL ? 0 : sector;
}

static __always_inline u32 io_flags_of(u32 cmd_flags)
{
	u32 flags = 0;

#define IO_FLAG(ours, theirs)                                                     \
	if (has_flag(cmd_flags, bpf_core_enum_value(enum req_flag_bits, theirs))) \
		flags |= ours;
	IO_FLAG(IO_SYNC, __REQ_SYNC)
	IO_FLAG(IO_META, __REQ_META)
	IO_FLAG(IO_PRIO, __REQ_PRIO)
	IO_FLAG(IO_FUA, __REQ_FUA)
	IO_FLAG(IO_PREFLUSH, __REQ_PREFLUSH)
	IO_FLAG(IO_READAHEAD, __REQ_RAHEAD)
	IO_FLAG(IO_BACKGROUND, __REQ_BACKGROUND)
	IO_FLAG(IO_NOWAIT, __REQ_NOWAIT)
#undef IO_FLAG
	return flags;
}

/* blk_status_t to a negative errno, as in block/blk-core.c (blk_errors[]). Some kernels pass an errno already. */
static __always_inline s32 io_error_of(s32 status)
{
	if (status <= 0)
		return status;
	/* To the numbers of kernels before 6.10 */
	if (status >= 14 && (bpf_core_enum_value_exists(enum req_flag_bits, __REQ_ATOMIC) ||
			     bpf_core_type_exists(struct blk_zone_wplug)))
		status = status < 18 ? status + 1 : 19;
	switch (status) {
	case 1: /* BLK_STS_NOTSUPP */
		return -95; /* EOPNOTSUPP */
	case 2: /* BLK_STS_TIMEOUT */
		return -110; /* ETIMEDOUT */
	case 3: /* BLK_STS_NOSPC */
		return -28; /* ENOSPC */
	case 4: /* BLK_STS_TRANSPORT */
		return -67; /* ENOLINK */
	case 5: /* BLK_STS_TARGET */
		return -121; /* EREMOTEIO */
	case 6: /* BLK_STS_RESV_CONFLICT */
		return -52; /* EBADE */
	case 7: /* BLK_STS_MEDIUM */
		return -61; /* ENODATA */
	case 8: /* BLK_STS_PROTECTION */
		return -84; /* EILSEQ */
	case 9: /* BLK_STS_RESOURCE */
		return -12; /* ENOMEM */
	case 12: /* BLK_STS_AGAIN */
		return -11; /* EAGAIN */
	case 13: /* BLK_STS_DEV_RESOURCE */
		return -16; /* EBUSY */
	case 15: /* BLK_STS_ZONE_OPEN_RESOURCE */
		return -109; /* ETOOMANYREFS */
	case 16: /* BLK_STS_ZONE_ACTIVE_RESOURCE */
		return -75; /* EOVERFLOW */
	case 17: /* BLK_STS_OFFLINE */
		return -19; /* ENODEV */
	case 18: /* BLK_STS_DURATION_LIMIT */
		return -62; /* ETIME */
	case 19: /* BLK_STS_INVAL, since 6.11 */
		return -22; /* EINVAL */
	default:
		return -5; /* EIO */
	}
}

static __always_inline struct gendisk *disk_of(struct request *rq)
{
	struct request___with_rq_disk *old = (void *)rq;

	if (bpf_core_field_exists(old->rq_disk))
		return BPF_CORE_READ(old, rq_disk);
	return BPF_CORE_READ(rq, q, disk);
}

/* Whether a disk passes the filter `f` of struct runner_disk. */
#define filter_passes_disk(f, disk)                                \
	({                                                         \
		bool hit = false;                                  \
		if ((f).n) {                                       \
			struct gendisk *__disk = (disk);           \
			u64 __name[4] = {};                        \
			u32 __major = BPF_CORE_READ(__disk, major), __minor = BPF_CORE_READ(__disk, first_minor); \
			bpf_probe_read_kernel_str(__name, sizeof(__name), __disk->disk_name); \
			_Pragma("unroll") for (u32 i = 0; i < FILTER_MAX(f); i++) { \
				const volatile u64 *want = (const volatile u64 *)(f).values[i].name; \
				if (i >= (f).n)                    \
					break;                     \
				if (want[0] ? want[0] == __name[0] && want[1] == __name[1] && want[2] == __name[2] && \
						      want[3] == __name[3] : \
					      (f).values[i].major == __major && (f).values[i].minor == __minor) \
					hit = true;                \
			}                                          \
		}                                                  \
		FILTER_VERDICT(f, hit);                            \
	})
