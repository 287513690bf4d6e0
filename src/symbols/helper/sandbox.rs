//! Restricts the helper. It reads files that can be hostile, so it can do little else: no sockets, no execution of
//! programs, no processes, no writes to files.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_name, set_no_new_privs,
};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule};

use super::files::NS_GET_USERNS;

/// Limit of memory of a worker, bytes.
pub const MAX_MEMORY: u64 = 256 << 20;
/// Limit of open files of a worker.
const MAX_FILES: u64 = 512;
/// When the machine runs out of memory, the helper is killed first: a run can continue without names.
const FIRST_TO_GO: &str = "1000";

/// System calls that are permitted with any arguments.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_setitimer,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Limits the capabilities of the process and of its children to `needed`, permanently; and the process ends with its
/// parent.
///
/// # Errors
/// If the kernel refuses.
pub fn give_up_rights(needed: CapabilitySet) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let _ = set_name(c"ebpf-run-names"); // for `ps`
    let _ = fs::write("/proc/self/oom_score_adj", FIRST_TO_GO); // a failure, for example with a read-only /proc, is ignored
    clear_ambient_capability_set()?;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: needed, permitted: needed, inheritable })?;
    set_no_new_privs(true)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    Ok(())
}

/// Limits the process to memory, time, and reads.
///
/// # Errors
/// If the kernel refuses.
pub fn confine() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?; // a fork resets it
    limit(Resource::Data, MAX_MEMORY)?;
    limit(Resource::Nofile, MAX_FILES)?;
    let filter = filter().map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut().cast() };
    // With prctl, which outer sandboxes permit even if they do not know seccomp(2).
    // SAFETY: `program` points at the number of instructions that it has, in the kernel's layout, and the kernel copies
    // them
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

fn filter() -> Result<BpfProgram, Box<dyn std::error::Error + Send + Sync>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    ALLOWED.iter().for_each(|call| drop(rules.insert(*call, Vec::new())));
    let none_of = |argument: u8, bits: libc::c_int| {
        let condition = SeccompCondition::new(argument, Dword, MaskedEq(u64::from(bits as u32)), 0)?;
        SeccompRule::new(vec![condition])
    };
    let writes =
        libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND | (libc::O_TMPFILE & !libc::O_DIRECTORY);
    rules.insert(libc::SYS_openat, vec![none_of(2, writes)?]);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![none_of(2, libc::PROT_EXEC)?]);
    }
    let is_one_of = |argument: u8, values: &[u64]| {
        let rule = |value: &u64| SeccompRule::new(vec![SeccompCondition::new(argument, Dword, Eq, *value)?]);
        values.iter().map(rule).collect::<Result<Vec<_>, _>>()
    };
    // Not those by which a file sends signals to other processes
    let commands = [libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_GETFL].map(|command| command as u64);
    rules.insert(libc::SYS_fcntl, is_one_of(1, &commands)?);
    rules.insert(libc::SYS_ioctl, is_one_of(1, &[NS_GET_USERNS])?);
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests;
