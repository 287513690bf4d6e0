// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per execve() or execveat(), whether it succeeds or fails.
 *
 * A success is seen at sched_process_exec: the arguments are then contiguous in the new program's memory, as that program
 * will read them. A failure is seen when the system call returns; its arguments are read from the caller's memory. If the
 * call fails after the old program is gone, they are in the new program's memory. Kernels from 6.10 on have
 * sched_prepare_exec, where the process still has the caller's name. The hook on the return makes every system call of the
 * host a little slower, so a probe that does not want failures runs without it.
 */
#include "syscall.h"
#include "task.h"
#include "under_way.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ARGV_SMALL 512
#define ARGV_FAILED 1024
#define ARGV_LARGE 4096
#define ARG_FAILED 256
#define ARGS_FAILED 64
/* Replaces a text that could not be read, and marks the missing rest of a list */
#define UNREAD "\xe2\x80\xa6"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* include/linux/dcache.h, fs.h, fdtable.h, binfmts.h, mm_types.h, sched.h */
struct qstr {
	const unsigned char *name;
};
struct dentry {
	struct qstr d_name;
};
struct path {
	struct dentry *dentry;
};
struct file {
	struct path f_path;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct linux_binprm___file {
	struct file *file;   /* of a script: its interpreter */
	const char *filename;
	const char *interp;  /* the same pointer, except for scripts and other interpreted files */
	const char *fdpath;  /* not NULL: executed by file descriptor */
	int argc;
};
struct mm_struct___exe {
	struct file *exe_file;
};
struct task_struct___exec {
	struct files_struct *files;
	struct mm_struct___exe *mm;
};
#pragma clang attribute pop

struct event {
	u64 ts KIND("ktime") DOC("Time of the success, or of the return of a failed call");
	u32 pid DOC("Process ID");
	u32 ppid DOC("Process ID of the parent");
	u32 uid DOC("Real user ID of the process");
	char comm[16] DOC("Name of the thread: of the new program after a success, otherwise of the caller");
	char filename[256] DOC("Path of the program, up to 255 bytes; by descriptor: the name of its file (`memfd:NAME` for a memfd); `…`: could not be read");
	char file[64] DOC("Name of the executed file without its directory; of a script: its interpreter; empty after most failures");
	struct runner_list argv DOC("Arguments, up to 4096 bytes (1024 of a failed call)");
	s32 ret KIND("errno") DOC("Result: 0 or a negative errno");
	char process_comm[16] DOC("Name of the process: the same as `comm` after a success, otherwise of the caller");
	char tail[ARGV_LARGE] INTERNAL;
} DOC("A call of execve() or execveat(), successful or failed") TRY("exec");
EVENT(event);

ACCURACY(
	SEES("`execve` and `execveat` of 64-bit, 32-bit and x32 programs, and by `int $0x80`")
	SEES("calls that seccomp denies; `ret` is -38 (ENOSYS) if it sends SIGSYS instead")
	SEES("programs that the kernel itself starts (`modprobe`, `core_pattern`)")
	SEES("failures after the old program is gone: the process then gets a signal")
	SEES("a call that a signal interrupts, once, with the result that the program gets (`-EINTR`, or that of the restarted call)")
	NOT_SEEN("on 5.10: a call for which seccomp kills the process")
	NOT_SEEN("a result that a ptrace tracer changes at the end of the call")
	NOT_SEEN("calls that seccomp denies with an error number from 512 to 516: they look like restarts")
	NOT_SEEN("a call that a ptrace tracer skips, which runs nothing")
	NOT_SEEN("calls that have not returned at the end: counted as `in_flight`")
	OWNER("the calling process; `comm` is the new program's after a success, otherwise the caller's")
	TIME("`ts`: of a success, when the new program has replaced the old one; of a failure, when the call returns")
	EXACT("one event for each success and each failed call")
	EXACT("`argv`: up to 4096 bytes; of a failed call up to 64 arguments and 1024 bytes; a last entry `…` marks that more did not fit")
	EXACT("paths and arguments of a failed call are read when it returns: another thread can have changed them")
	EXACT("a path or argument that the kernel did not read (denied by seccomp, `EFAULT`) can be `…`")
	VARIANTS("one; before 6.10, a failure after the old program is gone has `…` as `filename` and `argv`, and the new `comm`")
);

/* Names are the new program's after a success, the caller's after a failure */
TASK_FILTERS();
FILTER(bool, failed, 1) DOC("true: only calls that failed; false: only calls that succeeded") = {};

static __always_inline u32 parent_of_current(void)
{
	struct task_struct *task;

	if (has_current_task_btf())
		return ((struct task_struct *)bpf_get_current_task_btf())->real_parent->tgid;
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, real_parent, tgid);
}

static __always_inline void fill(struct event *e, u64 id, s32 ret)
{
	e->ts = bpf_ktime_get_ns();
	e->pid = id >> 32;
	e->ppid = parent_of_current();
	e->uid = bpf_get_current_uid_gid();
	e->ret = ret;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	process_name_or(&e->process_comm, (struct task_struct *)bpf_get_current_task(), id >> 32 == (u32)id, e->comm);
}

static __always_inline void read_file_name(char *to, u32 size, struct file *file)
{
	bpf_probe_read_kernel_str(to, size, BPF_CORE_READ(file, f_path.dentry, d_name.name));
}

/* The file behind descriptor `number` of the current process. */
static __always_inline struct file *file_of_descriptor(u32 number)
{
	struct task_struct___exec *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;

	if (number < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), files + number);
	return file;
}

/* N of /dev/fd/N, the kernel's name for a program that is executed by its descriptor alone; -1 for other names. */
static __always_inline s32 descriptor_in(const char *name)
{
	s32 number = 0;

#pragma unroll
	for (u32 i = sizeof("/dev/fd/") - 1; i < sizeof("/dev/fd/") + 10; i++) {
		if (!name[i])
			return number;
		if (name[i] < '0' || name[i] > '9')
			return -1;
		number = number * 10 + (name[i] - '0');
	}
	return -1;
}

/* Names of the executed file. `to` is a record or an attempt. */
#define read_names(to, bprm) \
	({ \
		bpf_probe_read_kernel_str((to)->filename, sizeof((to)->filename), (bprm)->filename); \
		bpf_probe_read_kernel_str((to)->file, sizeof((to)->file), (bprm)->file->f_path.dentry->d_name.name); \
		if ((bprm)->fdpath) { \
			s32 __number = descriptor_in((to)->filename); \
			if (__number >= 0 && (bprm)->filename == (bprm)->interp) { \
				__builtin_memcpy((to)->filename, (to)->file, sizeof((to)->file)); \
			} else if (__number >= 0) { \
				/* The descriptor of a script is still open: its interpreter reads it */ \
				struct file *__script = file_of_descriptor(__number); \
				if (__script) \
					read_file_name((to)->filename, sizeof((to)->filename), __script); \
			} \
		} \
	})

static __always_inline void fill_success(
	struct event *e, u64 id, struct linux_binprm___file *bprm, unsigned long start, unsigned long len, u32 room)
{
	fill(e, id, 0);
	read_names(e, bprm);
	if (len > room) {
		e->argv.cut = true;
		len = room;
	}
	if (!bpf_probe_read_user(e->tail, len, (void *)start))
		e->argv.len = len;
	else
		e->argv.cut = true;
}

/* Of a call that fails late: what is no longer available at the failure. The arguments are in the new program's memory. */
struct attempt {
	u32 passes; /* the caller passes the filters; afterwards the process has another name */
	u32 argc;
	char comm[16];
	char process_comm[16];
	char filename[256];
	char file[64];
};
const volatile struct attempt attempt_zero INTERNAL = {};
/* LRU: some kernels skip a program now and then, and an entry that it does not delete would stay for good. The key is the
 * thread's struct: an exec changes the thread ID. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, u64);
	__type(value, struct attempt);
} attempts SEC(".maps") DOC("Calls that can no longer return to the old program, until they end (since kernel 6.10)");
INSERT_FAILURES(attempts);

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm___file *bprm)
{
	u64 id = bpf_get_current_pid_tgid(), thread = (u64)task;
	unsigned long start, len;
	struct event *e;

	if (filter_passes(failed, true))
		bpf_map_delete_elem(&attempts, &thread);
	if (!filter_passes(failed, false) || !task_passes(id))
		return 0;
	start = task->mm->arg_start;
	len = task->mm->arg_end - start;
	/* Two sizes of record: most argument lists are short, and long records would soon fill the ring buffer */
	if (len <= ARGV_SMALL) {
		e = event_begin_cut(struct event, ARGV_SMALL);
		if (e) {
			fill_success(e, id, bprm, start, len, ARGV_SMALL);
			event_end_cut(ctx, e, ARGV_SMALL);
		}
	} else {
		e = event_begin(struct event);
		if (e) {
			fill_success(e, id, bprm, start, len, ARGV_LARGE);
			event_end(ctx, e);
		}
	}
	return 0;
}

/* The arguments of a failed call, one by one. Pages that the kernel did not read may not be in memory. */
static __always_inline void read_pointers(struct runner_list *list, char *tail, u64 argv, u32 width)
{
	u32 len = 0;
	long n;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < ARGS_FAILED; i++) {
		u64 arg = 0;

		if (width == 4 ? bpf_probe_read_user(&arg, 4, (void *)argv) : bpf_probe_read_user(&arg, 8, (void *)argv)) {
			list->cut = true;
			break;
		}
		argv += width;
		list->cut = arg != 0; /* until this argument is read whole and the next pointer is NULL */
		if (!arg || len > ARGV_FAILED - ARG_FAILED)
			break;
		n = bpf_probe_read_user_str(tail + len, ARG_FAILED, (void *)arg);
		if (n <= 0)
			break;
		len += n;
		if (n == ARG_FAILED)
			break;
	}
	list->len = len;
}

/* Of a call that fails late: `argc` texts, contiguous from `start` on; `start` is 0 if the kernel has not placed them yet. */
static __always_inline void read_placed(struct runner_list *list, char *tail, u64 start, u32 argc)
{
	u32 len = 0;
	long n;

	list->cut = !start;
#pragma clang loop unroll(disable)
	for (u32 i = 0; start && i < ARGS_FAILED; i++) {
		list->cut = i < argc; /* until the last argument is read whole */
		if (i >= argc || len > ARGV_FAILED - ARG_FAILED)
			break;
		n = bpf_probe_read_user_str(tail + len, ARG_FAILED, (void *)start + len);
		if (n <= 0)
			break;
		len += n;
		if (n == ARG_FAILED)
			break;
		list->cut = i + 1 < argc;
	}
	list->len = len;
}

enum exec_call { OTHER_CALL, EXECVE, EXECVEAT };

static __always_inline enum exec_call exec_call_of(s32 nr, bool compat)
{
	if (compat)
		return nr == NR_COMPAT_EXECVE ? EXECVE : nr == NR_COMPAT_EXECVEAT ? EXECVEAT : OTHER_CALL;
#if defined(__TARGET_ARCH_x86)
	if (nr == (NR_X32_EXECVE | X32_BIT))
		return EXECVE;
	if (nr == (NR_X32_EXECVEAT | X32_BIT))
		return EXECVEAT;
#endif
	return nr == NR_EXECVE ? EXECVE : nr == NR_EXECVEAT ? EXECVEAT : OTHER_CALL;
}

/* Size of the caller's pointers in bytes: 4 for 32-bit and x32 programs. */
static __always_inline u32 pointer_width(s32 nr, bool compat)
{
#if defined(__TARGET_ARCH_x86)
	if (nr & X32_BIT)
		return 4;
#endif
	return compat ? 4 : 8;
}

#define AT_EMPTY_PATH 0x1000

/* The arguments of the call: addresses in the caller's memory, and descriptors. */
struct exec_args {
	u64 path;
	u64 argv;
	u32 descriptor;
	u32 width; /* of the caller's pointers */
	u64 by_descriptor; /* not 0: an empty path means the descriptor */
	s64 ret; /* of a call that a signal interrupted */
};

static __always_inline void args_of(struct exec_args *args, enum exec_call call, struct pt_regs *regs, s32 nr, bool compat)
{
	bool at = call == EXECVEAT;

	args->path = at ? SYSCALL_ARG2(regs, compat) : SYSCALL_ARG1(regs, compat);
	args->argv = at ? SYSCALL_ARG3(regs, compat) : SYSCALL_ARG2(regs, compat);
	args->descriptor = SYSCALL_ARG1(regs, compat);
	args->width = pointer_width(nr, compat);
	args->by_descriptor = at ? SYSCALL_ARG5(regs, compat) & AT_EMPTY_PATH : 0;
}

/* Reads path and arguments from the caller's memory. */
static __always_inline void read_args(struct event *e, const struct exec_args *args)
{
	struct file *file;

	if (bpf_probe_read_user_str(e->filename, sizeof(e->filename), (void *)args->path) < 0) {
		__builtin_memcpy(e->filename, UNREAD, sizeof(UNREAD));
	} else if (!e->filename[0] && args->by_descriptor) {
		file = file_of_descriptor(args->descriptor);
		if (file) {
			read_file_name(e->filename, sizeof(e->filename), file);
			read_file_name(e->file, sizeof(e->file), file);
		}
	}
	read_pointers(&e->argv, e->tail, args->argv, args->width);
}

/* LRU: the entry of a program that ends instead is never looked up again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, u64);
	__type(value, struct exec_args);
} interrupted SEC(".maps") DOC("Calls that a signal interrupted, until they restart or fail");
INSERT_FAILURES(interrupted);
/* On most hosts this never happens */
bool any_interrupted INTERNAL = false;

UNDER_WAY("executions not returned");

/* The last hook at which the process has the caller's name. */
SEC("tp_btf/sched_prepare_exec")
OPTIONAL SKIP_IF("failed=false")
int BPF_PROG(exec_commits, struct task_struct *task, struct linux_binprm___file *bprm)
{
	u64 id = bpf_get_current_pid_tgid(), thread = (u64)task;
	bool passes = task_passes(id);
	struct attempt *attempt;

	/* A caller that does not pass needs an entry only if the exec changes what a filter compares */
	if (!passes && !comm.n && !process_comm.n && !tid.n)
		return 0;
	if (bpf_map_update_elem(&attempts, &thread, (const void *)&attempt_zero, BPF_ANY)) {
		__sync_fetch_and_add(&insert_failures_attempts, 1);
		return 0;
	}
	attempt = bpf_map_lookup_elem(&attempts, &thread);
	if (!attempt || !passes)
		return 0;
	attempt->passes = true;
	bpf_get_current_comm(attempt->comm, sizeof(attempt->comm));
	current_process_name(&attempt->process_comm, id);
	attempt->argc = bprm->argc;
	read_names(attempt, bprm);
	return 0;
}

SEC("tp_btf/signal_deliver")
SKIP_IF("failed=false")
int BPF_PROG(signal_delivered, int sig, struct kernel_siginfo *info, struct k_sigaction *action)
{
	u64 id = bpf_get_current_pid_tgid();
	struct exec_args args, *found;
	struct event *e;

	if (!any_interrupted || !has_handler(action))
		return 0;
	found = bpf_map_lookup_elem(&interrupted, &id);
	if (!found)
		return 0;
	args = *found;
	bpf_map_delete_elem(&interrupted, &id);
	if (!is_interrupted(action, args.ret))
		return 0;
	e = event_begin_cut(struct event, ARGV_FAILED);
	if (e) {
		fill(e, id, -EINTR);
		read_args(e, &args);
		event_end_cut(ctx, e, ARGV_FAILED);
	}
	return 0;
}

SEC("tp_btf/sys_exit")
SKIP_IF("failed=false")
int BPF_PROG(exec_failed, struct pt_regs *regs, long ret)
{
	s32 nr = SYSCALL_NR(regs);
	struct task_struct___exec *task;
	struct exec_args args = {};
	struct attempt *attempt;
	enum exec_call call;
	struct event *e;
	bool compat, trapped;
	u64 id, thread;

	/* Nearly every system call of the host returns here: successes, and other calls */
	if (ret >= 0 && ret != nr)
		return 0;
	if (!exec_call_of(nr, false) && !exec_call_of(nr, true))
		return 0;
	compat = is_compat(regs);
	call = exec_call_of(nr, compat);
	trapped = is_trapped(regs, ret);
	if (!call || (ret >= 0 && !trapped) || is_no_call(regs, ret))
		return 0;
	id = bpf_get_current_pid_tgid();
	thread = bpf_get_current_task();
	attempt = bpf_map_lookup_elem(&attempts, &thread);
	if (attempt ? !attempt->passes : !task_passes(id))
		goto forget;
	args_of(&args, call, regs, nr, compat);
	if (is_restarted(ret)) {
		/* The call returns again, unless signal_deliver ends it */
		args.ret = ret;
		any_interrupted = true;
		if (bpf_map_update_elem(&interrupted, &id, &args, BPF_ANY))
			lost_map_full(interrupted);
		goto forget;
	}
	if (any_interrupted)
		bpf_map_delete_elem(&interrupted, &id);
	e = event_begin_cut(struct event, ARGV_FAILED);
	if (!e)
		goto forget;
	fill(e, id, trapped ? -ENOSYS : ret);
	task = (void *)thread;
	if (attempt) {
		__builtin_memcpy(e->comm, attempt->comm, sizeof(e->comm));
		__builtin_memcpy(e->process_comm, attempt->process_comm, sizeof(e->process_comm));
		bpf_probe_read_kernel(e->filename, sizeof(e->filename), attempt->filename);
		__builtin_memcpy(e->file, attempt->file, sizeof(e->file));
		read_placed(&e->argv, e->tail, BPF_CORE_READ((struct task_struct *)task, mm, arg_start), attempt->argc);
	} else if (BPF_CORE_READ((struct task_struct *)task, mm, arg_end)) {
		read_args(e, &args);
	} else {
		/* The memory is the new program's, and the kernel has not filled it */
		__builtin_memcpy(e->filename, UNREAD, sizeof(UNREAD));
		read_file_name(e->file, sizeof(e->file), BPF_CORE_READ(task, mm, exe_file));
		e->argv.cut = true;
	}
	event_end_cut(ctx, e, ARGV_FAILED);
forget:
	if (attempt)
		bpf_map_delete_elem(&attempts, &thread);
	return 0;
}

SEC("iter/task")
int not_returned(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	u64 now = bpf_ktime_get_ns();
	struct call_of_thread call;

	if (find_call(&call, task) && exec_call_of(call.nr, call.compat) && task_passes_other(task))
		count_under_way(under_way, task, &now);
	return 0;
}
