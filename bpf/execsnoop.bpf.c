// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per execve() or execveat(), whether it worked or not.
 *
 * One that worked is seen by sched_process_exec, when the arguments lie in the new program's memory, in one piece and
 * just as it will read them. One that failed is seen when the system call returns; its arguments are then read where
 * the caller has them. That hook makes every system call of the machine a little slower, so it is left out for a
 * probe that does not want failures.
 */
#include "syscall.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ARGV_SMALL 512
#define ARGV_FAILED 1024
#define ARGV_LARGE 4096
#define ARG_FAILED 256
#define ARGS_FAILED 64

struct event {
	u64 ts AS("ktime") DOC("When the call returned");
	u32 pid DOC("Process");
	u32 ppid DOC("Its parent");
	u32 uid DOC("User it runs as (real user id)");
	char comm[16] DOC("Command: after a success that of the new program");
	char filename[256] DOC("What was to be run, up to 255 bytes");
	struct runner_list argv DOC("Arguments, up to 4096 bytes of them (1024 of a failed call)");
	s32 ret AS("errno") DOC("0, or a negative error number");
	char tail[ARGV_LARGE] INTERNAL;
} DOC("One program execution");
EVENT(event);

/* `comm` is after a success the new command, after a failure the caller's */
TASK_FILTERS();
FILTER(bool, failed, 1) DOC("true: only calls that failed; false: only those that worked") = {};

static __always_inline void fill(struct event *e, u32 tgid, s32 ret)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	e->ts = bpf_ktime_get_ns();
	e->pid = tgid;
	e->ppid = BPF_CORE_READ(task, real_parent, tgid);
	e->uid = bpf_get_current_uid_gid();
	e->ret = ret;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
}

static __always_inline void fill_success(
	struct event *e, u32 tgid, struct linux_binprm *bprm, unsigned long start, unsigned long len, u32 room)
{
	fill(e, tgid, 0);
	bpf_probe_read_kernel_str(e->filename, sizeof(e->filename), BPF_CORE_READ(bprm, filename));
	if (len > room) {
		e->argv.cut = true;
		len = room;
	}
	if (!bpf_probe_read_user(e->tail, len, (void *)start))
		e->argv.len = len;
	else
		e->argv.cut = true;
}

SEC("tp_btf/sched_process_exec")
SKIP_IF("failed=true")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 tgid = id >> 32;
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	unsigned long len = BPF_CORE_READ(task, mm, arg_end) - start;
	struct event *e;

	if (!task_passes(id))
		return 0;
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
static __always_inline void read_pointers(struct event *e, const char *const *argv)
{
	const char *arg;
	u32 len = 0;
	long n;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < ARGS_FAILED; i++) {
		if (bpf_probe_read_user(&arg, sizeof(arg), argv + i)) {
			e->argv.cut = true;
			break;
		}
		e->argv.cut = arg != NULL; /* unless it is read to its end, and the one behind it is the last */
		if (!arg || len > ARGV_FAILED - ARG_FAILED)
			break;
		n = bpf_probe_read_user_str(e->tail + len, ARG_FAILED, arg);
		if (n <= 0)
			break;
		len += n;
		if (n == ARG_FAILED)
			break;
	}
	e->argv.len = len;
}

SEC("tp_btf/sys_exit")
SKIP_IF("failed=false")
int BPF_PROG(exec_failed, struct pt_regs *regs, long ret)
{
	const char *filename;
	const char *const *argv;
	struct event *e;
	long nr;
	u32 tgid;
	u64 id;

	if (ret >= 0) /* nearly every call of the machine ends here */
		return 0;
	nr = SYSCALL_NR(regs);
	if (nr == NR_EXECVE) {
		filename = (void *)SYSCALL_ARG1(regs);
		argv = (void *)SYSCALL_ARG2(regs);
	} else if (nr == NR_EXECVEAT) {
		filename = (void *)SYSCALL_ARG2(regs);
		argv = (void *)SYSCALL_ARG3(regs);
	} else {
		return 0;
	}
	id = bpf_get_current_pid_tgid();
	tgid = id >> 32;
	if (!task_passes(id))
		return 0;
	e = event_begin_cut(struct event, ARGV_FAILED);
	if (!e)
		return 0;
	fill(e, tgid, ret);
	bpf_probe_read_user_str(e->filename, sizeof(e->filename), filename);
	read_pointers(e, argv);
	event_end_cut(ctx, e, ARGV_FAILED);
	return 0;
}
