/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Pages of files, independent of the kernel version: a page is `struct page` up to 5.15, then part of a `struct folio`. */
#pragma once

#include "kernel_types.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/rwsem.h; without `owner` in a PREEMPT_RT kernel */
struct rw_semaphore {
	struct {
		long counter;
	} owner;
};

/* include/linux/fs.h */
struct inode {
	u16 i_mode;
	s64 i_size;
	struct rw_semaphore i_rwsem;
};
struct address_space {
	struct inode *host;
};

/* include/linux/mm_types.h */
struct page {
	struct address_space *mapping;
};
struct folio {
	struct address_space *mapping;
	unsigned long flags;
	unsigned int _nr_pages; /* since 6.15; only in a folio of several pages, as the next one */
};
struct folio___before_6_15 {
	unsigned int _folio_nr_pages; /* since 5.19 */
};
struct folio___since_6_18 {
	struct {
		unsigned long f;
	} flags; /* memdesc_flags_t */
};

#pragma clang attribute pop

/* include/linux/page-flags.h; the value is a placeholder */
enum pageflags {
	PG_head = 16,
};

static __always_inline struct address_space *mapping_of(void *page)
{
	if (bpf_core_type_exists(struct folio))
		return BPF_CORE_READ((struct folio *)page, mapping);
	return BPF_CORE_READ((struct page *)page, mapping);
}

/* Number of pages of a folio; 1 for a page. */
static __always_inline u32 pages_of(void *page)
{
	struct folio___before_6_15 *older = page;
	struct folio___since_6_18 *newer = page;
	struct folio *folio = page;
	u64 flags;

	if (!bpf_core_type_exists(struct folio))
		return 1;
	flags = bpf_core_field_exists(newer->flags.f) ? BPF_CORE_READ(newer, flags.f) : BPF_CORE_READ(folio, flags);
	if (!(flags & 1ULL << bpf_core_enum_value(enum pageflags, PG_head)))
		return 1;
	if (bpf_core_field_exists(folio->_nr_pages))
		return BPF_CORE_READ(folio, _nr_pages);
	return bpf_core_field_exists(older->_folio_nr_pages) ? BPF_CORE_READ(older, _folio_nr_pages) : 1;
}

/* Whether `inode` is a regular file, not a device, a directory or file system metadata. */
static __always_inline bool is_file(struct inode *inode)
{
	return (BPF_CORE_READ(inode, i_mode) & 0170000) == 0100000; /* S_IFMT, S_IFREG */
}

/* Whether the current task is writing to the file: a writer holds the file's lock exclusively. */
static __always_inline bool is_written(struct inode *inode)
{
	u64 owner;

	if (!bpf_core_field_exists(inode->i_rwsem.owner))
		return false;
	owner = BPF_CORE_READ(inode, i_rwsem.owner.counter);
	/* kernel/locking/rwsem.c: the lowest bits are flags; the first one is set for a shared lock */
	return !(owner & 1) && (owner & ~7ULL) == bpf_get_current_task();
}
