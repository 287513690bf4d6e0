/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel types that the programs use, and no others; kept by hand.
 *
 * Only names and the size class of a member matter here: libbpf relocates every access to the layout of the kernel
 * that the object is loaded on (CO-RE), so order, offsets and missing members do not matter. The comment before each type
 * names its file in the kernel tree and, if a name changed, the release that changed it.
 */
#pragma once

/* include/uapi/asm-generic/int-ll64.h; bpf_helpers.h needs the __ names */
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;

/* include/linux/types.h */
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h: the values in use, part of the kernel's ABI */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERF_EVENT_ARRAY = 4,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_STACK_TRACE = 7,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LRU_PERCPU_HASH = 10,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_AVAIL_DATA = 0, BPF_RB_RING_SIZE = 1 };
enum { BPF_F_CURRENT_CPU = 0xffffffffU };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/blkdev.h, include/linux/genhd.h before 5.18 */
struct gendisk {
	int major;
	int first_minor;
	char disk_name[32];
};

/* include/linux/blkdev.h; `disk` since 5.17 (d152c682f03c) */
struct request_queue {
	struct gendisk *disk;
	struct elevator_queue *elevator;
};

enum mq_rq_state {
	MQ_RQ_IDLE = 0, /* not with the driver */
};

/* include/linux/blk-mq.h, include/linux/blkdev.h before 5.16 */
struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	u64 __sector;
	enum mq_rq_state state;
};

/* The same, before 5.17 (f3fa33acca9f removed `rq_disk`) */
struct request___with_rq_disk {
	struct gendisk *rq_disk;
};

/* include/linux/mm_types.h */
struct inode___image {
	unsigned long i_ino;
};
struct file___image {
	struct inode___image *f_inode;
};
struct mm_struct {
	unsigned long start_code, end_code;
	unsigned long start_stack;
	unsigned long arg_start;
	unsigned long arg_end;
	struct file *exe_file;
};

/* include/linux/uidgid_types.h, include/linux/cred.h */
typedef struct {
	u32 val;
} kuid_t;
struct cred {
	kuid_t uid;
};

/* include/linux/kernfs.h, include/linux/cgroup-defs.h */
struct kernfs_node {
	u64 id;
};
struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[0]; /* since 6.1 (2dd3ad2c) */
};
struct cgroup___with_ids {
	u64 ancestor_ids[0];
};
struct css_set {
	struct cgroup *dfl_cgrp;
};

/* include/linux/task_io_accounting.h */
struct task_io_accounting {
	u64 syscr; /* with CONFIG_TASK_XACCT */
};

/* include/linux/sched.h */
struct task_struct {
	int pid;
	int tgid;
	char comm[16];
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	const struct cred *cred;
	struct css_set *cgroups;
	int exit_code;
	unsigned int flags;
	struct files_struct *files;
	struct task_io_accounting ioac;
	u64 start_time;
	u64 start_boottime; /* since 5.5 (cf25e24db61c) */
	unsigned int __state; /* since 5.14 (2f064a59a11f) */
};
struct task_struct___with_state {
	volatile long state;
};

/* include/linux/binfmts.h */
struct linux_binprm {
	const char *filename;
};

/* arch/<arch>/include/asm/ptrace.h: registers that hold a system call's number and arguments */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long bx, cx, di, si, dx, r10, r8, r9;
	unsigned long ax, orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	u64 regs[31];
	u64 pstate;
	u64 orig_x0;
	s32 syscallno;
};
#endif

#pragma clang attribute pop

/* include/linux/blk_types.h: operations of a request, as bpf_core_enum_value() reads them from the running kernel; the
 * values here are placeholders. */
enum req_op {
	REQ_OP_READ = 0,
	REQ_OP_WRITE = 1,
	REQ_OP_FLUSH = 2,
	REQ_OP_DISCARD = 3,
	REQ_OP_SECURE_ERASE = 5,
	REQ_OP_ZONE_APPEND = 7,
	REQ_OP_WRITE_ZEROES = 9,
	REQ_OP_ZONE_OPEN = 11,
	REQ_OP_ZONE_CLOSE = 13,
	REQ_OP_ZONE_FINISH = 15,
	REQ_OP_ZONE_RESET = 17,
	REQ_OP_ZONE_RESET_ALL = 19,
	REQ_OP_DRV_IN = 34,
	REQ_OP_DRV_OUT = 35,
};

/* The same before 6.0 (ff07a02e9e8e renamed it); the first one does not exist since 5.18, the next two since 5.16 */
enum req_opf {
	REQ_OP_WRITE_SAME___opf = 7,
	REQ_OP_SCSI_IN___opf = 32,
	REQ_OP_SCSI_OUT___opf = 33,
	REQ_OP_READ___opf = 0,
	REQ_OP_WRITE___opf = 1,
	REQ_OP_FLUSH___opf = 2,
	REQ_OP_DISCARD___opf = 3,
	REQ_OP_SECURE_ERASE___opf = 5,
	REQ_OP_ZONE_APPEND___opf = 13,
	REQ_OP_WRITE_ZEROES___opf = 9,
	REQ_OP_ZONE_OPEN___opf = 10,
	REQ_OP_ZONE_CLOSE___opf = 11,
	REQ_OP_ZONE_FINISH___opf = 12,
	REQ_OP_ZONE_RESET___opf = 15,
	REQ_OP_ZONE_RESET_ALL___opf = 17,
	REQ_OP_DRV_IN___opf = 34,
	REQ_OP_DRV_OUT___opf = 35,
};

/* block/blk-zoned.c, since 6.10, which removed BLK_STS_ZONE_RESOURCE and renumbered the errors after it */
struct blk_zone_wplug {
	unsigned int flags;
};

/* include/linux/blk_types.h: bit numbers of request.cmd_flags. They change between releases, so read each with
 * bpf_core_enum_value(); the values here are placeholders. */
enum req_flag_bits {
	__REQ_SYNC = 11,
	__REQ_META = 12,
	__REQ_PRIO = 13,
	__REQ_FUA = 17,
	__REQ_PREFLUSH = 18,
	__REQ_RAHEAD = 19,
	__REQ_BACKGROUND = 20,
	__REQ_NOWAIT = 21,
	__REQ_ATOMIC = 27, /* since 6.11 */
};

/* include/trace/events/block.h: a kernel has the tracepoint if, and only if, its BTF has this typedef (since 6.5) */
typedef void (*btf_trace_block_io_start)(void *, struct request *);
