//! Perf events that run a program: opened on every CPU that is online.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use libbpf_rs::{Link, ProgramMut};
use libbpf_sys::perf_event_attr;

use crate::catalog::PerfEvent;
use crate::error::{Error, Kind, Result};

/// `perf_event_open` closes the descriptor when a program is executed.
const PERF_FLAG_FD_CLOEXEC: u64 = 8;

/// The rate at which a perf event runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Times per second, or one in this many events.
    pub value: u64,
    /// Whether the value is a frequency.
    pub frequency: bool,
}

/// A perf event on one CPU.
#[derive(Debug)]
pub struct OnCpu {
    cpu: u32,
    fd: OwnedFd,
    opened: Instant,
}

impl OnCpu {
    /// Whether the CPU was offline since the event was opened: the kernel stops the event then and never restarts it.
    fn has_stopped(&self) -> bool {
        let mut words = [0_u8; 16];
        // The count, and the time that it was enabled (PERF_FORMAT_TOTAL_TIME_ENABLED)
        if rustix::io::read(&self.fd, &mut words) != Ok(words.len()) {
            return true;
        }
        let enabled = Duration::from_nanos(u64::from_ne_bytes(words[8..].try_into().expect("eight bytes")));
        enabled + TOLERANCE < self.opened.elapsed()
    }
}

/// The attachment of a program on one CPU, and the event that runs it there.
pub type Attached = (Link, OnCpu);

/// Tolerance: the difference of the two clocks, and the time between two system calls on a busy machine.
const TOLERANCE: Duration = Duration::from_millis(100);

/// CPUs on which none of `events` runs (any more), although they are or were online: those that went offline in
/// between, and those that came online later.
pub fn not_sampled(events: &[OnCpu]) -> Vec<u32> {
    let mut cpus: BTreeSet<u32> = events.iter().filter(|event| event.has_stopped()).map(|event| event.cpu).collect();
    let known: BTreeSet<u32> = events.iter().map(|event| event.cpu).collect();
    cpus.extend(online().unwrap_or_default().into_iter().filter(|cpu| !known.contains(cpu)));
    cpus.into_iter().collect()
}

/// Opens the first available of `event`'s sources, or the chosen one, on every CPU that is online, and attaches `prog`
/// to it. Returns the links, the events, and why earlier sources were not used.
///
/// # Errors
/// [`Kind::Unsupported`] if this machine has none of them, [`Kind::NotPermitted`].
pub fn attach(
    prog: &ProgramMut<'_>,
    event: &PerfEvent,
    chosen: u32,
    rate: Rate,
) -> Result<(Vec<Attached>, Option<String>)> {
    first(event, chosen, rate, |source| attach_source(prog, source, rate))
}

/// The source of `event` that [`attach`] would use: opens it and closes it again. Returns why earlier sources were not
/// used.
///
/// # Errors
/// As [`attach`].
pub fn find(event: &PerfEvent, chosen: u32, rate: Rate) -> Result<Option<String>> {
    let open_all = |source| each_cpu(|cpu| open(source, rate, cpu).map(drop));
    first(event, chosen, rate, open_all).map(|(_, reason)| reason)
}

/// The result of `take` for the first source that works, and why earlier ones did not.
fn first<T>(
    event: &PerfEvent,
    chosen: u32,
    rate: Rate,
    take: impl Fn(u32) -> io::Result<T>,
) -> Result<(T, Option<String>)> {
    let sources = if chosen == 0 { event.sources.clone() } else { vec![chosen] };
    let name = |source: u32| event.names.name(source.into()).unwrap_or("?").replace('_', "-");
    let mut reasons = Vec::new();
    for source in sources {
        match take(source) {
            Ok(taken) => return Ok((taken, (!reasons.is_empty()).then(|| reasons.join("; ")))),
            Err(error) => reasons.push(explain(&name(source), rate, &error)?),
        }
    }
    let what = reasons.join("; ");
    Err(Error::new(Kind::Unsupported, what).hint(if rate.frequency {
        "virtual machines often have no hardware counters: choose a software event, such as `event: cpu-clock`"
    } else {
        "virtual machines often have no hardware counters: choose a software event, such as `event: cpu-clock` with \
             `period: 1000000` (a millisecond)"
    }))
}

/// Why `source` can't be opened.
///
/// # Errors
/// [`Kind::NotPermitted`] if no other source could be opened either, [`Kind::Failed`] at a limit on open files.
fn explain(source: &str, rate: Rate, error: &io::Error) -> Result<String> {
    if let Some(exhausted) = super::explain::exhausted(&error.to_string(), "the perf event") {
        return Err(exhausted);
    }
    Ok(match error.raw_os_error() {
        Some(libc_errno::EACCES | libc_errno::EPERM) => {
            let what = format!("the kernel does not permit perf events (`{source}`: {error})");
            return Err(Error::new(Kind::NotPermitted, what).hint(PERMISSION_HINT));
        }
        Some(libc_errno::ENOENT) => format!("this machine has no counter `{source}` (ENOENT)"),
        Some(libc_errno::ENODEV) => format!("this machine has no counter `{source}` (ENODEV)"),
        Some(libc_errno::EOPNOTSUPP) => format!("this machine's counter `{source}` can't run programs (EOPNOTSUPP)"),
        Some(libc_errno::EINVAL) if rate.frequency => format!(
            "the perf event `{source}` can't run {} times a second: `sysctl kernel.perf_event_max_sample_rate` has the \
             limit",
            rate.value
        ),
        _ => format!("the perf event `{source}` can't be opened: {error}"),
    })
}

/// The requirements of perf events and perf buffers.
pub(super) const PERMISSION_HINT: &str = "run it as root; without CAP_SYS_ADMIN it requires CAP_PERFMON and a value of \
                                          `sysctl kernel.perf_event_paranoid` that is 2 or less";

/// The error numbers with messages of their own.
mod libc_errno {
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const EACCES: i32 = 13;
    #[cfg(test)]
    pub const EBUSY: i32 = 16;
    pub const ENODEV: i32 = 19;
    pub const EINVAL: i32 = 22;
    #[cfg(test)]
    pub const EMFILE: i32 = 24;
    pub const EOPNOTSUPP: i32 = 95;
}

fn attach_source(prog: &ProgramMut<'_>, source: u32, rate: Rate) -> io::Result<Vec<Attached>> {
    each_cpu(|cpu| {
        let opened = Instant::now();
        let fd = open(source, rate, cpu)?;
        let event = OnCpu { cpu, fd: fd.try_clone()?, opened };
        let link = prog.attach_perf_event(fd.as_raw_fd()).map_err(|error| io::Error::other(format!("{error:#}")))?;
        let _ = fd.into_raw_fd(); // the link closes it
        Ok((link, event))
    })
}

/// The results of `take` for each CPU that is online.
fn each_cpu<T>(take: impl Fn(u32) -> io::Result<T>) -> io::Result<Vec<T>> {
    let mut taken = Vec::new();
    for cpu in online()? {
        match take(cpu) {
            // The CPU went offline since the list was read
            Err(error) if error.raw_os_error() == Some(libc_errno::ENODEV) && !online()?.contains(&cpu) => {}
            other => taken.push(other?),
        }
    }
    Ok(taken)
}

/// `source` is an enumerator of `bpf/include/perf.h`.
fn open(source: u32, rate: Rate, cpu: u32) -> io::Result<OwnedFd> {
    // The plan rejects such rates; this is for other callers
    if !rate.frequency && (rate.value == 0 || PerfEvent::is_clock(source) && rate.value < PerfEvent::LEAST_PERIOD) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a period of {} is too short", rate.value)));
    }
    let (kind, config) = PerfEvent::kind_and_config(source);
    let mut attr = perf_event_attr {
        size: size_of::<perf_event_attr>() as u32,
        type_: kind,
        config,
        read_format: libbpf_sys::PERF_FORMAT_TOTAL_TIME_ENABLED.into(),
        ..Default::default()
    };
    if rate.frequency {
        attr.__bindgen_anon_1.sample_freq = rate.value;
        attr.set_freq(1);
    } else {
        attr.__bindgen_anon_1.sample_period = rate.value;
    }
    // SAFETY: the attribute is valid for the call, which has no other pointer.
    let fd = unsafe { perf_event_open(&raw const attr, -1, cpu as i32, -1, PERF_FLAG_FD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created it, and it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

unsafe extern "C" {
    /// The C library's function for any system call.
    fn syscall(number: std::ffi::c_long, ...) -> std::ffi::c_long;
}

#[cfg(target_arch = "x86_64")]
const SYS_PERF_EVENT_OPEN: std::ffi::c_long = 298;
#[cfg(target_arch = "aarch64")]
const SYS_PERF_EVENT_OPEN: std::ffi::c_long = 241;

/// perf_event_open(2); the C library has no wrapper for it.
unsafe fn perf_event_open(attr: *const perf_event_attr, pid: i32, cpu: i32, group: i32, flags: u64) -> i64 {
    // SAFETY: the caller's.
    unsafe { syscall(SYS_PERF_EVENT_OPEN, attr, pid, cpu, group, flags) }
}

/// The CPUs that are online.
fn online() -> io::Result<Vec<u32>> {
    parse_list(&fs::read_to_string("/sys/devices/system/cpu/online")?)
        .ok_or_else(|| io::Error::other("the list of CPUs that are online can't be read"))
}

/// Parses `0-3,8`.
fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests;
