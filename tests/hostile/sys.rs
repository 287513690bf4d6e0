//! System calls that the standard library does not wrap.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;

use libc::{c_int, c_ulong, pid_t};

pub fn c(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).expect("a path without a zero byte")
}

/// The result of a call that returns a negative number on failure.
pub fn ok<T: PartialOrd + Default>(result: T) -> io::Result<T> {
    if result < T::default() { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A child that runs `work` and ends. Its exit code is 0, 1 after an error, 101 after a panic.
pub fn fork(work: impl FnOnce() -> io::Result<()>) -> io::Result<pid_t> {
    // SAFETY: no process of this program has a second thread
    let pid = ok(unsafe { libc::fork() })?;
    if pid == 0 {
        exit(child_code(work));
    }
    Ok(pid)
}

fn child_code(work: impl FnOnce() -> io::Result<()>) -> c_int {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(_)) => 1,
        Err(_) => 101,
    }
}

/// A process with a number that the kernel has to give it.
pub fn fork_as(pid: pid_t, work: impl FnOnce() -> io::Result<()>) -> io::Result<pid_t> {
    let numbers = [pid];
    // SAFETY: all zero is valid for these arguments
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = numbers.as_ptr() as u64;
    arguments.set_tid_size = 1;
    // SAFETY: like fork: no memory is shared, and this process has one thread
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    let child = ok(result)?;
    if child == 0 {
        exit(child_code(work));
    }
    Ok(child as pid_t)
}

/// Ends the process without a destructor of the process that it was forked from.
pub fn exit(code: c_int) -> ! {
    // SAFETY: no memory is shared
    unsafe { libc::_exit(code) }
}

/// Waits for one child; `None` if no child has ended (with `WNOHANG`) or there is none.
pub fn reap(pid: pid_t, options: c_int) -> Option<(pid_t, c_int)> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result
    let pid = unsafe { libc::waitpid(pid, &raw mut status, options) };
    (pid > 0).then_some((pid, status))
}

pub fn kill(pid: pid_t, signal: c_int) {
    // SAFETY: no memory is involved; the caller knows that the process is its own
    unsafe { libc::kill(pid, signal) };
}

/// Executes `program`; returns only on failure.
pub fn exec(program: &CStr, arguments: &[&CStr]) -> io::Error {
    let mut pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(ptr::null());
    let environment = [ptr::null()];
    // SAFETY: both lists end with a null pointer, and their strings outlive the call
    unsafe { libc::execve(program.as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

pub fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: no memory is involved
    ok(unsafe { libc::unshare(flags) }).map(drop)
}

pub fn mount(source: &str, target: &Path, kind: &str, flags: c_ulong, data: &str) -> io::Result<()> {
    let (source, target, kind, data) = (c(source), c(target), c(kind), c(data));
    // SAFETY: all four strings outlive the call
    let result = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    ok(result).map(drop)
}

/// A mount namespace whose mounts no other namespace sees.
pub fn own_mounts() -> io::Result<()> {
    unshare(libc::CLONE_NEWNS)?;
    mount("none", Path::new("/"), "none", libc::MS_REC | libc::MS_PRIVATE, "")
}

/// The limit `resource`, soft and hard.
pub fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` outlives the call
    ok(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

pub fn set_comm(name: &[u8]) {
    let mut bytes = [0; 16];
    let len = name.len().min(15);
    bytes[..len].copy_from_slice(&name[..len]);
    // SAFETY: the kernel reads at most 16 bytes, up to a zero byte
    unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) };
}

pub fn mkfifo(path: &Path, mode: u32) -> io::Result<()> {
    let path = c(path);
    // SAFETY: the path outlives the call
    ok(unsafe { libc::mkfifo(path.as_ptr(), mode) }).map(drop)
}

pub fn chown(path: &Path, id: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(id), Some(id))
}

pub fn memfd(name: &str) -> io::Result<File> {
    let name = c(name);
    // SAFETY: the name outlives the call; the descriptor is new, so that it has one owner
    unsafe { Ok(OwnedFd::from_raw_fd(ok(libc::memfd_create(name.as_ptr(), 0))?).into()) }
}

/// `renameat2` with `RENAME_EXCHANGE`.
pub fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    let (a, b) = (c(a), c(b));
    // SAFETY: both paths outlive the call
    let result =
        unsafe { libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE) };
    ok(result).map(drop)
}

/// A mapping of `len` bytes; with an address, exactly there.
pub fn map(
    address: u64,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: Option<(&File, i64)>,
) -> io::Result<*mut u8> {
    let fixed = if address == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
    let (fd, offset) = file.map_or((-1, 0), |(file, offset)| (file.as_raw_fd(), offset));
    // SAFETY: the kernel chooses an address that is free, or refuses one that is not
    let at = unsafe { libc::mmap(address as *mut _, len, protection, flags | fixed, fd, offset) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
}

/// A user namespace in which this process is root, with a mount namespace, and others by their flags.
pub fn own_namespaces(more: c_int) -> io::Result<()> {
    // SAFETY: these two read the credentials only
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | more)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    mount("none", Path::new("/"), "none", libc::MS_REC | libc::MS_PRIVATE, "")
}

/// The number that this process has in the pid namespace of the mounted `/proc`.
pub fn outer_pid() -> io::Result<pid_t> {
    let link = std::fs::read_link("/proc/self")?;
    link.to_str().and_then(|pid| pid.parse().ok()).ok_or_else(|| io::Error::other("no pid in /proc/self"))
}
