//! Writes to standard output, standard error, pipes and devices. The behaviour is the same if another process has made
//! them non-blocking, closed them or filled them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::{Errno, fcntl_dupfd_cloexec, fcntl_getfd, try_close};

/// A pipe that polls as writable accepts this many bytes without blocking (PIPE_BUF).
const PIECE: usize = 4096;

/// The standard streams that were closed when this process started, one bit each.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// A message timed out; later messages do not wait.
static STALLED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`: Rust's runtime opens `/dev/null` for closed standard streams, and then writes to a closed
/// standard output would succeed.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_CLOSED: extern "C" fn() = note_closed;

extern "C" fn note_closed() {
    for fd in 0..3 {
        // SAFETY: the descriptor is only queried; if it is not open, the call fails
        if fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }) == Err(Errno::BADF) {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

/// Whether `fd` is open for writing.
///
/// # Errors
/// `EBADF` if it is not.
pub fn check_writable(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let number = fd.as_raw_fd();
    let closed = (0..3).contains(&number) && CLOSED.load(Ordering::Relaxed) & (1 << number) != 0;
    if closed || fcntl_getfl(fd)? & OFlags::RWMODE == OFlags::RDONLY {
        return Err(Errno::BADF);
    }
    Ok(())
}

/// Writes as many of `bytes` as `fd` accepts at once, at least one. Waits while it accepts none. A socket whose peer
/// has closed it counts as a closed pipe.
///
/// # Errors
/// As write(2), and `EBADF` for a standard stream that was closed at the start.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    if fd.as_raw_fd() < 3 {
        check_writable(fd)?;
    }
    loop {
        match rustix::io::write(fd, bytes) {
            Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::WriteZero.into()),
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Err(Errno::PIPE.into()),
            result => return Ok(result?),
        }
    }
}

/// Writes all of `bytes`. Some file systems (NFS, FUSE) report a failed write only when the descriptor is closed, so
/// this function duplicates the descriptor and closes the copy.
///
/// # Errors
/// See [`write()`].
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = write(fd, bytes)?;
        bytes = &bytes[written..];
    }
    delayed_error(fd)
}

/// The error that a file system reports when the descriptor is closed.
///
/// # Errors
/// As close(2).
pub fn delayed_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    if fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile) {
        let copy = fcntl_dupfd_cloexec(fd, 3)?;
        // SAFETY: this function owns the copy and does not use it after this
        unsafe { try_close(copy.into_raw_fd()) }?;
    }
    Ok(())
}

/// Writes `bytes`, which are informational. If `fd` accepts nothing for `patience`, they are discarded, and later
/// messages do not wait.
///
/// # Errors
/// `TimedOut`, or as write(2).
pub fn write_within(fd: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> io::Result<()> {
    let waits = !patience.is_zero();
    let patience = if STALLED.load(Ordering::Relaxed) { Duration::ZERO } else { patience };
    let until = Instant::now() + patience;
    let mut left = bytes;
    while !left.is_empty() {
        let time = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        match poll(&mut [PollFd::new(&fd, PollFlags::OUT)], time.as_ref()) {
            Ok(0) => {
                STALLED.fetch_or(waits, Ordering::Relaxed);
                return Err(io::ErrorKind::TimedOut.into());
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::io::write(fd, &left[..left.len().min(PIECE)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => left = &left[written..],
            // Another writer has filled the pipe
            Err(Errno::AGAIN) if Instant::now() >= until => return Err(io::ErrorKind::TimedOut.into()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    STALLED.store(false, Ordering::Relaxed);
    Ok(())
}
