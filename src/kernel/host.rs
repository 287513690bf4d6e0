//! Properties of this machine and this process, read once before anything is loaded.

use std::fs;
use std::path::Path;

use libbpf_rs::MapType;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Struct;

use crate::error::{Error, Kind, Result};
use crate::event::text::is_deceptive;

/// The kernel's types, which every program requires (CO-RE).
pub(crate) const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";
/// The PMU of kprobes.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";
/// The inode of the initial pid namespace (PROC_PID_INIT_INO).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

pub(crate) const CAP_SYS_ADMIN: u32 = 21;
pub(crate) const CAP_SYS_RESOURCE: u32 = 24;
pub(crate) const CAP_PERFMON: u32 = 38;
pub(crate) const CAP_BPF: u32 = 39;

/// Properties that decide whether probes can run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// `uname -r`
    pub release: String,
    /// Effective capabilities, one bit each.
    pub capabilities: u64,
    /// Whether the kernel has its types in sysfs.
    pub btf: bool,
    /// The lockdown mode (`none`, `integrity`, `confidentiality`); `None` if it is not known.
    pub lockdown: Option<String>,
    /// Whether pids seen here are those that eBPF programs see.
    pub initial_pid_namespace: bool,
    /// Whether this process is in a user namespace of its own, where root's capabilities are limited.
    pub user_namespace: bool,
    /// Whether a seccomp filter restricts its system calls.
    pub seccomp: bool,
    /// Whether programs and maps count as locked memory of this process, and that is limited: before 5.11.
    pub memlock: bool,
    /// Whether the kernel has kprobes.
    pub kprobes: bool,
    /// The parent of the symbol helper's workers, as eBPF programs see it.
    pub symbol_helper: Option<u32>,
}

impl Host {
    /// Reads the properties of this machine.
    pub fn read() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let capabilities = own_status("CapEff").and_then(|hex| u64::from_str_radix(&hex, 16).ok()).unwrap_or(0);
        let limited = rustix::process::getrlimit(rustix::process::Resource::Memlock).current.is_some();
        Host {
            capabilities,
            seccomp: own_status("Seccomp").as_deref() == Some("2"),
            user_namespace: fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !maps_everyone(&map)),
            // libbpf raises the limit if it may
            memlock: limited && before_5_11(&release) && capabilities & 1 << CAP_SYS_RESOURCE == 0,
            release,
            kprobes: Path::new(KPROBES).exists(),
            symbol_helper: None,
            btf: Path::new(VMLINUX_BTF).exists(),
            lockdown: fs::read_to_string("/sys/kernel/security/lockdown").ok().and_then(|text| lockdown_mode(&text)),
            initial_pid_namespace: fs::read_link("/proc/self/ns/pid")
                .is_ok_and(|link| link.as_os_str() == INITIAL_PID_NAMESPACE),
        }
    }

    /// Whether the kernel has BPF ring buffers. A map can also fail because of missing capabilities or locked memory,
    /// and libbpf does not report why; so the kernel's types, which every user can read, decide. Without them the
    /// answer is yes, because nothing can be loaded anyway.
    pub fn has_ring_buffer() -> bool {
        MapType::RingBuf.is_supported().unwrap_or(false)
            || Btf::from_vmlinux().map_or(true, |btf| btf.type_by_name::<Struct<'_>>("bpf_ringbuf").is_some())
    }

    /// The number of possible CPUs: per-CPU data exists once for each.
    pub fn possible_cpus() -> u64 {
        libbpf_rs::num_possible_cpus().map_or(1, |cpus| cpus as u64)
    }

    /// Whether this process has the capability with this number.
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities & 1 << capability != 0
    }

    /// Whether this process has all capabilities: what is refused nevertheless, the kernel permits to no process.
    pub(super) fn has_all_rights(&self) -> bool {
        self.has(CAP_SYS_ADMIN) && !self.user_namespace && !self.seccomp
    }

    /// Checks whether anything can be loaded at all.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] without the capabilities, [`Kind::Unsupported`] without BTF.
    pub fn check(&self) -> Result<()> {
        let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
            .into_iter()
            .filter(|(capability, _)| !self.has(*capability) && !self.has(CAP_SYS_ADMIN))
            .map(|(_, name)| name)
            .collect();
        if !missing.is_empty() {
            let what = format!("not permitted: loading eBPF programs requires {}", missing.join(" and "));
            return Err(Error::new(Kind::NotPermitted, what)
                .hint("run it with sudo, or give the process these capabilities (systemd: AmbientCapabilities=)"));
        }
        if !self.btf {
            let what =
                format!("this kernel ({}) has no type information (BTF): {VMLINUX_BTF} is missing", self.release);
            return Err(Error::new(Kind::Unsupported, what).hint(
                "a kernel built with CONFIG_DEBUG_INFO_BTF=y is required; in a container, mount the host's /sys \
                 read-only",
            ));
        }
        Ok(())
    }

    /// The host's name in templates and reports. Paths contain it, and DHCP and containers can set it to any bytes.
    /// Characters that can't be in a file name, or that are not visible as they are, become `_`.
    pub fn name() -> String {
        file_name(rustix::system::uname().nodename().to_bytes())
    }

    /// This process as eBPF programs see it; `None` in a pid namespace, where its number is not known.
    pub fn own_process(&self) -> Option<u32> {
        self.initial_pid_namespace.then(std::process::id)
    }
}

/// The value of `key` in /proc/self/status.
pub(crate) fn own_status(key: &str) -> Option<String> {
    value_of(&fs::read("/proc/self/status").ok()?, key)
}

/// The value of `key` in `status`. The line with the command's name need not be UTF-8: the kernel cuts it at 15 bytes.
fn value_of(status: &[u8], key: &str) -> Option<String> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b":"))?;
    Some(String::from_utf8_lossy(value.trim_ascii()).into_owned())
}

/// `name` as a file name that is not hidden and is no path.
fn file_name(name: &[u8]) -> String {
    let mut safe = String::new();
    for chunk in name.utf8_chunks() {
        let odd = |c: char| c == '/' || c == '\\' || c.is_control() || c.is_whitespace() || is_deceptive(c);
        safe.extend(chunk.valid().chars().map(|c| if odd(c) { '_' } else { c }));
        safe.extend(chunk.invalid().iter().map(|_| '_'));
    }
    if safe.is_empty() || safe.starts_with('.') {
        safe.replace_range(..safe.len().min(1), "_");
    }
    safe
}

/// The map of the initial user namespace: every user maps to itself.
fn maps_everyone(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// From 5.11 on, programs and maps count for the memory cgroup.
fn before_5_11(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    matches!((numbers.next().flatten(), numbers.next().flatten()), (Some(major), Some(minor)) if (major, minor) < (5, 11))
}

/// The mode in brackets: `none [integrity] confidentiality`.
fn lockdown_mode(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests;
