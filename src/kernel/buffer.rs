//! A probe's buffer as its reader sees it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libbpf_rs::{RingBuffer, RingBufferBuilder};

use super::Loaded;
use super::perf::PerfBuffer;
use crate::error::{Error, Result};
use crate::plan::{BufferPlan, Transport};

/// Records that are taken out of a ring in one look.
const AT_ONCE: usize = 16 << 10;

/// The reading end of a probe's buffer.
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
    /// `take` is given every record; its bytes are valid only during the call.
    ///
    /// # Errors
    /// If the kernel does not map the buffer.
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
        // The map itself is what is waited on: libbpf's own epoll is level-triggered and returns at once for as long
        // as a single record is unread, whatever the wakeup policy
        let wakeups = map.as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(EventBuffer { reader: BufferSource::Ring(ring), wakeups })
    }

    /// Gives records that are there to `take`, a bounded number of them: against a flood that outruns the reader, a look
    /// without end would be deaf to signals and deadlines. Returns whether there may be more.
    ///
    /// # Errors
    /// If the buffer is damaged.
    pub fn consume(&mut self) -> Result<bool> {
        match &mut self.reader {
            BufferSource::Ring(ring) => match ring.consume_raw_n(AT_ONCE) {
                error if error < 0 => Err(failed(std::io::Error::from_raw_os_error(-error))),
                count => Ok(count as usize >= AT_ONCE),
            },
            BufferSource::Perf(perf) => perf.consume().map(|()| false),
        }
    }

    /// The most bytes that were unread, where only the reader can tell: in the fullest of the perf buffers.
    pub fn peak(&self) -> Option<u64> {
        match &self.reader {
            BufferSource::Ring(_) => None,
            BufferSource::Perf(perf) => Some(perf.peak()),
        }
    }

    /// Records that the kernel has told of losing, where it does: in a perf buffer.
    pub fn lost(&self) -> Option<u64> {
        match &self.reader {
            BufferSource::Ring(_) => None,
            BufferSource::Perf(perf) => Some(perf.lost()),
        }
    }

    /// What becomes readable when the kernel wakes the runner; to be watched edge-triggered.
    pub fn wakeups(&self) -> BorrowedFd<'_> {
        self.wakeups.as_fd()
    }
}
