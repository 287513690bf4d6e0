//! Signals, and all other external reasons to end a window, as bytes in a pipe.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::{self, pipe};

use super::clock;
use crate::error::{Error, Result};
use crate::kernel::host::own_status;

/// The exit status after a second signal during the end of the run, as a shell reports it for SIGINT.
const IMPATIENT: i32 = 130;

/// Signals within this time of the first one count as the same signal, nanoseconds: `timeout` sends each twice, to the
/// process and to its group.
const ONE_SIGNAL: u64 = 1_000_000_000;

/// Becomes readable when the window must end.
#[derive(Debug)]
pub struct StopSignal {
    reader: UnixStream,
    writer: UnixStream,
    /// When the first signal arrived, monotonic nanoseconds; 0 if none did.
    signalled: Arc<AtomicU64>,
}

impl StopSignal {
    /// Catches SIGINT, SIGTERM and SIGHUP from now on. The first one ends the window; one that arrives a second or more
    /// later ends the process.
    ///
    /// # Errors
    /// If the system does not permit it.
    pub fn install() -> Result<Self> {
        let failed = |error: std::io::Error| Error::failed(format!("signals can't be caught: {error}"));
        let (reader, writer) = UnixStream::pair().map_err(failed)?;
        let signalled = Arc::new(AtomicU64::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && is_ignored(signal) {
                continue; // nohup: the process must outlive the terminal
            }
            let first = Arc::clone(&signalled);
            let handler = move || {
                let now = clock::monotonic();
                if let Err(first) = first.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst)
                    && now.saturating_sub(first) >= ONE_SIGNAL
                {
                    low_level::exit(IMPATIENT);
                }
            };
            // SAFETY: the handler only uses an atomic, clock_gettime(2) and _exit(2), which POSIX permits in handlers
            unsafe { low_level::register(signal, handler) }.map_err(failed)?;
            pipe::register(signal, writer.try_clone().map_err(failed)?).map_err(failed)?;
        }
        Ok(StopSignal { reader, writer, signalled })
    }

    /// Whether a signal ended the window.
    pub fn by_signal(&self) -> bool {
        self.signalled.load(Ordering::SeqCst) != 0
    }

    /// Waits for `time`, or until the window must end: `true`.
    ///
    /// # Errors
    /// If poll(2) fails.
    pub fn within(&self, time: Duration) -> Result<bool> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&self.reader, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) if Instant::now() < until => {}
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::failed(format!("poll: {error}"))),
            }
        }
    }

    /// A handle with which another thread can end the window.
    ///
    /// # Errors
    /// If no file descriptor is available.
    pub fn handle(&self) -> Result<StopHandle> {
        let writer = self.writer.try_clone();
        writer.map(StopHandle).map_err(|error| Error::failed(format!("no file descriptor is left: {error}")))
    }
}

/// Whether this process was started with `signal` ignored.
fn is_ignored(signal: i32) -> bool {
    let mask = own_status("SigIgn").and_then(|hex| u64::from_str_radix(&hex, 16).ok()).unwrap_or(0);
    mask & 1 << (signal - 1) != 0
}

impl AsFd for StopSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// A handle that ends the window.
#[derive(Debug)]
pub struct StopHandle(UnixStream);

impl StopHandle {
    /// Ends the window.
    pub fn trigger(&self) {
        // If the pipe is full, it is readable already
        let _ = (&self.0).write(&[1]);
    }
}
