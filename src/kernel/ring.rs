//! A ring buffer as its reader sees it.

use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::{RingBuffer, RingBufferBuilder};

use super::Loaded;
use crate::error::{Error, Result};

/// Records that are taken in one look.
const AT_ONCE: usize = 16 << 10;

/// The reading end of a probe's buffer.
pub struct Ring<'a> {
    ring: RingBuffer<'a>,
    wakeups: OwnedFd,
}

impl<'a> Ring<'a> {
    /// `take` is given every record; its bytes are valid only during the call.
    ///
    /// # Errors
    /// If the kernel does not map the buffer.
    pub fn new(loaded: &Loaded, mut take: impl FnMut(&[u8]) + 'a) -> Result<Self> {
        let failed = |what: String| Error::failed(format!("the ring buffer can't be read: {what}"));
        let map = loaded.events()?;
        let mut builder = RingBufferBuilder::new();
        builder
            .add(&map, move |bytes: &[u8]| {
                take(bytes);
                0
            })
            .map_err(|error| failed(error.to_string()))?;
        let ring = builder.build().map_err(|error| failed(error.to_string()))?;
        // The map itself is what is waited on: libbpf's own epoll is level-triggered and returns at once for as long
        // as a single record is unread, whatever the wakeup policy
        let wakeups = map.as_fd().try_clone_to_owned().map_err(|error| failed(error.to_string()))?;
        Ok(Ring { ring, wakeups })
    }

    /// Gives records that are there to `take`, a bounded number of them: against a flood that outruns the reader, a look
    /// without end would be deaf to signals and deadlines. Returns whether there may be more.
    ///
    /// # Errors
    /// If the ring is damaged.
    pub fn consume(&self) -> Result<bool> {
        match self.ring.consume_raw_n(AT_ONCE) {
            error if error < 0 => {
                let error = std::io::Error::from_raw_os_error(-error);
                Err(Error::failed(format!("the ring buffer can't be read: {error}")))
            }
            count => Ok(count as usize >= AT_ONCE),
        }
    }

    /// What becomes readable when the kernel wakes the runner; to be watched edge-triggered.
    pub fn wakeups(&self) -> impl AsFd + '_ {
        &self.wakeups
    }
}
