// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per process that the kernel chooses to end because memory ran out, of the machine or of a cgroup.
 *
 * The tracepoint comes when the victim is marked, with all of its memory still there: for each process, also where all
 * of a cgroup are killed together (memory.oom.group). Where it lacks a change of 6.8 (72ba14deb40a), which many older
 * kernels have got too, it has no task but a number: then the function that marks it, and where that is not to be had the
 * one that chooses one victim, which does not see the others of a group.
 *
 * The task of a hook is any thread of the victim that has its memory, or the first one, which may have ended.
 */
#include "kprobe.h"
#include "process.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts KIND("ktime") DOC("When it was chosen");
	u32 pid DOC("Process that has to go");
	u32 uid DOC("User it runs as (real user id)");
	char comm[16] DOC("Its name, as ps shows it: that of its first thread");
	u64 total_vm_bytes UNIT("bytes") DOC("Its address space");
	u64 rss_bytes UNIT("bytes") DOC("Its memory in use: anonymous, of files, shared");
	u32 trigger_pid DOC("Process whose request for memory could not be met");
	char trigger_comm[16] DOC("Name of the thread that made it");
	s32 oom_score_adj DOC("The victim's, from -1000 (never) to 1000 (first)");
	char trigger_process_comm[16] DOC("Name of the process that made it");
} DOC("One process that the OOM killer ends");
EVENT(event);

ACCURACY(
	SEES("each process that the kernel's OOM killer chooses, for lack of memory of the machine or of a cgroup")
	SEES("each process of a cgroup that is killed as one (`memory.oom.group`)")
	SEES("a process that is about to end anyway, and is chosen without being killed")
	NOT_SEEN("processes that another process kills for their memory: those are signals (`sigsnoop`)")
	OWNER("the process that is killed, by the name of its first thread; `trigger_*` is the thread that asked for memory")
	TIME("`ts`: when it is chosen, with its memory still there; its end comes later (`exitsnoop`)")
	EXACT("one event for a process; `rss_bytes` is a sum to which each CPU may add some pages later")
	VARIANTS("`tracepoint`, `fentry` and `kprobe`: the same events")
	VARIANTS("`kill_fentry` and `kill_kprobe`: only one process of a cgroup that is killed as one")
);

/* About the process that has to go */
TASK_FILTERS();

/* kernel/bpf/ringbuf.c: two members that have a page each. The page's size is nowhere else in BTF. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_ringbuf {
	unsigned long consumer_pos;
	unsigned long producer_pos;
};
#pragma clang attribute pop

static __always_inline u64 page_size(void)
{
	struct bpf_ringbuf *rb = NULL;

	return bpf_core_field_offset(rb->producer_pos) - bpf_core_field_offset(rb->consumer_pos);
}

/* A macro, because only a literal index is relocated. What each CPU counts for itself can make a sum negative. */
#define PAGES_OF(mm, kind)                                                                             \
	({                                                                                             \
		struct mm_struct___before_6_2 *__old = (void *)(mm);                                   \
		s64 __pages = bpf_core_field_exists(__old->rss_stat.count) ?                           \
				      BPF_CORE_READ(__old, rss_stat.count[kind].counter) :             \
				      BPF_CORE_READ(mm, rss_stat[kind].count);                         \
		__pages < 0 ? 0 : __pages;                                                             \
	})
/* include/linux/mm_types_task.h; between them is MM_SWAPENTS, which is no memory */
#define MM_FILEPAGES 0
#define MM_ANONPAGES 1
#define MM_SHMEMPAGES 3

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* include/linux/oom.h */
struct oom_control {
	struct task_struct *chosen;
};
/* include/linux/sched.h and sched/signal.h: the threads of a process */
struct list_head {
	struct list_head *next;
};
struct task_struct___thread {
	struct list_head thread_node;
	struct mm_struct___usage *mm;
};
struct signal_struct___oom {
	struct list_head thread_head;
	struct mm_struct *oom_mm; /* set when the first thread is marked */
};
#pragma clang attribute pop

#define THREADS_AT_MOST 256

/* The memory of a process: a thread that has ended has given it back, and the others have it still. */
static __always_inline struct mm_struct___usage *memory_of(struct task_struct *task)
{
	struct mm_struct___usage *mm = BPF_CORE_READ(process_of(task), mm);
	struct signal_struct___oom *all = (void *)BPF_CORE_READ(process_of(task), signal);
	struct task_struct___thread *thread = NULL;
	struct list_head *node;

	if (mm)
		return mm;
	node = BPF_CORE_READ(all, thread_head.next);
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < THREADS_AT_MOST && node && !mm; i++) {
		thread = (void *)node - bpf_core_field_offset(thread->thread_node);
		mm = BPF_CORE_READ(thread, mm);
		node = BPF_CORE_READ(node, next);
	}
	return mm;
}

static __always_inline int chosen(void *ctx, struct task_struct *task, u32 user)
{
	struct task_struct *current = (void *)bpf_get_current_task();
	struct mm_struct___usage *mm;
	struct event *e;

	if (!process_passes(task))
		return 0;
	e = event_begin(struct event);
	if (!e)
		return 0;
	mm = memory_of(task);
	e->ts = bpf_ktime_get_ns();
	e->pid = BPF_CORE_READ(task, tgid);
	e->uid = user;
	process_name_into(&e->comm, task);
	e->total_vm_bytes = BPF_CORE_READ(mm, total_vm) * page_size();
	e->rss_bytes = (PAGES_OF(mm, MM_FILEPAGES) + PAGES_OF(mm, MM_ANONPAGES) + PAGES_OF(mm, MM_SHMEMPAGES)) * page_size();
	e->trigger_pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(e->trigger_comm, sizeof(e->trigger_comm));
	process_name_into(&e->trigger_process_comm, current);
	e->oom_score_adj = BPF_CORE_READ(process_of(task), signal, oom_score_adj);
	event_end(ctx, e);
	return 0;
}

/* The older form of the tracepoint has no second argument, and the verifier refuses to read it. */
SEC("tp_btf/mark_victim")
ALTERNATIVE("victim", "tracepoint")
int BPF_PROG(mark_victim, struct task_struct *task, u32 user)
{
	return chosen(ctx, task, user);
}

/* The function can be called again for a victim that is marked already; the tracepoint is not reached then. */
static __always_inline int marking(void *ctx, struct task_struct *task)
{
	struct signal_struct___oom *all = (void *)BPF_CORE_READ(process_of(task), signal);

	if (BPF_CORE_READ(all, oom_mm))
		return 0;
	return chosen(ctx, task, BPF_CORE_READ(task, cred, uid.val));
}

SEC("fentry/mark_oom_victim")
ALTERNATIVE("victim", "fentry")
int BPF_PROG(mark_called, struct task_struct *task)
{
	return marking(ctx, task);
}

SEC("kprobe/mark_oom_victim")
ALTERNATIVE("victim", "kprobe")
int mark_probed(struct pt_regs *regs)
{
	return marking(regs, FUNCTION_ARG1(regs));
}

static __always_inline int killing(void *ctx, struct oom_control *oc)
{
	struct task_struct *task = BPF_CORE_READ(oc, chosen);

	return chosen(ctx, task, BPF_CORE_READ(task, cred, uid.val));
}

SEC("fentry/oom_kill_process")
ALTERNATIVE("victim", "kill_fentry")
int BPF_PROG(kill_called, struct oom_control *oc)
{
	return killing(ctx, oc);
}

SEC("kprobe/oom_kill_process")
ALTERNATIVE("victim", "kill_kprobe")
int kill_probed(struct pt_regs *regs)
{
	return killing(regs, FUNCTION_ARG1(regs));
}
