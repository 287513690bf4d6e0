//! Properties of this machine for `doctor`: those that explain why a probe does not run.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::kernel_info::{self, KernelInfo};
use super::{Host, log};

/// The number of the helper that reads kernel memory.
const PROBE_READ_KERNEL: u32 = 113;

/// The file that enables all kprobes; in debugfs, for root.
const KPROBES_ENABLED: &str = "/sys/kernel/debug/kprobes/enabled";

/// Settings and features of the kernel. `None`, where nothing else is documented: not known, or not readable for this
/// process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostCapabilities {
    /// `uname -m`
    pub machine: String,
    /// Whether the types in sysfs can be read.
    pub types: bool,
    /// Whether programs may read the kernel's memory; not in the lockdown mode `confidentiality`.
    pub reads_memory: Option<bool>,
    /// Whether it has ring buffers.
    pub ring_buffer: Option<bool>,
    /// `kernel.unprivileged_bpf_disabled`
    pub unprivileged_bpf_disabled: Option<i64>,
    /// `kernel.perf_event_paranoid`
    pub perf_event_paranoid: Option<i64>,
    /// `kernel.kptr_restrict`
    pub kptr_restrict: Option<i64>,
    /// `kernel.ftrace_enabled`
    pub ftrace_enabled: Option<i64>,
    /// Whether kprobes are enabled; [`Host`] has whether the kernel has them.
    pub kprobes_enabled: Option<bool>,
    /// The directory of tracepoints.
    pub tracefs: Tracefs,
}

/// Access to the list of tracepoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tracefs {
    /// Not mounted, as far as is known.
    #[default]
    Missing,
    /// Mounted, but not readable for this process.
    Closed(PathBuf),
    /// Readable for this process.
    Open(PathBuf),
}

impl HostCapabilities {
    /// Reads the properties of this machine. With the capabilities, it tests some of them: it creates a map and loads a
    /// program of two instructions, and closes them at once.
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

/// Tests by loading a program of two instructions; `None` without the capabilities, because libbpf returns yes for any
/// error but that of the helper.
fn reads_memory(host: &Host) -> Option<bool> {
    if host.check().is_err() || host.user_namespace || host.seccomp {
        return None;
    }
    // SAFETY: numbers and a null pointer, which means no options.
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

/// Finds tracefs in the lines of /proc/self/mounts, where mount points of other users (FUSE) can have any bytes in
/// their names.
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
