//! How often the kernel left a program out.
//!
//! A program that is at work on a CPU is not started there again, and from 7.0 on it can be preempted meanwhile: until
//! it goes on, the kernel leaves it out for every other task of that CPU. It counts that, and the program can't.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_sys::bpf_prog_info;

/// Misses of the program behind `fd` since it was loaded; 0 on kernels that do not count them (before 5.12).
pub(super) fn of(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = bpf_prog_info::default();
    let mut size = size_of::<bpf_prog_info>() as u32;
    // SAFETY: `info` has `size` bytes; all of it is zero, so the kernel fills in no lists.
    let error = unsafe { libbpf_sys::bpf_obj_get_info_by_fd(fd.as_raw_fd(), (&raw mut info).cast(), &mut size) };
    if error < 0 { Err(io::Error::from_raw_os_error(-error)) } else { Ok(info.recursion_misses) }
}
