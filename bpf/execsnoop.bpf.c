// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per execve() or execveat(), whether it worked or not.
 *
 * One that worked is seen by sched_process_exec, when the arguments lie in the new program's memory, in one piece and
 * just as it will read them. One that failed is seen when the system call returns; its arguments are then read where
 * the caller has them. If it fails after the old program is gone they are gone too: since 6.10 there is
 * sched_prepare_exec to read them just before. The hook on the return makes every system call of the machine a little
 * slower, so it is left out for a probe that does not want failures.
 */
#include "syscall.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ARGV_SMALL 512
#define ARGV_FAILED 1024
#define ARGV_LARGE 4096
#define ARG_FAILED 256
#define ARGS_FAILED 64
/* What stands for a text that could not be read, as it does for the rest of a list */
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
	struct file *file;   /* of a script its interpreter */
	const char *filename;
	const char *interp;  /* the same pointer, unless it is a script or the like */
	const char *fdpath;  /* not NULL: by descriptor */
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
	u64 ts AS("ktime") DOC("When the call returned");
	u32 pid DOC("Process");
	u32 ppid DOC("Its parent");
	u32 uid DOC("User it runs as (real user id)");
	char comm[16] DOC("Command: after a success that of the new program, else the caller's");
	char filename[256] DOC("What was to be run, up to 255 bytes; by descriptor the name of its file, `memfd:NAME` for one in memory; `…`: could not be read");
	char file[64] DOC("Name of the file that runs, without its directory: of a script the interpreter; empty after most failures");
	struct runner_list argv DOC("Arguments, up to 4096 bytes of them (1024 of a failed call)");
	s32 ret AS("errno") DOC("0, or a negative error number");
	char tail[ARGV_LARGE] INTERNAL;
} DOC("One program execution by execve() or execveat(), or the attempt") TRY("exec");
EVENT(event);

ACCURACY(
	SEES("`execve` and `execveat` of 64-bit, 32-bit and x32 programs, and by `int $0x80`")
	SEES("calls that seccomp denies; `ret` is -38 (ENOSYS) if it sends SIGSYS instead")
	SEES("programs that the kernel starts itself (`modprobe`, `core_pattern`)")
	SEES("failures after the old program is gone: the caller gets a signal then")
	NOT_SEEN("a call for which seccomp ends the process, on 5.10")
	NOT_SEEN("a result that a tracer changes at the end of the call")
	NOT_SEEN("a call that a tracer skips, which runs nothing")
	NOT_SEEN("an execution that a signal interrupts, until the kernel has restarted it")
	OWNER("the process that calls; `comm` is the new program's after a success, else the caller's")
	TIME("`ts`: a success when the new program has replaced the old one, a failure when the call returns")
	EXACT("one event for an execution or a failed call")
	EXACT("`argv`: up to 4096 bytes; of a failed call 64 arguments and 1024 bytes; a last entry `…` if there was more")
	EXACT("texts of a failed call are read when it returns: another thread can have changed them")
	EXACT("what the kernel did not read either (denied by seccomp, `EFAULT`) can be missing: `…`")
	VARIANTS("one; before 6.10, a failure after the old program is gone has `…` as `filename` and `argv`, and the new `comm`")
);

/* `comm` is after a success the new command, after a failure the caller's */
TASK_FILTERS();
FILTER(bool, failed, 1) DOC("true: only calls that failed; false: only those that worked") = {};

static __always_inline u32 parent_of_current(void)
{
	struct task_struct *task;

	if (has_current_task_btf())
		return ((struct task_struct *)bpf_get_current_task_btf())->real_parent->tgid;
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, real_parent, tgid);
}

static __always_inline void fill(struct event *e, u32 tgid, s32 ret)
{
	e->ts = bpf_ktime_get_ns();
	e->pid = tgid;
	e->ppid = parent_of_current();
	e->uid = bpf_get_current_uid_gid();
	e->ret = ret;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
}

static __always_inline void read_file_name(char *to, u32 size, struct file *file)
{
	bpf_probe_read_kernel_str(to, size, BPF_CORE_READ(file, f_path.dentry, d_name.name));
}

/* The file that the current process has as descriptor `number`. */
static __always_inline struct file *file_of_descriptor(u32 number)
{
	struct task_struct___exec *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;

	if (number < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), files + number);
	return file;
}

/* The number in the kernel's name for a program that is run by its descriptor alone, /dev/fd/N; or -1. */
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

static __always_inline void fill_success(
	struct event *e, u32 tgid, struct linux_binprm___file *bprm, unsigned long start, unsigned long len, u32 room)
{
	struct file *script;
	s32 number;

	fill(e, tgid, 0);
	bpf_probe_read_kernel_str(e->filename, sizeof(e->filename), bprm->filename);
	bpf_probe_read_kernel_str(e->file, sizeof(e->file), bprm->file->f_path.dentry->d_name.name);
	if (bprm->fdpath) {
		number = descriptor_in(e->filename);
		if (number >= 0 && bprm->filename == bprm->interp) {
			__builtin_memcpy(e->filename, e->file, sizeof(e->file));
		} else if (number >= 0) {
			/* A script's descriptor is still open: its interpreter has to read it */
			script = file_of_descriptor(number);
			if (script)
				read_file_name(e->filename, sizeof(e->filename), script);
		}
	}
	if (len > room) {
		e->argv.cut = true;
		len = room;
	}
	if (!bpf_probe_read_user(e->tail, len, (void *)start))
		e->argv.len = len;
	else
		e->argv.cut = true;
}

/* What a call that fails late was made with. */
struct attempt {
	u32 passes; /* the caller passes the filters; the process has another command afterwards */
	struct runner_list argv;
	char comm[16];
	char filename[256];
	char file[64];
	char tail[ARGV_FAILED];
};
const volatile struct attempt attempt_zero INTERNAL = {};
/* LRU, because on some kernels a hook is left out now and then, and what it does not delete would stay for good. By the
 * thread's struct: an exec changes its number. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, u64);
	__type(value, struct attempt);
} attempts SEC(".maps") DOC("Executions that can't go back to the old program, until they end (since kernel 6.10)");
REFUSALS(attempts);

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm___file *bprm)
{
	u64 id = bpf_get_current_pid_tgid(), thread = (u64)task;
	u32 tgid = id >> 32;
	unsigned long start, len;
	struct event *e;

	if (filter_passes(failed, true))
		bpf_map_delete_elem(&attempts, &thread);
	if (!filter_passes(failed, false) || !task_passes(id))
		return 0;
	start = task->mm->arg_start;
	len = task->mm->arg_end - start;
	/* Two sizes of record: most argument lists are short, and a ring of long ones would be full soon */
	if (len <= ARGV_SMALL) {
		e = event_begin_cut(struct event, ARGV_SMALL);
		if (e) {
			fill_success(e, tgid, bprm, start, len, ARGV_SMALL);
			event_end_cut(ctx, e, ARGV_SMALL);
		}
	} else {
		e = event_begin(struct event);
		if (e) {
			fill_success(e, tgid, bprm, start, len, ARGV_LARGE);
			event_end(ctx, e);
		}
	}
	return 0;
}

/* The arguments of a call that failed, one by one. What the kernel never read itself may not be in memory. */
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
		list->cut = arg != 0; /* unless it is read to its end, and the one behind it is the last */
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

/* Whether the caller has pointers of 32 bits: 32-bit and x32 programs. */
static __always_inline u32 pointer_width(s32 nr, bool compat)
{
#if defined(__TARGET_ARCH_x86)
	if (nr & X32_BIT)
		return 4;
#endif
	return compat ? 4 : 8;
}

#define AT_EMPTY_PATH 0x1000

/* What the call of these registers asks for. `to` is a record or an attempt. */
#define read_call(to, call, regs, nr, compat) \
	({ \
		bool __at = (call) == EXECVEAT; \
		u64 __path = __at ? SYSCALL_ARG2(regs, compat) : SYSCALL_ARG1(regs, compat); \
		u64 __argv = __at ? SYSCALL_ARG3(regs, compat) : SYSCALL_ARG2(regs, compat); \
		if (bpf_probe_read_user_str((to)->filename, sizeof((to)->filename), (void *)__path) < 0) { \
			__builtin_memcpy((to)->filename, UNREAD, sizeof(UNREAD)); \
		} else if (__at && !(to)->filename[0] && SYSCALL_ARG5(regs, compat) & AT_EMPTY_PATH) { \
			struct file *__file = file_of_descriptor(SYSCALL_ARG1(regs, compat)); \
			if (__file) { \
				read_file_name((to)->filename, sizeof((to)->filename), __file); \
				read_file_name((to)->file, sizeof((to)->file), __file); \
			} \
		} \
		read_pointers(&(to)->argv, (to)->tail, __argv, pointer_width(nr, compat)); \
	})

/* The last moment at which the caller's memory is there. */
SEC("tp_btf/sched_prepare_exec")
OPTIONAL SKIP_IF("failed=false")
int BPF_PROG(exec_commits, struct task_struct *task, struct linux_binprm___file *bprm)
{
	u64 id = bpf_get_current_pid_tgid(), thread = (u64)task;
	struct pt_regs *regs;
	bool compat, passes = task_passes(id);
	struct attempt *attempt;
	enum exec_call call;
	s32 nr;

	/* That the caller does not pass has to be known only where the exec changes what the filters ask for */
	if (!passes && !comm.n && !tid.n)
		return 0;
	if (bpf_map_update_elem(&attempts, &thread, (const void *)&attempt_zero, BPF_ANY)) {
		__sync_fetch_and_add(&refused_attempts, 1);
		return 0;
	}
	attempt = bpf_map_lookup_elem(&attempts, &thread);
	if (!attempt || !passes)
		return 0;
	attempt->passes = true;
	bpf_get_current_comm(attempt->comm, sizeof(attempt->comm));
	regs = (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
	compat = is_compat(regs);
	nr = SYSCALL_NR(regs);
	call = exec_call_of(nr, compat);
	if (call)
		read_call(attempt, call, regs, nr, compat);
	if (!attempt->file[0])
		bpf_probe_read_kernel_str(attempt->file, sizeof(attempt->file), bprm->file->f_path.dentry->d_name.name);
	return 0;
}

SEC("tp_btf/sys_exit")
SKIP_IF("failed=false")
int BPF_PROG(exec_failed, struct pt_regs *regs, long ret)
{
	s32 nr = SYSCALL_NR(regs);
	struct task_struct___exec *task;
	struct attempt *attempt;
	enum exec_call call;
	struct event *e;
	bool compat, trapped;
	u64 id, thread;

	/* Nearly every call of the machine ends here: those that worked, and other calls */
	if (ret >= 0 && ret != nr)
		return 0;
	if (!exec_call_of(nr, false) && !exec_call_of(nr, true))
		return 0;
	compat = is_compat(regs);
	call = exec_call_of(nr, compat);
	trapped = is_trapped(regs, ret);
	/* An interrupted call restarts, and returns again */
	if (!call || (ret >= 0 && !trapped) || is_restarted(ret) || is_no_call(regs, ret))
		return 0;
	id = bpf_get_current_pid_tgid();
	thread = bpf_get_current_task();
	attempt = bpf_map_lookup_elem(&attempts, &thread);
	if (attempt ? !attempt->passes : !task_passes(id))
		goto forget;
	e = event_begin_cut(struct event, ARGV_FAILED);
	if (!e)
		goto forget;
	fill(e, id >> 32, trapped ? -ENOSYS : ret);
	task = (void *)thread;
	if (attempt) {
		__builtin_memcpy(e->comm, attempt->comm, sizeof(e->comm));
		bpf_probe_read_kernel(e->filename, sizeof(e->filename), attempt->filename);
		__builtin_memcpy(e->file, attempt->file, sizeof(e->file));
		bpf_probe_read_kernel(e->tail, ARGV_FAILED, attempt->tail);
		e->argv = attempt->argv;
	} else if (BPF_CORE_READ((struct task_struct *)task, mm, arg_end)) {
		read_call(e, call, regs, nr, compat);
	} else {
		/* The new program's memory, which the kernel has not filled */
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
