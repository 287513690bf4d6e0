//! What the helper gives up. It reads files that an enemy may have made, so it can do little else: no sockets, no
//! programs, no processes, nothing to be written to.

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

/// Bytes of memory that a worker may ask for.
pub const MAX_MEMORY: u64 = 256 << 20;
/// Files that a worker may have open.
const MAX_FILES: u64 = 512;
/// When the machine runs out of memory, names are what it can do without.
const FIRST_TO_GO: &str = "1000";

/// System calls with any arguments.
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

/// The rights of the process and of those that it starts: `needed` and no more, for good; and it ends with its parent.
///
/// # Errors
/// If the kernel refuses.
pub fn give_up_rights(needed: CapabilitySet) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let _ = set_name(c"ebpf-run-names"); // for `ps`
    let _ = fs::write("/proc/self/oom_score_adj", FIRST_TO_GO); // where /proc is read-only it is as good as the rest
    clear_ambient_capability_set()?;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: needed, permitted: needed, inheritable })?;
    set_no_new_privs(true)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    Ok(())
}

/// What is left is memory, time, and reading.
///
/// # Errors
/// If the kernel refuses.
pub fn confine() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?; // a fork forgets it
    limit(Resource::Data, MAX_MEMORY)?;
    limit(Resource::Nofile, MAX_FILES)?;
    let filter = filter().map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut().cast() };
    // By prctl, which sandboxes around this one allow that do not know seccomp(2).
    // SAFETY: `program` points at as many instructions as it says, in the kernel's own layout, and the kernel copies them
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
    // Not those by which a file sends signals to others
    let commands = [libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_GETFL].map(|command| command as u64);
    rules.insert(libc::SYS_fcntl, is_one_of(1, &commands)?);
    rules.insert(libc::SYS_ioctl, is_one_of(1, &[NS_GET_USERNS])?);
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests;
