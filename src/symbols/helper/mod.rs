//! The child process that finds names for addresses of processes. All that it looks at may be made by an enemy: what it
//! costs when it hangs, crashes or grows is names.
//!
//! There are two of them. The *supervisor* is forked before the runner starts threads and gives up rights; it keeps those
//! that look-ups need, never opens anything, and forks a *worker* whenever the runner asks for one. The worker answers
//! requests until one of them takes too long: then a timer ends it, or, where it sits in a call that no signal ends, the
//! runner leaves it behind.

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

/// A worker that is still at a request so much later than it may ends: the runner has given it up before.
const GRACE: Duration = Duration::from_millis(1000);
/// How long a worker that was killed is waited for: one in a call that no signal ends is left behind.
const LAST_BREATH: Duration = Duration::from_millis(100);
/// Workers that neither answer nor end. With so many there are no more.
const MAX_STUCK: usize = 4;
/// Bytes of a name in a file, before it is made readable.
const MAX_MANGLED: usize = 4096;
/// Where the supervisor has its end of the control socket.
const CONTROL: i32 = 3;

/// When to stop.
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

/// A name as people write it.
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
    // What is too long is cut, what can't be written is no mangled name
    if written.is_ok() || readable.is_cut { readable.text.into_bytes() } else { as_it_is() }
}

/// The beginning of a text. A short mangled name can stand for one of any length.
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

/// Waits for a child to end, for so long at the most, and forgets it if it did.
pub fn has_ended(child: Pid, most: Duration) -> bool {
    if let Ok(pidfd) = pidfd_open(child, PidfdFlags::empty()) {
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Timespec::try_from(most).ok().as_ref());
    }
    !matches!(waitpid(Some(child), WaitOptions::NOHANG), Ok(None))
}

/// Forks the supervisor. Returns its number and a socket: for each byte that is written to it comes back one, with a socket
/// to a new worker where one could be had.
///
/// # Errors
/// If there can be no further process.
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

/// `None` in the child.
fn fork_process() -> io::Result<Option<Pid>> {
    // SAFETY: the runner forks before it starts a thread, and the supervisor never has more than one, so the child finds no
    // lock held by another. Where the runner is a library of a process with threads, the C library's fork leaves its
    // allocator usable in the child, which takes no other lock that those threads can hold
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Does `work` and ends the process, whatever becomes of it: what its parent was about to do is not the child's.
fn end_with(work: impl FnOnce() -> io::Result<()>) -> ! {
    let done = catch_unwind(AssertUnwindSafe(work));
    // SAFETY: it does not return, and runs nothing
    unsafe { libc::_exit(i32::from(!matches!(done, Ok(Ok(()))))) }
}

fn supervise(control: UnixStream, needed: CapabilitySet, parent: Pid) -> io::Result<()> {
    ignore_signals();
    let mut control = UnixStream::from(leave_everything(control.into())?);
    sandbox::give_up_rights(needed)?;
    if getppid() != Some(parent) {
        return Ok(()); // it ended before that could be noticed
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

/// One byte, and the socket.
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

/// What a worker has for all requests.
struct WorkerState {
    opener: Opener,
    library: FunctionCache,
    /// Nanoseconds by which times since the boot are shown later than they are.
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

/// Ends this process by SIGALRM after `time`; never, if that is zero.
fn alarm(time: Duration) -> io::Result<()> {
    let value = libc::timeval { tv_sec: time.as_secs() as _, tv_usec: time.subsec_micros() as _ };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: `timer` lives across the call, and nothing is written back
    let result = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A terminal and a service manager send these to all processes of a run. The runner decides when it has no more questions.
fn ignore_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
        // SAFETY: no handler is installed
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: as above; the runner's own choices are not these processes'
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Closes every file but `control`, and puts nothing in the place of the standard streams.
fn leave_everything(control: OwnedFd) -> io::Result<OwnedFd> {
    let null = OwnedFd::from(OpenOptions::new().read(true).write(true).open("/dev/null")?);
    // Above all that are about to be replaced. The originals are forgotten: their numbers soon belong to others
    let copies = (copy_above(&control)?, copy_above(&null)?);
    let (_, _) = (control.into_raw_fd(), null.into_raw_fd());
    let (control, null) = copies;
    for (from, to) in [(&null, 0), (&null, 1), (&null, 2), (&control, CONTROL)] {
        // SAFETY: numbers 0 to 3 belong to nothing that this process uses: what did is forgotten, not dropped
        if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let (_, _) = (control.into_raw_fd(), null.into_raw_fd()); // closed below, with all others
    close_from(CONTROL + 1)?;
    // SAFETY: it was put there above, and has no other owner
    Ok(unsafe { OwnedFd::from_raw_fd(CONTROL) })
}

fn copy_above(fd: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, CONTROL + 1)?)
}

fn close_from(first: i32) -> io::Result<()> {
    // SAFETY: whoever owned these files is gone: this process runs on from here with the control socket alone
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
