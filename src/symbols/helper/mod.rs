//! The child process that finds names for addresses of processes. All that it looks at may be made by an enemy: what it
//! costs when it hangs, crashes or grows is names.
//!
//! There are two of them. The *supervisor* is forked while the runner has one thread and all of its rights; it keeps those
//! that look-ups need, never opens anything, and forks a *worker* whenever the runner asks for one. The worker answers
//! requests until one of them takes too long: then a timer ends it, or, where it sits in a call that no signal ends, the
//! runner leaves it behind.

mod elf;
mod files;
mod library;
mod perf_map;
mod process;
mod sandbox;
mod vdso;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, WaitOptions, getppid, kill_process, waitpid};
use rustix::thread::CapabilitySet;

use super::wire::{MAX_NAME, receive_request, send_answers};
use files::Opener;
use library::Library;

pub use sandbox::MAX_MEMORY;

/// A request that is not answered by then has taken too long: what is known is the answer.
const PATIENCE: Duration = Duration::from_millis(1000);
/// A worker that is still at it then is ended.
const ENDURANCE: Duration = Duration::from_millis(2000);
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
    fn in_seconds(seconds: u64) -> Self {
        Deadline(Instant::now() + Duration::from_secs(seconds))
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// A name as people write it.
fn demangle(name: &[u8]) -> Vec<u8> {
    let mut name = match std::str::from_utf8(name) {
        Err(_) => name.to_vec(),
        Ok(text) => match rustc_demangle::try_demangle(text) {
            Ok(name) => format!("{name:#}").into_bytes(),
            Err(_) => {
                let name = cpp_demangle::Symbol::new(text).ok().and_then(|symbol| symbol.demangle().ok());
                name.map_or_else(|| text.as_bytes().to_vec(), String::into_bytes)
            }
        },
    };
    name.truncate(MAX_NAME);
    name
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
    // SAFETY: the caller has one thread (the runner forks before it starts any, the supervisor never has more), so the child
    // finds no lock held by another
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
        if let Some(worker) = current.take() {
            let _ = kill_process(worker, Signal::KILL); // it may have ended by itself
            stuck.push(worker);
        }
        stuck.retain(|worker| !matches!(waitpid(Some(*worker), WaitOptions::NOHANG), Ok(Some(_)) | Err(_)));
        let made = if stuck.len() < MAX_STUCK { start_worker(&control).ok() } else { None };
        current = made.as_ref().map(|(pid, _)| *pid);
        reply(&control, made.as_ref().map(|(_, socket)| socket.as_fd()))?;
    }
    if let Some(worker) = current {
        let _ = kill_process(worker, Signal::KILL);
    }
    Ok(())
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

fn work(mut socket: File) -> io::Result<()> {
    let opener = Opener::new();
    sandbox::confine()?;
    let mut library = Library::default();
    while let Some((image, addresses)) = receive_request(&mut socket)? {
        alarm(ENDURANCE)?;
        let deadline = Deadline(Instant::now() + PATIENCE);
        let answers = process::names(&image, &addresses, &mut library, opener, deadline);
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
