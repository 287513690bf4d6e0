// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event per process that the OOM killer chooses because the host or a cgroup has no memory left.
 *
 * The tracepoint fires when the victim is marked, while it still has all of its memory: once for each process, also if all
 * processes of a cgroup are killed together (memory.oom.group). Without a change of 6.8 (72ba14deb40a), which many older
 * kernels have too, its argument is a number and not a task. Then the program hooks the function that marks the victim, or
 * else the function that chooses one victim, which does not see the other processes of a group.
 *
 * The task of a hook is any thread of the victim that has its memory, or its first thread, which may have ended.
 */
#include "kprobe.h"
#include "process.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	u64 ts KIND("ktime") DOC("Time at which the process was chosen");
	u32 pid DOC("Process ID of the victim");
	u32 uid DOC("Real user ID of the victim");
	char comm[16] DOC("Name of the victim: of its first thread, as ps shows it");
	u64 total_vm_bytes UNIT("bytes") DOC("Size of the victim's address space");
	u64 rss_bytes UNIT("bytes") DOC("Memory that the victim uses: anonymous, file and shared pages");
	u32 trigger_pid DOC("Process ID of the task whose allocation triggered the OOM killer");
	char trigger_comm[16] DOC("Name of the thread whose allocation triggered the OOM killer");
	s32 oom_score_adj DOC("oom_score_adj of the victim, -1000 (never killed) to 1000 (killed first)");
	char trigger_process_comm[16] DOC("Name of the process whose allocation triggered the OOM killer");
} DOC("A process killed by the OOM killer");
EVENT(event);

ACCURACY(
	SEES("each process that the kernel's OOM killer chooses because the host or a cgroup has no memory left")
	SEES("each process of a cgroup that is killed as a whole (`memory.oom.group`)")
	SEES("a process that is already ending, and is chosen without being killed")
	NOT_SEEN("processes that a user-space OOM killer kills: those are signals (`sigsnoop`)")
	OWNER("the victim, by the name of its first thread; `trigger_*` is the task whose allocation triggered the OOM killer")
	TIME("`ts`: when the victim is chosen and still has its memory; it ends later (`exitsnoop`)")
	EXACT("one event for a process; `rss_bytes` can lack some pages that each CPU has not added yet")
	VARIANTS("`tracepoint`, `fentry` and `kprobe`: the same events")
	VARIANTS("`kill_fentry` and `kill_kprobe`: only one process of a cgroup that is killed as a whole")
);

/* On the victim */
TASK_FILTERS();

/* kernel/bpf/ringbuf.c: two members with a page each. BTF has the page size nowhere else. */
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

/* A macro, because only a literal index is relocated. Per-CPU counts can make a sum negative. */
#define PAGES_OF(mm, kind)                                                                             \
	({                                                                                             \
		struct mm_struct___before_6_2 *__old = (void *)(mm);                                   \
		s64 __pages = bpf_core_field_exists(__old->rss_stat.count) ?                           \
				      BPF_CORE_READ(__old, rss_stat.count[kind].counter) :             \
				      BPF_CORE_READ(mm, rss_stat[kind].count);                         \
		__pages < 0 ? 0 : __pages;                                                             \
	})
/* include/linux/mm_types_task.h; MM_SWAPENTS between them is not memory */
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

/* The memory of a process: a thread that has ended has released it, the others still have it. */
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

/* The kernel can call the function again for a victim that is already marked; the tracepoint does not fire then. */
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
