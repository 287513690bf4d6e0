//! What can be known of this machine before anything is loaded, for whoever wonders why something does not run.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::kernel_info::{self, KernelInfo};
use super::{Host, log};

/// The kernel's number of the helper that reads its memory.
const PROBE_READ_KERNEL: u32 = 113;

/// Where the switch of all kprobes is; debugfs, for root.
const KPROBES_ENABLED: &str = "/sys/kernel/debug/kprobes/enabled";

/// Settings and abilities of the kernel. `None`, where nothing else is said: it does not tell, or not to this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostCapabilities {
    /// `uname -m`
    pub machine: String,
    /// Whether the types in sysfs can be read.
    pub types: bool,
    /// Whether programs may read the kernel's memory; not in the lockdown mode `confidentiality`.
    pub reads_memory: Option<bool>,
    /// Whether there are ring buffers.
    pub ring_buffer: Option<bool>,
    /// `kernel.unprivileged_bpf_disabled`
    pub unprivileged_bpf_disabled: Option<i64>,
    /// `kernel.perf_event_paranoid`
    pub perf_event_paranoid: Option<i64>,
    /// `kernel.kptr_restrict`
    pub kptr_restrict: Option<i64>,
    /// `kernel.ftrace_enabled`
    pub ftrace_enabled: Option<i64>,
    /// Whether kprobes, of which [`Host`] knows whether there are any, are switched on.
    pub kprobes_enabled: Option<bool>,
    /// The place of the list of tracepoints.
    pub tracefs: Tracefs,
}

/// Whether tracepoints can be looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tracefs {
    /// Not mounted, as far as is known.
    #[default]
    Missing,
    /// Mounted, but not open to this process.
    Closed(PathBuf),
    /// This process can look into it.
    Open(PathBuf),
}

impl HostCapabilities {
    /// Looks at this machine. What it takes rights to know, a process that has them asks the kernel for: by making a map
    /// and loading a program of two instructions, which are given up at once.
    pub fn read(host: &Host, kernel: &KernelInfo) -> Self {
        log::start();
        let tables = kernel.read(host);
        HostCapabilities {
            machine: rustix::system::uname().machine().to_string_lossy().into_owned(),
            types: tables.is_ok(),
            reads_memory: reads_memory(host),
            ring_buffer: tables.ok().map(|_| Host::has_ring_buffer()),
            unprivileged_bpf_disabled: number("unprivileged_bpf_disabled"),
            perf_event_paranoid: number("perf_event_paranoid"),
            kptr_restrict: number("kptr_restrict"),
            ftrace_enabled: number("ftrace_enabled"),
            kprobes_enabled: fs::read_to_string(KPROBES_ENABLED).ok().map(|text| text.trim() == "1"),
            tracefs: tracefs(&fs::read("/proc/self/mounts").unwrap_or_default()),
        }
    }
}

/// Asks by loading a program of two instructions; `None` without the right to, because libbpf takes any refusal but that of
/// the helper for a yes.
fn reads_memory(host: &Host) -> Option<bool> {
    if host.check().is_err() || host.user_namespace || host.seccomp {
        return None;
    }
    // SAFETY: numbers and a null pointer, which stands for no options.
    let answer = unsafe {
        libbpf_sys::libbpf_probe_bpf_helper(
            libbpf_sys::BPF_PROG_TYPE_RAW_TRACEPOINT,
            PROBE_READ_KERNEL,
            std::ptr::null(),
        )
    };
    match answer {
        1 => Some(true),
        0 => Some(false),
        _ => None,
    }
}

/// `sysctl kernel.NAME`
fn number(name: &str) -> Option<i64> {
    fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?.trim().parse().ok()
}

/// From the lines of /proc/self/mounts, where mount points of other users (FUSE) may have names of any bytes.
fn tracefs(mounts: &[u8]) -> Tracefs {
    let mut lines = mounts.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b' '));
    let mounted = lines.find_map(|mut words| {
        let (path, kind) = (words.nth(1)?, words.next()?);
        (kind == b"tracefs").then(|| PathBuf::from(OsStr::from_bytes(path)))
    });
    match mounted.or_else(|| kernel_info::tracefs().ok().flatten()) {
        None => Tracefs::Missing,
        Some(path) if fs::read_dir(path.join("events")).is_ok() => Tracefs::Open(path),
        Some(path) => Tracefs::Closed(path),
    }
}

#[cfg(test)]
mod tests;
