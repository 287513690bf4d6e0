// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per open(), openat(), openat2() or creat(), when it returns.
 *
 * One hook, on the return: the kernel has read the path by then, so it is in memory, and flags and path are still where
 * the registers of the call point. What a program opens thousands of times a second pays for each line here.
 */
#include "syscall.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* include/uapi/asm-generic/fcntl.h, and a bit of our own for reading only, which is 0 there */
enum open_flag {
	O_RDONLY = 1 << 30,
	O_WRONLY = 1,
	O_RDWR = 2,
	O_CREAT = 00000100,
	O_EXCL = 00000200,
	O_NOCTTY = 00000400,
	O_TRUNC = 00001000,
	O_APPEND = 00002000,
	O_NONBLOCK = 00004000,
	O_DSYNC = 00010000,
	O_ASYNC = 00020000,
	O_DIRECT = 00040000,
	O_LARGEFILE = 00100000,
	O_DIRECTORY = 00200000,
	O_NOFOLLOW = 00400000,
	O_NOATIME = 01000000,
	O_CLOEXEC = 02000000,
	O_SYNC = 04000000,
	O_PATH = 010000000,
	O_TMPFILE = 020000000,
};

/* Two sizes of record: most paths are short, and what is written to a ring is what the caller pays for. The short one
 * has room for what the filter looks at. */
#define PATH_SHORT sizeof(prefix_t)
#define PATH_LONG 256

struct event {
	u64 ts AS("ktime") DOC("When the call returned");
	u32 pid DOC("Process");
	u32 tid DOC("Thread");
	u32 uid DOC("User it runs as (real user id)");
	char comm[16] DOC("Command");
	struct runner_text path DOC("What was to be opened, as the caller wrote it, up to 255 bytes");
	enum open_flag flags AS("bits") DOC("How it was to be opened");
	s32 ret AS("errno") DOC("The file descriptor, or a negative error number");
	char tail[PATH_LONG] INTERNAL;
} DOC("One open of a file");
EVENT(event);

TASK_FILTERS();
FILTER(prefix_t, path_prefix, 4) DOC("Only paths that begin like this, as the caller wrote them") = {};
FILTER(bool, failed, 1) DOC("true: only calls that failed; false: only those that worked") = {};

static __always_inline u32 flags_of(u32 flags)
{
#if defined(__TARGET_ARCH_arm64)
	/* arch/arm64/include/uapi/asm/fcntl.h has four of them elsewhere */
	u32 moved = flags & 00740000;

	flags &= ~00740000;
	flags |= moved & 00040000 ? O_DIRECTORY : 0;
	flags |= moved & 00100000 ? O_NOFOLLOW : 0;
	flags |= moved & 00200000 ? O_DIRECT : 0;
	flags |= moved & 00400000 ? O_LARGEFILE : 0;
#endif
	return flags & (O_WRONLY | O_RDWR | O_PATH) ? flags : flags | O_RDONLY;
}

static __always_inline void fill(struct event *e, u64 id, u32 flags, s32 ret)
{
	e->ts = bpf_ktime_get_ns();
	e->pid = id >> 32;
	e->tid = id;
	e->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	e->flags = flags_of(flags);
	e->ret = ret;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(open_returned, struct pt_regs *regs, long ret)
{
	long nr = SYSCALL_NR(regs);
	u64 id, start[PATH_SHORT / 8] = {};
	struct event *e;
	const char *path;
	u32 flags;
	long len;

	if (nr == NR_OPENAT) {
		path = (void *)SYSCALL_ARG2(regs);
		flags = SYSCALL_ARG3(regs);
	} else if (nr == NR_OPEN) {
		path = (void *)SYSCALL_ARG1(regs);
		flags = SYSCALL_ARG2(regs);
	} else if (nr == NR_CREAT) {
		path = (void *)SYSCALL_ARG1(regs);
		flags = O_CREAT | O_WRONLY | O_TRUNC;
	} else if (nr == NR_OPENAT2) {
		u64 how = 0; /* struct open_how begins with the flags */

		path = (void *)SYSCALL_ARG2(regs);
		bpf_probe_read_user(&how, sizeof(how), (void *)SYSCALL_ARG3(regs));
		flags = how;
	} else {
		return 0;
	}
	id = bpf_get_current_pid_tgid();
	if (!task_passes(id) || !filter_passes(failed, ret < 0))
		return 0;
	len = bpf_probe_read_user_str(start, sizeof(start), path);
	if (!filter_passes_prefix(path_prefix, (char *)start))
		return 0;
	if (len < (long)sizeof(start)) {
		e = event_begin_cut(struct event, PATH_SHORT);
		if (e) {
			fill(e, id, flags, ret);
			__builtin_memcpy(e->tail, start, sizeof(start));
			e->path.len = len < 0 ? 0 : len;
			event_end_cut(ctx, e, PATH_SHORT);
		}
	} else {
		e = event_begin(struct event);
		if (e) {
			fill(e, id, flags, ret);
			len = bpf_probe_read_user_str(e->tail, PATH_LONG, path);
			e->path.len = len < 0 ? 0 : len;
			event_end(ctx, e);
		}
	}
	return 0;
}
