//! Variables of a program that change while it runs: its map of `.bss`, shared with the kernel. Writing there takes no
//! system call, and so no right that a run has given up by then.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The `.bss` of a loaded program.
#[derive(Debug)]
pub struct LiveVariables {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is the kernel's and belongs to no thread; it is written by atomics only.
unsafe impl Send for LiveVariables {}

impl LiveVariables {
    pub(super) fn of(map: BorrowedFd<'_>, size: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let bytes = size.div_ceil(page) * page;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping somewhere; `Drop` takes it away, and nothing points into it longer than that.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(LiveVariables { start, bytes })
    }

    /// Writes a `struct runner_cgroup` at `offset`. A program that runs at the same moment finds it whole or empty.
    ///
    /// # Panics
    /// If the offset is none of such a struct.
    pub fn set_cgroup(&self, offset: usize, id: u64, level: u32) {
        assert!(offset.is_multiple_of(8) && offset + 16 <= self.bytes, "a struct runner_cgroup at {offset}");
        // SAFETY: within the mapping and aligned, see above; the kernel's side reads whole words as well.
        let (id_at, level_at) = unsafe {
            let at = self.start.add(offset);
            (AtomicU64::from_ptr(at.cast().as_ptr()), AtomicU32::from_ptr(at.add(8).cast().as_ptr()))
        };
        id_at.store(0, Ordering::SeqCst);
        level_at.store(level, Ordering::SeqCst);
        id_at.store(id, Ordering::SeqCst);
    }
}

impl Drop for LiveVariables {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
