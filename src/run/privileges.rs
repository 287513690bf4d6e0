//! Least privilege: once everything is attached, a run drops the capabilities that it no longer requires.
//!
//! Open descriptors stay usable: buffers, maps, links, files, the kernel's symbols. Capabilities are required only
//! where something is opened or renamed later, which is known at this point: in the directories of the files. A
//! separate process with its own capabilities finds the symbols of processes.

use rustix::fs::{AtFlags, fstat, statat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};
use rustix::thread::set_no_new_privs;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities};

use crate::catalog::StackKind;
use crate::error::{Error, Result};
use crate::files::atomic::OpenDir;
use crate::kernel::Loaded;
use crate::plan::Plan;

/// Drops every capability of this thread, and so of the threads that it starts, except `needed`; and prevents the
/// process from gaining any by executing a program. Returns the remaining ones.
///
/// # Errors
/// If the kernel refuses.
pub fn drop(mut needed: CapabilitySet, loaded: &[Loaded]) -> Result<CapabilitySet> {
    let failed = |error: Errno| Error::failed(format!("capabilities can't be dropped: {error}"));
    let had = capabilities(None).map_err(failed)?.permitted;
    needed &= had;
    let sets = |effective, permitted| CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() };
    // First, so that they can be raised again: before Linux 6.0, reading a map requires the capability to load one
    clear_ambient_capability_set().map_err(failed)?;
    set_capabilities(None, sets(needed, had)).map_err(failed)?;
    let readable = |loaded: &Loaded| loaded.counters().is_ok() && loaded.missed().is_ok();
    if !loaded.iter().all(readable) {
        needed |= had & if had.contains(CapabilitySet::BPF) { CapabilitySet::BPF } else { CapabilitySet::SYS_ADMIN };
    }
    set_capabilities(None, sets(needed, needed)).map_err(failed)?;
    set_no_new_privs(true).map_err(failed)?;
    Ok(needed)
}

/// The capabilities that the symbol helper requires for the names of frames in processes: their memory maps and the
/// files behind them (/proc/PID/map_files; before 5.9 that required CAP_SYS_ADMIN). `None` if the plan has no such
/// stacks.
pub fn for_symbol_helper(plan: &Plan) -> Option<CapabilitySet> {
    has_stacks(plan, StackKind::User).then(|| {
        let had = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
        let newer = had.contains(CapabilitySet::CHECKPOINT_RESTORE);
        let files = if newer { CapabilitySet::CHECKPOINT_RESTORE } else { CapabilitySet::SYS_ADMIN };
        had & (CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH | files)
    })
}

/// Whether any probe has stacks of this kind.
pub fn has_stacks(plan: &Plan, kind: StackKind) -> bool {
    let mut keys =
        plan.probes.iter().filter_map(|probe| probe.aggregate.as_ref()).flat_map(|aggregate| &aggregate.spec.key);
    keys.any(|key| key.stack == Some(kind))
}

/// The capabilities that the symbol helper requires and does not have.
pub fn missing_for_symbols(has: CapabilitySet) -> Vec<&'static str> {
    let files = CapabilitySet::CHECKPOINT_RESTORE | CapabilitySet::SYS_ADMIN;
    let needed = [
        (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"),
        (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
        (files, "CAP_CHECKPOINT_RESTORE"),
    ];
    needed.into_iter().filter(|(any, _)| !has.intersects(*any)).map(|(_, name)| name).collect()
}

/// The capabilities for renaming and removing files in `place`, if a file `name` can exist there already.
pub fn for_files(place: &OpenDir, name: &std::ffi::OsStr) -> CapabilitySet {
    let Ok(folder) = fstat(&place.fd) else { return CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER };
    let (own, mode) = (geteuid().as_raw(), folder.st_mode);
    let in_group = || {
        let groups = getgroups().unwrap_or_default();
        folder.st_gid == getegid().as_raw() || groups.iter().any(|group| group.as_raw() == folder.st_gid)
    };
    let may_write = if folder.st_uid == own {
        mode & 0o300 == 0o300
    } else if in_group() {
        mode & 0o030 == 0o030
    } else {
        mode & 0o003 == 0o003
    };
    let mut needed = CapabilitySet::empty();
    if !may_write {
        needed |= CapabilitySet::DAC_OVERRIDE;
    }
    // With the sticky bit, only root can replace another user's file
    let others = statat(&place.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|file| file.st_uid != own);
    if mode & 0o1000 != 0 && folder.st_uid != own && others {
        needed |= CapabilitySet::FOWNER;
    }
    needed
}

/// `DAC_OVERRIDE SYSLOG`, for reports.
pub fn names(capabilities: CapabilitySet) -> Vec<String> {
    capabilities.iter_names().map(|(name, _)| name.to_owned()).collect()
}
