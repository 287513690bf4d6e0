//! Variables of a program that change while it runs: its `.bss` map, shared with the kernel. Writing them requires no
//! system call, and so no capability that a run has dropped.

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

// SAFETY: the memory belongs to the kernel and to no thread; it is only written with atomics.
unsafe impl Send for LiveVariables {}

impl LiveVariables {
    pub(super) fn of(map: BorrowedFd<'_>, size: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let bytes = size.div_ceil(page) * page;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at any address; `Drop` unmaps it, and no pointer to it lives longer.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(LiveVariables { start, bytes })
    }

    /// Writes a `struct runner_cgroup` at `offset`. A program that reads it at the same moment finds it complete or
    /// empty.
    ///
    /// # Panics
    /// If no such struct can be at the offset.
    pub fn set_cgroup(&self, offset: usize, id: u64, level: u32) {
        assert!(offset.is_multiple_of(8) && offset + 16 <= self.bytes, "a struct runner_cgroup at {offset}");
        // SAFETY: within the mapping and aligned, as asserted above; the kernel's side reads whole words as well.
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
        // SAFETY: this value owns the mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
