// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How often system calls return, how often with an error, and how long they took.
 *
 * Every call of the machine comes by here. So a thread's entry in `entered` is written in place and stays until the thread
 * ends: no call has to insert or delete one. Without times there is no need for the hook where calls begin.
 */
#include "aggregate.h"
#include "syscall.h"
#include "syscall_names.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum count_key {
	BY_SYSCALL,
	BY_PROCESS,
	BY_BOTH,
};
const volatile enum count_key by DOC("What is counted apart: calls, processes, or both") = BY_SYSCALL;

struct key {
	enum syscall syscall DOC("System call; `all` with `by: process`, `compat` for every call of a 32-bit program");
	u32 pid DOC("Process; 0 with `by: syscall`");
	char comm[16] DOC("Command of the thread; empty with `by: syscall`");
};
struct value {
	u64 calls AS("events") DOC("Calls that returned");
	u64 failed DOC("Those that returned an error");
	u64 total_ns UNIT("ns") DOC("How long they took together; 0 with `latency: false`");
};
AGGREGATE(PERCPU_HASH, calls, struct key, struct value, 4096) DOC("System calls, and the time they took");
AGGREGATE_DENSE(calls, struct value, 512);

TASK_FILTERS();
FILTER(enum syscall, syscall, 16) DOC("Only these calls, by name") = {};
FILTER(bool, failed, 1) DOC("true: only calls that failed; false: only those that worked") = {};
const volatile bool latency DOC("Whether times are taken; without them a call costs a quarter") = true;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u32);
	__type(value, u64);
} entered SEC(".maps") DOC("Threads that made calls since the start, and when those that are in one began it");
REFUSALS(entered);

SEC("tp_btf/sys_enter")
SKIP_IF("latency=false") int BPF_PROG(call_begins, struct pt_regs *regs, long nr)
{
	u64 id = bpf_get_current_pid_tgid(), now, *entry;
	u32 thread = id;

	if (!task_passes(id))
		return 0;
	entry = bpf_map_lookup_elem(&entered, &thread);
	now = bpf_ktime_get_ns();
	if (entry)
		*entry = now;
	else if (bpf_map_update_elem(&entered, &thread, &now, BPF_ANY))
		count_map_full(entered);
	return 0;
}

/* What a call's registers say when it returns. */
static __always_inline enum syscall call_of(struct pt_regs *regs)
{
	s64 nr = SYSCALL_RAW_NR(regs);

	if (is_compat(regs))
		return SYS_COMPAT;
	/* The one call that takes its number with it: the registers are those from before the signal */
	return nr < 0 ? SYS_RT_SIGRETURN : nr;
}

/* A process that was just made returns from a call that it never made. */
static __always_inline bool is_child(enum syscall nr, long ret)
{
	if (ret)
		return false;
#if defined(__TARGET_ARCH_x86)
	if (nr == SYS_FORK || nr == SYS_VFORK)
		return true;
#endif
	return nr == SYS_CLONE || nr == SYS_CLONE3;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(call_returns, struct pt_regs *regs, long ret)
{
	bool error = (u64)ret > -4096ULL; /* MAX_ERRNO */
	u64 id = bpf_get_current_pid_tgid(), now, took = 0, *entry;
	struct value *value = NULL;
	struct key key = {};
	u32 thread = id;
	enum syscall nr;

	if (latency) {
		/* An exec may have changed the command since the call began: whether it passes was decided there */
		if (is_runner(id >> 32) || !filter_passes(pid, (u32)(id >> 32)) || !filter_passes(tid, thread))
			return 0;
		entry = bpf_map_lookup_elem(&entered, &thread);
		if (!entry || !*entry)
			return 0;
		now = bpf_ktime_get_ns();
		took = now - *entry;
		*entry = 0;
	} else if (!task_passes(id)) {
		return 0;
	}
	if (!filter_passes(failed, error))
		return 0;
	nr = call_of(regs);
	if (!filter_passes(syscall, nr) || (!latency && is_child(nr, ret)))
		return 0;
	if (by == BY_SYSCALL)
		value = aggregate_dense(calls, nr);
	if (!value) {
		key.syscall = by == BY_PROCESS ? SYS_ALL : nr;
		if (by != BY_SYSCALL) {
			key.pid = id >> 32;
			bpf_get_current_comm(key.comm, sizeof(key.comm));
		}
		value = aggregate(calls, &key);
	}
	if (!value)
		return 0;
	counter_add_here(&value->calls, 1);
	if (error)
		counter_add_here(&value->failed, 1);
	if (latency)
		counter_add_here(&value->total_ns, took);
	return 0;
}

SEC("tp_btf/sched_process_exit")
SKIP_IF("latency=false") int BPF_PROG(thread_ends, struct task_struct *task)
{
	u32 thread = bpf_get_current_pid_tgid();

	bpf_map_delete_elem(&entered, &thread);
	return 0;
}
