//! The kernel's information about a loaded program: how often it skipped it, and the addresses of its code.
//!
//! The kernel does not start a program that is already running on the same CPU. From 7.0 on a program can be preempted:
//! until it continues, the kernel skips it for every other task of that CPU. The kernel counts that, and the program
//! can't.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_sys::bpf_prog_info;

fn get(fd: BorrowedFd<'_>, info: &mut bpf_prog_info) -> io::Result<()> {
    let mut size = size_of::<bpf_prog_info>() as u32;
    // SAFETY: `info` has `size` bytes, and each list that it requests has room for the number of elements in it
    let error = unsafe { libbpf_sys::bpf_obj_get_info_by_fd(fd.as_raw_fd(), (&raw mut *info).cast(), &mut size) };
    if error < 0 { Err(io::Error::from_raw_os_error(-error)) } else { Ok(()) }
}

/// How often the kernel skipped the program behind `fd` since it was loaded; 0 on kernels that do not count it (before
/// 5.12).
///
/// # Errors
/// If the kernel does not report it.
pub(super) fn misses(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = bpf_prog_info::default();
    get(fd, &mut info)?;
    Ok(info.recursion_misses)
}

/// The addresses of the code of the program behind `fd` and of its functions. Empty if this process may not see kernel
/// addresses, or if the kernel interprets programs.
///
/// # Errors
/// If the kernel does not report them.
pub(super) fn code(fd: BorrowedFd<'_>) -> io::Result<Vec<Range<u64>>> {
    let mut info = bpf_prog_info::default();
    get(fd, &mut info)?;
    let mut starts = vec![0_u64; info.nr_jited_ksyms as usize];
    let mut sizes = vec![0_u32; info.nr_jited_func_lens as usize];
    let mut info = bpf_prog_info {
        jited_ksyms: starts.as_mut_ptr() as u64,
        nr_jited_ksyms: starts.len() as u32,
        jited_func_lens: sizes.as_mut_ptr() as u64,
        nr_jited_func_lens: sizes.len() as u32,
        ..bpf_prog_info::default()
    };
    get(fd, &mut info)?;
    let ranges = starts.into_iter().zip(sizes).filter(|(start, _)| *start != 0);
    Ok(ranges.map(|(start, size)| start..start.saturating_add(size.into())).collect())
}
