// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How files are served from the page cache: pages that were accessed, pages that were added to the cache, pages dirtied.
 *
 * Cache hits are the difference of the first two. The program does not compute them: readahead adds a page before it is
 * accessed, maybe in the previous interval. The reader of the rows can subtract sums over several intervals.
 */
#include "aggregate.h"
#include "kprobe.h"
#include "mm.h"
#include "syscall.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile bool by_process DOC("true: one row per process") = false;

struct key {
	u32 pid DOC("Process ID with `by_process: true`, otherwise 0");
	char comm[16] DOC("Name of the process with `by_process: true`, otherwise empty");
};
struct value {
	u64 accessed DOC("Pages of files that were read or mapped");
	u64 misses DOC("Pages that were added to the page cache for these accesses, with readahead");
	u64 dirtied DOC("Pages that became dirty: the first write to a page after writeback");
};
AGGREGATE(PERCPU_HASH, pages, struct key, struct value, 4096) DOC("Page cache accesses, misses and dirtied pages") TRY("cached_read");

ACCURACY(
	SEES("pages of files that are read: by every call (`read`, `sendfile`, `splice`, io_uring) and by page faults of a mapping")
	SEES("pages that are added to the page cache for that, also by readahead; pages that become dirty")
	NOT_SEEN("pages of directories, of block devices, and of file system metadata")
	NOT_SEEN("reads and writes that bypass the page cache (`O_DIRECT`)")
	NOT_SEEN("pages that a write adds, and what a write of less than a page reads from the disk")
	NOT_SEEN("misses of tmpfs, which has none; from 6.12 on also its reads")
	OWNER("the thread that reads, faults or writes; with `by_process: true` a row is its process")
	TIME("a page counts when it is accessed, added to the page cache, or dirtied for the first time after writeback")
	EXACT("an estimate: `accessed - misses` can be negative in one interval, because a page is added before it is read")
	EXACT("two reads that end at the same page are distinguished by the thread's count of reads")
	EXACT("the same with splice, io_uring, kernel threads, or without `CONFIG_TASK_XACCT`: by where the second read begins")
	EXACT("on PREEMPT_RT, pages that a write adds count as misses")
	EXACT("with pages larger than 4 KiB, a read beyond the end of a file counts a few pages too many")
	VARIANTS("`tracepoints` (6.12): a read counts the pages that it requests, a fault those that are mapped around it")
	VARIANTS("`folio_fentry` `folio_kprobe` `page_fentry` `page_kprobe`: pages that the kernel marks accessed; consecutive small reads of one page count once")
	VARIANTS("the same four: all pages of a folio count at once; mapped pages count when they are unmapped")
	VARIANTS("`folio` and `page` of `dirtied`: the same event under its new and its old name")
);

TASK_FILTERS();

struct reading {
	u64 mapping;
	u64 first;
	u64 last;
	u64 calls; /* reads that the thread had finished */
	u64 added; /* not 0: the thread has added pages to the cache since then */
};

/* LRU: an evicted entry makes a read that is under way count twice; nothing else goes wrong */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, struct reading);
} readings SEC(".maps") DOC("Last read of each thread");
INSERT_FAILURES(readings);

static __always_inline struct value *counters_of_current(void)
{
	struct key key = {};

	if (by_process) {
		u64 id = bpf_get_current_pid_tgid();

		key.pid = id >> 32;
		current_process_name(&key.comm, id);
	}
	return aggregate(pages, &key);
}

static __always_inline void count_accessed(u64 number)
{
	struct value *value = counters_of_current();

	if (value)
		counter_add(&value->accessed, number);
}

/* Number of pages from `first` to `last` that are within the file. */
static __always_inline u64 pages_between(struct inode *inode, u64 first, u64 last)
{
	/* Pages of 4 KiB; larger ones can make the file's last page count for several */
	u64 end = (BPF_CORE_READ(inode, i_size) + 4095) >> 12;

	if (last >= end)
		last = end - 1;
	return end && first <= last ? last - first + 1 : 0;
}

/* A batch that the kernel looks up at once has room for at least this many folios (PAGEVEC_SIZE). */
#define BATCH 15

#define PF_USER_WORKER 0x00004000 /* include/linux/sched.h: threads of io_uring */
#define PF_KTHREAD 0x00200000

/* Whether each read that the current task makes now increments its count of reads, if the kernel has one. */
static __always_inline bool reads_are_counted(struct task_struct *task)
{
	struct pt_regs *regs;
	s64 nr;

	if (!bpf_core_field_exists(task->ioac.syscr) || task->flags & (PF_USER_WORKER | PF_KTHREAD))
		return false;
	regs = (void *)bpf_task_pt_regs(task);
	nr = READ_SYSCALL_RAW_NR(regs);
	return nr != NR_SPLICE && nr != NR_IO_URING_ENTER;
}

/*
 * Whether this lookup continues the thread's last read. A read looks its pages up in batches, each time from its current
 * position to its end. A new read that begins later and ends at the same page looks the same. The thread's count of reads
 * distinguishes them: it is incremented at the end of a read. For reads that are not in this count, a lookup continues the
 * last one only after a whole batch, or if the batch was cut short because the next page had to be added to the cache.
 */
static __always_inline bool goes_on(u64 mapping, u64 first, u64 last)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct reading now = {mapping, first, last}, *before;
	u32 thread = bpf_get_current_pid_tgid();
	bool same;

	if (bpf_core_field_exists(task->ioac.syscr))
		now.calls = task->ioac.syscr;

	before = bpf_map_lookup_elem(&readings, &thread);
	if (!before) {
		if (bpf_map_update_elem(&readings, &thread, &now, BPF_ANY))
			__sync_fetch_and_add(&insert_failures_readings, 1);
		return false;
	}
	same = before->mapping == mapping && before->last == last && before->first < first && before->calls == now.calls;
	if (same && !before->added && first - before->first < BATCH && !reads_are_counted(task))
		same = false;
	*before = now;
	return same;
}

SEC("tp_btf/mm_filemap_get_pages")
ALTERNATIVE("accessed", "tracepoints") int BPF_PROG(pages_read, struct address_space *mapping, unsigned long first, unsigned long last)
{
	struct inode *inode = mapping->host;
	u64 number;

	if (!task_passes(bpf_get_current_pid_tgid()) || !is_file(inode))
		return 0;
	number = pages_between(inode, first, last);
	if (number && !goes_on((u64)mapping, first, last))
		count_accessed(number);
	return 0;
}

/* A fault also maps the pages around it that are in the cache */
SEC("tp_btf/mm_filemap_map_pages")
ALTERNATIVE("accessed", "tracepoints") int BPF_PROG(pages_mapped, struct address_space *mapping, unsigned long first, unsigned long last)
{
	struct inode *inode = mapping->host;
	u64 number;

	if (!task_passes(bpf_get_current_pid_tgid()) || !is_file(inode))
		return 0;
	number = pages_between(inode, first, last);
	if (number)
		count_accessed(number);
	return 0;
}

SEC("tp_btf/mm_filemap_fault")
ALTERNATIVE("accessed", "tracepoints") int BPF_PROG(page_fault, struct address_space *mapping, unsigned long index)
{
	if (task_passes(bpf_get_current_pid_tgid()) && is_file(mapping->host))
		count_accessed(1);
	return 0;
}

/* Kernels before 6.12 lack these tracepoints, but call a function for each page */
static __always_inline int page_accessed(void *page)
{
	struct address_space *mapping;

	if (!task_passes(bpf_get_current_pid_tgid()))
		return 0;
	mapping = mapping_of(page);
	if ((u64)mapping & 3 || !mapping || !is_file(BPF_CORE_READ(mapping, host))) /* PAGE_MAPPING_FLAGS: no file's */
		return 0;
	count_accessed(pages_of(page));
	return 0;
}

SEC("fentry/folio_mark_accessed")
ALTERNATIVE("accessed", "folio_fentry") int BPF_PROG(folio_accessed, struct folio *folio)
{
	return page_accessed(folio);
}

SEC("kprobe/folio_mark_accessed")
ALTERNATIVE("accessed", "folio_kprobe") int folio_accessed_kprobe(struct pt_regs *regs)
{
	return page_accessed(FUNCTION_ARG1(regs));
}

SEC("fentry/mark_page_accessed")
ALTERNATIVE("accessed", "page_fentry") int BPF_PROG(page_accessed_fentry, struct page *page)
{
	return page_accessed(page);
}

SEC("kprobe/mark_page_accessed")
ALTERNATIVE("accessed", "page_kprobe") int page_accessed_kprobe(struct pt_regs *regs)
{
	return page_accessed(FUNCTION_ARG1(regs));
}

SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(page_added, void *page)
{
	struct address_space *mapping;
	struct reading *reading;
	struct value *value;
	struct inode *inode;
	u32 thread;

	if (!task_passes(bpf_get_current_pid_tgid()))
		return 0;
	mapping = mapping_of(page);
	inode = BPF_CORE_READ(mapping, host);
	if (!is_file(inode) || is_written(inode)) /* a page that a write adds is about to be overwritten */
		return 0;
	value = counters_of_current();
	if (value)
		counter_add(&value->misses, pages_of(page));
	thread = bpf_get_current_pid_tgid();
	reading = bpf_map_lookup_elem(&readings, &thread);
	if (reading)
		reading->added = 1;
	return 0;
}

static __always_inline int page_dirtied(void *page, struct address_space *mapping)
{
	struct value *value;

	if (!mapping || !task_passes(bpf_get_current_pid_tgid()) || !is_file(BPF_CORE_READ(mapping, host)))
		return 0;
	value = counters_of_current();
	if (value)
		counter_add(&value->dirtied, pages_of(page));
	return 0;
}

SEC("tp_btf/writeback_dirty_folio")
ALTERNATIVE("dirtied", "folio") int BPF_PROG(folio_dirtied, void *folio, struct address_space *mapping)
{
	return page_dirtied(folio, mapping);
}

SEC("tp_btf/writeback_dirty_page")
ALTERNATIVE("dirtied", "page") int BPF_PROG(page_dirtied_tp, void *page, struct address_space *mapping)
{
	return page_dirtied(page, mapping);
}
