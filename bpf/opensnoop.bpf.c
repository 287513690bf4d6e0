// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per open(), openat(), openat2() or creat(), when it returns.
 *
 * At the return the kernel has read the path, so it is in memory, and the registers of the call still point to it. A
 * process that opens thousands of files a second pays for each instruction here.
 *
 * A call that a signal interrupts ends only if a handler makes it fail; otherwise the kernel restarts it, and it returns
 * again.
 */
#include "syscall.h"
#include "task.h"
#include "under_way.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* include/uapi/asm-generic/fcntl.h, and a bit of our own for read-only, which is 0 there */
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

/* Two sizes of record: most paths are short, and the caller pays for each byte that is written to the ring buffer. The
 * short record has room for the bytes that the filter compares. */
#define PATH_SHORT sizeof(prefix_t)
#define PATH_LONG 256

struct event {
	u64 ts KIND("ktime") DOC("Time at which the call returned");
	u32 pid DOC("Process ID");
	u32 tid DOC("Thread ID");
	u32 uid DOC("Real user ID of the process");
	char comm[16] DOC("Name of the thread");
	struct runner_text path DOC("Path as the caller wrote it, up to 255 bytes; `…`: could not be read");
	enum open_flag flags KIND("bits") DOC("Flags of the call; empty: could not be read");
	s32 ret KIND("errno") DOC("Result: the file descriptor or a negative errno; -38 (ENOSYS) if seccomp sends SIGSYS");
	char process_comm[16] DOC("Name of the process");
	char tail[PATH_LONG] INTERNAL;
} DOC("A call of open(), openat(), openat2() or creat(); opens by io_uring or by handle are not seen") TRY("open");
EVENT(event);

ACCURACY(
	SEES("`open`, `openat`, `openat2` and `creat` of 64-bit, 32-bit and x32 programs, and by `int $0x80`")
	SEES("calls that seccomp denies; `ret` is -38 (ENOSYS) if it sends SIGSYS instead")
	SEES("a call that a signal interrupts, once, with the result that the program gets (`-EINTR`, or that of the restarted call)")
	NOT_SEEN("opens by io_uring (`IORING_OP_OPENAT`, `IORING_OP_OPENAT2`), which are no system calls")
	NOT_SEEN("opens by handle (`open_by_handle_at`), which have no path")
	NOT_SEEN("descriptors from other calls (`memfd_create`, `open_tree`, `pidfd_open`, `mq_open`) or from another process")
	NOT_SEEN("files that the kernel itself opens: programs, core dumps, swap areas, files of an NFS server")
	NOT_SEEN("calls that have not returned at the end: counted as `in_flight`, with any path")
	NOT_SEEN("calls that never return, because the process is killed")
	NOT_SEEN("on 5.10: calls for which seccomp kills the process")
	NOT_SEEN("calls that seccomp denies with an error number from 512 to 516: they look like restarts")
	NOT_SEEN("calls that a ptrace tracer skips; a result that a ptrace tracer changes")
	OWNER("the calling thread")
	TIME("`ts`: when the call returns")
	EXACT("one event for a call; `path` as the caller wrote it, up to 255 bytes")
	EXACT("path and flags are read when the call returns: another thread can have changed them")
	EXACT("a path that the kernel did not read (denied by seccomp, `EFAULT`) can be `…`, which passes `path_prefix`")
	VARIANTS("one")
);

TASK_FILTERS();
FILTER(prefix_t, path_prefix, 4) DOC("Only paths that begin with one of these, as the caller wrote them; paths that could not be read pass too") = {};
FILTER(bool, failed, 1) DOC("true: only calls that failed; false: only calls that succeeded") = {};

/* An open that a signal interrupted. LRU: the entry of a program that ends instead is never looked up again. */
struct interrupted_open {
	const char *path;
	u64 flags;
	s64 ret;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, struct interrupted_open);
} interrupted SEC(".maps") DOC("Calls that a signal interrupted, until they restart or fail");
INSERT_FAILURES(interrupted);
/* On most hosts this never happens, and then no open looks the map up */
bool any_interrupted INTERNAL = false;

UNDER_WAY("opens not returned");

#define FLAGS_UNREAD (~0ULL)

static __always_inline u32 flags_of(u64 flags)
{
	if (flags == FLAGS_UNREAD)
		return 0;
#if defined(__TARGET_ARCH_arm64)
	/* arch/arm64/include/uapi/asm/fcntl.h has other values for four flags, as has arch/arm/include/uapi/asm/fcntl.h */
	u32 moved = flags & 00740000;

	flags &= ~00740000ULL;
	flags |= moved & 00040000 ? O_DIRECTORY : 0;
	flags |= moved & 00100000 ? O_NOFOLLOW : 0;
	flags |= moved & 00200000 ? O_DIRECT : 0;
	flags |= moved & 00400000 ? O_LARGEFILE : 0;
#endif
	return flags & (O_WRONLY | O_RDWR | O_PATH) ? flags : flags | O_RDONLY;
}

static __always_inline void fill(struct event *e, u64 id, u64 flags, s32 ret)
{
	e->ts = bpf_ktime_get_ns();
	e->pid = id >> 32;
	e->tid = id;
	e->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	process_name_or(&e->process_comm, (struct task_struct *)bpf_get_current_task(), id >> 32 == (u32)id, e->comm);
	e->flags = flags_of(flags);
	e->ret = ret;
}

/* The call has ended, and its task passes. */
static __always_inline int opened(void *ctx, u64 id, const char *path, u64 flags, s32 ret)
{
	u64 start[PATH_SHORT / 8] = {};
	struct event *e;
	long len;

	if (!filter_passes(failed, ret < 0))
		return 0;
	len = bpf_probe_read_user_str(start, sizeof(start), path);
	/* A path that can't be read may be one that the filter selects */
	if (len > 0 && !filter_passes_prefix(path_prefix, (char *)start))
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

enum open_call { OTHER_CALL, OPEN, CREAT, OPENAT, OPENAT2 };

static __always_inline enum open_call native_call(s32 nr)
{
	switch (nr) {
	case NR_OPENAT:
		return OPENAT;
	case NR_OPENAT2:
		return OPENAT2;
#if defined(__TARGET_ARCH_x86)
	case NR_OPENAT | X32_BIT:
		return OPENAT;
	case NR_OPENAT2 | X32_BIT:
		return OPENAT2;
	case NR_OPEN:
	case NR_OPEN | X32_BIT:
		return OPEN;
	case NR_CREAT:
	case NR_CREAT | X32_BIT:
		return CREAT;
#endif
	default:
		return OTHER_CALL;
	}
}

static __always_inline enum open_call compat_call(s32 nr)
{
	switch (nr) {
	case NR_COMPAT_OPENAT:
		return OPENAT;
	case NR_COMPAT_OPENAT2:
		return OPENAT2;
	case NR_COMPAT_OPEN:
		return OPEN;
	case NR_COMPAT_CREAT:
		return CREAT;
	default:
		return OTHER_CALL;
	}
}

SEC("tp_btf/signal_deliver")
int BPF_PROG(signal_delivered, int sig, struct kernel_siginfo *info, struct k_sigaction *action)
{
	u64 id = bpf_get_current_pid_tgid();
	struct interrupted_open open, *found;

	if (!any_interrupted || !has_handler(action))
		return 0;
	found = bpf_map_lookup_elem(&interrupted, &id);
	if (!found)
		return 0;
	open = *found;
	bpf_map_delete_elem(&interrupted, &id);
	return is_interrupted(action, open.ret) ? opened(ctx, id, open.path, open.flags, -EINTR) : 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(open_returned, struct pt_regs *regs, long ret)
{
	s32 nr = SYSCALL_NR(regs);
	enum open_call call = native_call(nr), call32 = compat_call(nr);
	struct interrupted_open open = {};
	bool compat;
	u64 id;

	if (!call && !call32) /* nearly every system call of the host returns here */
		return 0;
	compat = is_compat(regs);
	if (compat)
		call = call32;
	if (!call || is_no_call(regs, ret))
		return 0;
	id = bpf_get_current_pid_tgid();
	if (!task_passes(id))
		return 0;
	if (call == OPEN || call == CREAT) {
		open.path = (void *)SYSCALL_ARG1(regs, compat);
		open.flags = call == OPEN ? (u32)SYSCALL_ARG2(regs, compat) : O_CREAT | O_WRONLY | O_TRUNC;
	} else {
		open.path = (void *)SYSCALL_ARG2(regs, compat);
		open.flags = (u32)SYSCALL_ARG3(regs, compat);
		/* struct open_how begins with the flags */
		if (call == OPENAT2 &&
		    bpf_probe_read_user(&open.flags, sizeof(open.flags), (void *)SYSCALL_ARG3(regs, compat)))
			open.flags = FLAGS_UNREAD;
	}
	if (is_restarted(ret)) {
		open.ret = ret;
		any_interrupted = true;
		if (bpf_map_update_elem(&interrupted, &id, &open, BPF_ANY))
			lost_map_full(interrupted);
		return 0;
	}
	if (any_interrupted)
		bpf_map_delete_elem(&interrupted, &id);
	return opened(ctx, id, open.path, open.flags, is_trapped(regs, ret) ? -ENOSYS : ret);
}

SEC("iter/task")
int not_returned(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	u64 now = bpf_ktime_get_ns();
	struct call_of_thread call;

	if (!find_call(&call, task) || !(call.compat ? compat_call(call.nr) : native_call(call.nr)))
		return 0;
	if (task_passes_other(task))
		count_under_way(under_way, task, &now);
	return 0;
}
