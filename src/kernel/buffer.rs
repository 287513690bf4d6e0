//! The consumer side of a probe's buffer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libbpf_rs::{RingBuffer, RingBufferBuilder};

use super::Loaded;
use super::perf::PerfBuffer;
use crate::error::{Error, Result};
use crate::plan::{BufferPlan, Transport};

/// Records that are read from a ring in one call.
const AT_ONCE: usize = 16 << 10;

/// The consumer of a probe's buffer.
pub struct EventBuffer<'a> {
    reader: BufferSource<'a>,
    wakeups: OwnedFd,
}

enum BufferSource<'a> {
    Ring(RingBuffer<'a>),
    Perf(PerfBuffer<'a>),
}

pub(super) fn failed(what: impl std::fmt::Display) -> Error {
    Error::failed(format!("the buffer can't be read: {what}"))
}

impl<'a> EventBuffer<'a> {
    /// Calls `take` with every record; its bytes are valid only during the call.
    ///
    /// # Errors
    /// If the buffer can't be mapped.
    pub fn new(loaded: &Loaded, plan: &BufferPlan, mut take: impl FnMut(&[u8]) + 'a) -> Result<Self> {
        let map = loaded.events()?;
        if plan.transport == Transport::Perf {
            let perf = PerfBuffer::new(map.as_fd(), plan, Box::new(take))?;
            let wakeups = perf.wakeups().try_clone_to_owned().map_err(failed)?;
            return Ok(EventBuffer { reader: BufferSource::Perf(perf), wakeups });
        }
        let mut builder = RingBufferBuilder::new();
        let callback = move |bytes: &[u8]| {
            take(bytes);
            0
        };
        builder.add(&map, callback).map_err(failed)?;
        let ring = builder.build().map_err(failed)?;
        // Waits on the map itself: libbpf's own epoll is level-triggered and returns at once for as long as a single
        // record is unread, whatever the wakeup policy
        let wakeups = map.as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(EventBuffer { reader: BufferSource::Ring(ring), wakeups })
    }

    /// Passes available records to `take`, a bounded number of them: with a load faster than the reader, an unbounded
    /// call would delay signals and deadlines. Returns whether there may be more.
    ///
    /// # Errors
    /// If the buffer is corrupt.
    pub fn consume(&mut self) -> Result<bool> {
        match &mut self.reader {
            BufferSource::Ring(ring) => match ring.consume_raw_n(AT_ONCE) {
                error if error < 0 => Err(failed(std::io::Error::from_raw_os_error(-error))),
                count => Ok(count as usize >= AT_ONCE),
            },
            BufferSource::Perf(perf) => perf.consume().map(|()| false),
        }
    }

    /// The peak of unread bytes, if only the reader can measure it: in the fullest of the perf buffers.
    pub fn peak(&self) -> Option<u64> {
        match &self.reader {
            BufferSource::Ring(_) => None,
            BufferSource::Perf(perf) => Some(perf.peak()),
        }
    }

    /// Losses that the kernel has reported, if it does: in a perf buffer.
    pub fn lost(&self) -> Option<u64> {
        match &self.reader {
            BufferSource::Ring(_) => None,
            BufferSource::Perf(perf) => Some(perf.lost()),
        }
    }

    /// The descriptor that becomes readable when the kernel wakes the runner; to be polled edge-triggered.
    pub fn wakeups(&self) -> BorrowedFd<'_> {
        self.wakeups.as_fd()
    }
}
