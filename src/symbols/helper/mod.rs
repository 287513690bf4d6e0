//! The child process that resolves addresses of processes. All its input can be hostile: if it hangs, crashes or uses
//! too much memory, only names are lost.
//!
//! There are two processes. The *supervisor* is forked before the runner starts threads and drops capabilities; it
//! keeps those that look-ups require, never opens a file, and forks a *worker* whenever the runner requests one. The
//! worker answers requests until one of them takes too long: then a timer ends it, or, if it is in a call that no
//! signal ends, the runner abandons it.

mod elf;
mod files;
mod function_cache;
mod perf_map;
mod process;
mod sandbox;
mod vdso;

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, getppid, kill_process, pidfd_open, waitpid};
use rustix::thread::CapabilitySet;

use super::wire::{MAX_NAME, Request, receive_request, send_answers};
use files::Opener;
use function_cache::FunctionCache;

pub use sandbox::MAX_MEMORY;

/// A worker that is still busy this long after its time limit ends: the runner has abandoned it before.
const GRACE: Duration = Duration::from_millis(1000);
/// How long the supervisor waits for a killed worker: one in a call that no signal ends is abandoned.
const LAST_BREATH: Duration = Duration::from_millis(100);
/// Limit of workers that neither answer nor end. At the limit no more are started.
const MAX_STUCK: usize = 4;
/// Limit of bytes of a name in a file, before it is demangled.
const MAX_MANGLED: usize = 4096;
/// The supervisor's descriptor of the control socket.
const CONTROL: i32 = 3;

/// A time limit.
#[derive(Debug, Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn within(time: Duration) -> Self {
        Deadline(Instant::now() + time)
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Demangles a name.
fn demangle(name: &[u8]) -> Vec<u8> {
    let as_it_is = || name[..name.len().min(MAX_NAME)].to_vec();
    let Ok(text) = std::str::from_utf8(name) else { return as_it_is() };
    let mut readable = TruncatedText::default();
    let written = if let Ok(symbol) = rustc_demangle::try_demangle(text) {
        write!(readable, "{symbol:#}")
    } else if let Ok(symbol) = cpp_demangle::BorrowedSymbol::new(name) {
        symbol.structured_demangle(&mut readable, &cpp_demangle::DemangleOptions::default())
    } else {
        return as_it_is();
    };
    // A name that is too long is cut; one that can't be demangled is used unchanged
    if written.is_ok() || readable.is_cut { readable.text.into_bytes() } else { as_it_is() }
}

/// The beginning of a text, of limited length. A short mangled name can expand to any length.
#[derive(Default)]
struct TruncatedText {
    text: String,
    is_cut: bool,
}

impl fmt::Write for TruncatedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.text.len() + character.len_utf8() > MAX_NAME {
                self.is_cut = true;
                return Err(fmt::Error);
            }
            self.text.push(character);
        }
        Ok(())
    }
}

/// Waits for a child to end, up to a time limit, and reaps it if it did.
pub fn has_ended(child: Pid, most: Duration) -> bool {
    if let Ok(pidfd) = pidfd_open(child, PidfdFlags::empty()) {
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Timespec::try_from(most).ok().as_ref());
    }
    !matches!(waitpid(Some(child), WaitOptions::NOHANG), Ok(None))
}

/// Forks the supervisor. Returns its pid and a socket: for each byte that is written to the socket it returns one byte,
/// with a socket to a new worker if one could be started.
///
/// # Errors
/// If no further process can be created.
pub fn fork(needed: CapabilitySet) -> io::Result<(Pid, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let parent = rustix::process::getpid();
    match fork_process()? {
        Some(pid) => Ok((pid, ours)),
        None => end_with(|| {
            drop(ours);
            supervise(theirs, needed, parent)
        }),
    }
}

/// Forks; returns `None` in the child.
fn fork_process() -> io::Result<Option<Pid>> {
    // SAFETY: the runner forks before it starts a thread, and the supervisor never has more than one, so the child
    // inherits no lock of another thread. If the runner is a library of a process with threads, the C library's fork
    // keeps its allocator usable in the child, which takes no other lock that those threads can hold
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Runs `work` and ends the process, even after a panic: the child must not continue with the code of its parent.
fn end_with(work: impl FnOnce() -> io::Result<()>) -> ! {
    let done = catch_unwind(AssertUnwindSafe(work));
    // SAFETY: it does not return, and runs no destructors
    unsafe { libc::_exit(i32::from(!matches!(done, Ok(Ok(()))))) }
}

fn supervise(control: UnixStream, needed: CapabilitySet, parent: Pid) -> io::Result<()> {
    ignore_signals();
    let mut control = UnixStream::from(leave_everything(control.into())?);
    sandbox::give_up_rights(needed)?;
    if getppid() != Some(parent) {
        return Ok(()); // it ended before the check
    }
    let mut current: Option<Pid> = None;
    let mut stuck: Vec<Pid> = Vec::new();
    let mut byte = [0];
    while control.read(&mut byte)? > 0 {
        stuck.retain(|worker| !has_ended(*worker, Duration::ZERO));
        stuck.extend(current.take().filter(|worker| !has_ended_by_force(*worker)));
        let made = if stuck.len() < MAX_STUCK { start_worker(&control).ok() } else { None };
        current = made.as_ref().map(|(pid, _)| *pid);
        reply(&control, made.as_ref().map(|(_, socket)| socket.as_fd()))?;
    }
    if let Some(worker) = current {
        has_ended_by_force(worker);
    }
    Ok(())
}

fn has_ended_by_force(worker: Pid) -> bool {
    let _ = kill_process(worker, Signal::KILL); // it may have ended by itself
    has_ended(worker, LAST_BREATH)
}

/// Sends one byte, and the socket.
fn reply(control: &UnixStream, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let socket = socket.map(|socket| [socket]);
    if let Some(socket) = &socket {
        message.push(SendAncillaryMessage::ScmRights(socket));
    }
    sendmsg(control, &[IoSlice::new(&[0])], &mut message, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A worker, and the runner's end of the socket to it.
fn start_worker(control: &UnixStream) -> io::Result<(Pid, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    match fork_process()? {
        Some(pid) => Ok((pid, theirs.into())),
        None => end_with(|| {
            drop(theirs);
            let control = control.as_raw_fd();
            // SAFETY: this process does not use it any more
            unsafe { libc::close(control) };
            work(File::from(OwnedFd::from(ours)))
        }),
    }
}

/// The state of a worker for all requests.
struct WorkerState {
    opener: Opener,
    library: FunctionCache,
    /// Nanoseconds by which this process sees later times since the boot.
    boot_offset: i128,
}

fn work(mut socket: File) -> io::Result<()> {
    let mut tools =
        WorkerState { opener: Opener::new(), library: FunctionCache::default(), boot_offset: process::boot_offset() };
    sandbox::confine()?;
    while let Some(Request { image, addresses, allowance }) = receive_request(&mut socket)? {
        alarm(allowance + GRACE)?;
        let answers = process::names(&image, &addresses, &mut tools, Deadline::within(allowance));
        alarm(Duration::ZERO)?;
        send_answers(&mut socket, &answers)?;
    }
    Ok(())
}

/// Ends this process with SIGALRM after `time`; never, if that is zero.
fn alarm(time: Duration) -> io::Result<()> {
    let value = libc::timeval { tv_sec: time.as_secs() as _, tv_usec: time.subsec_micros() as _ };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: `timer` lives across the call, and nothing is written back
    let result = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Terminals and service managers send these signals to all processes of a run. The runner decides when the helper
/// ends.
fn ignore_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
        // SAFETY: no handler is installed
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: as above; the runner's signal settings do not apply to these processes
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Closes every file but `control`, and replaces the standard streams by /dev/null.
fn leave_everything(control: OwnedFd) -> io::Result<OwnedFd> {
    let null = OwnedFd::from(OpenOptions::new().read(true).write(true).open("/dev/null")?);
    // Above all descriptors that are about to be replaced. The originals are forgotten: their numbers will be reused
    let copies = (copy_above(&control)?, copy_above(&null)?);
    let (_, _) = (control.into_raw_fd(), null.into_raw_fd());
    let (control, null) = copies;
    for (from, to) in [(&null, 0), (&null, 1), (&null, 2), (&control, CONTROL)] {
        // SAFETY: this process owns nothing at the numbers 0 to 3: the previous owners are forgotten, not dropped
        if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let (_, _) = (control.into_raw_fd(), null.into_raw_fd()); // closed below, with all others
    close_from(CONTROL + 1)?;
    // SAFETY: it was duplicated there above, and has no other owner
    Ok(unsafe { OwnedFd::from_raw_fd(CONTROL) })
}

fn copy_above(fd: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, CONTROL + 1)?)
}

fn close_from(first: i32) -> io::Result<()> {
    // SAFETY: the owners of these files no longer exist: this process continues here with the control socket only
    if unsafe { libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, 0u32) } == 0 {
        return Ok(());
    }
    // Before 5.9
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd >= first)
        .collect();
    for fd in open {
        // SAFETY: as above; the directory that was read is among them, and closed already
        unsafe { libc::close(fd) };
    }
    Ok(())
}

#[cfg(test)]
mod tests;
