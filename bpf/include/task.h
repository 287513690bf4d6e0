/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The filters on a task, for every program that has one: TASK_FILTERS(), once in the file, declares them all, and
 *
 *	task_passes(id)         evaluates them for the current task; `id` is bpf_get_current_pid_tgid()
 *	task_passes_other(task) evaluates them for any task, by its struct
 *	process_passes(task)    evaluates them for the process of `task`, which may be any of its threads that still runs
 *
 * A program that follows something from its start to its end evaluates them at the start only: the current task is then
 * the owner.
 */
#pragma once

#include "filter.h"

#define TASK_FILTERS()                                                                                            \
	FILTER(u32, pid, 16) DOC("Only these processes") = {};                                                    \
	FILTER(u32, tid, 16) DOC("Only these threads") = {};                                                      \
	FILTER(u32, uid, 16) KIND("user") DOC("Only processes of these users, by number or name (real user ID)") = {}; \
	FILTER(struct runner_comm, comm, 8) DOC("Only threads with these names; `name*` matches names that begin with `name`") = {}; \
	FILTER(struct runner_comm, process_comm, 8) DOC("Only processes with these names, with all of their threads; `name*` as in `comm`") = {}; \
	FILTER(struct runner_cgroup, cgroup, 4) KIND("cgroup") DOC("Only processes in these cgroups or below them, by path") = {}; \
	FOLLOWED(cgroup);                                                                                         \
	FILTER(struct runner_cgroup, unit, 4) KIND("unit") DOC("Only processes of these systemd units") = {};      \
	FOLLOWED(unit)

/* include/linux/cgroup-defs.h; until 6.0 a cgroup has its ancestors' IDs, since 6.1 (2dd3ad2c) pointers to them */
static __always_inline u64 task_ancestor(struct task_struct *task, u32 level)
{
	struct cgroup *own = BPF_CORE_READ(task, cgroups, dfl_cgrp), *at = NULL;
	struct cgroup___with_ids *old = (void *)own;
	u64 id = 0;

	if ((u32)BPF_CORE_READ(own, level) < level)
		return 0;
	if (bpf_core_field_exists(old->ancestor_ids)) {
		bpf_probe_read_kernel(&id, sizeof(id), (void *)old + bpf_core_field_offset(old->ancestor_ids) + level * sizeof(id));
		return id;
	}
	bpf_probe_read_kernel(&at, sizeof(at), (void *)own + bpf_core_field_offset(own->ancestors) + level * sizeof(at));
	return BPF_CORE_READ(at, kn, id);
}

/*
 * Not the helper for the current task's ancestor: 5.10 does not have it for tracing. The ID of a cgroup that does not exist
 * at the moment is 0: no cgroup has it, and no task is in it.
 */
#define TASK_IN(f, task)                                          \
	({                                                         \
		bool hit = false;                                  \
		_Pragma("unroll") for (u32 i = 0; i < FILTER_MAX(f); i++) \
			if (i < (f).n && followed_##f[i].id &&     \
			    task_ancestor(task, followed_##f[i].level) == followed_##f[i].id) \
				hit = true;                        \
		FILTER_VERDICT(f, hit);                            \
	})

/* The name of the process of `task`: that of its first thread, also when that one has ended. `name` is all zero before. */
#define process_name_into(name, task) BPF_CORE_READ_STR_INTO(name, task, group_leader, comm)

/* The same for a thread whose name and IDs are known: for a first thread nothing is read. */
#define process_name_or(name, task, is_first, comm)               \
	({                                                         \
		if (is_first)                                      \
			__builtin_memcpy(name, comm, sizeof(*(name))); \
		else                                               \
			process_name_into(name, task);             \
	})

/* The same for the current task, whose IDs are `id`. */
#define current_process_name(name, id)                            \
	({                                                         \
		u64 __numbers = (id);                              \
		if (__numbers >> 32 == (u32)__numbers) {           \
			bpf_get_current_comm(name, sizeof(*(name))); \
		} else {                                           \
			struct task_struct *__caller = (void *)bpf_get_current_task(); \
			process_name_into(name, __caller);         \
		}                                                  \
	})

/* Whether no filter on tasks is set. An event without a task passes only then. */
#define task_filters_off() (!pid.n && !tid.n && !uid.n && !comm.n && !process_comm.n && !cgroup.n && !unit.n)

/* The filters that need the task's struct, except the one on a thread's name */
#define TASK_STRUCT_PASSES(task)                                                                        \
	({                                                                                              \
		bool __ok = true;                                                                       \
		if (cgroup.n)                                                                           \
			__ok = TASK_IN(cgroup, task);                                                   \
		if (__ok && unit.n)                                                                     \
			__ok = TASK_IN(unit, task);                                                     \
		if (__ok && process_comm.n) {                                                           \
			u64 __process[2] = {};                                                          \
			process_name_into(&__process, task);                                            \
			__ok = filter_passes_comm(process_comm, __process);                             \
		}                                                                                       \
		__ok;                                                                                   \
	})

#define task_passes(id)                                                                                 \
	({                                                                                              \
		u64 __id = (id);                                                                        \
		bool __ok = !is_runner(__id >> 32) && filter_passes(pid, (u32)(__id >> 32)) &&          \
			    filter_passes(tid, (u32)__id);                                              \
		if (__ok && uid.n)                                                                      \
			__ok = filter_passes(uid, (u32)bpf_get_current_uid_gid());                      \
		if (__ok && (cgroup.n || unit.n || process_comm.n)) {                                   \
			struct task_struct *__current = (void *)bpf_get_current_task();                 \
			__ok = TASK_STRUCT_PASSES(__current);                                           \
		}                                                                                       \
		if (__ok && comm.n) {                                                                   \
			u64 __name[2] = {};                                                             \
			bpf_get_current_comm(__name, sizeof(__name));                                   \
			__ok = filter_passes_comm(comm, __name);                                        \
		}                                                                                       \
		__ok;                                                                                   \
	})

/* The filter `tid` is compared with `number`, the filter `comm` with the name of the task `named`. */
#define TASK_PASSES_AS(task, tgid_of, number, named)                                                    \
	({                                                                                              \
		bool __ok = !is_runner_task(task, tgid_of) && filter_passes(pid, tgid_of);              \
		if (__ok && tid.n)                                                                      \
			__ok = filter_passes(tid, (u32)(number));                                       \
		if (__ok && uid.n)                                                                      \
			__ok = filter_passes(uid, (u32)BPF_CORE_READ(task, cred, uid.val));             \
		if (__ok && (cgroup.n || unit.n || process_comm.n))                                     \
			__ok = TASK_STRUCT_PASSES(task);                                                \
		if (__ok && comm.n) {                                                                   \
			u64 __name[2] = {};                                                             \
			/* As text: until 5.16 bytes of an earlier, longer name can follow its end */         \
			BPF_CORE_READ_STR_INTO(&__name, named, comm);                                   \
			__ok = filter_passes_comm(comm, __name);                                        \
		}                                                                                       \
		__ok;                                                                                   \
	})

#define task_passes_other(task)                                                                         \
	({                                                                                              \
		struct task_struct *__task = (task);                                                    \
		u32 __tgid = BPF_CORE_READ(__task, tgid);                                               \
		TASK_PASSES_AS(__task, __tgid, BPF_CORE_READ(__task, pid), __task);                     \
	})

/*
 * A first thread that has ended keeps its name, but its cgroup and user no longer change: those are read from `task`. `tid`
 * is the ID of the first thread, which is that of the process.
 */
#define process_passes(task)                                                                            \
	({                                                                                              \
		struct task_struct *__task = (task);                                                    \
		struct task_struct *__first = BPF_CORE_READ(__task, group_leader);                      \
		u32 __tgid = BPF_CORE_READ(__task, tgid);                                               \
		TASK_PASSES_AS(__task, __tgid, __tgid, __first);                                        \
	})
