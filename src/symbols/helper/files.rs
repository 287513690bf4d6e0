//! Opens files of a process that may be hostile: no call here blocks, follows a link of the process, or opens anything
//! but a regular file on a file system inside the kernel.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};

use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use rustix::fs::{AtFlags, FileType, MemfdFlags, Mode, OFlags, Statx, StatxFlags, memfd_create, openat, statx};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::symbols::wire::UnresolvedCause;

/// Limit of bytes of a list of mounts.
const MAX_MOUNTS: u64 = 64 << 20;
/// Limit of cached mounts.
const MAX_KNOWN_MOUNTS: usize = 4096;
/// STATX_MNT_ID_UNIQUE
const UNIQUE_MOUNT: StatxFlags = StatxFlags::from_bits_retain(0x4000);
/// Returns the user namespace that another namespace belongs to: _IO(0xb7, 1).
pub const NS_GET_USERNS: libc::c_ulong = 0xb701;
/// Limit of bytes of a small file of /proc.
const MAX_SMALL: u64 = 64 << 10;

/// The directory of one process in /proc: its descriptor refers to this process, even if the pid is reused.
#[derive(Debug)]
pub struct ProcDir {
    fd: OwnedFd,
    /// Whether files on a mount may be opened, by the mount's number; and an open descriptor on it, so that the number
    /// is not reused.
    mounts: HashMap<u64, (bool, OwnedFd)>,
}

/// Decides which files are opened.
#[derive(Debug)]
pub struct Opener {
    /// The device of the kernel's internal tmpfs for memfds and shared memory, which is in no list of mounts.
    memory: Option<(u32, u32)>,
    /// Whether files on a mount may be opened, by a number that is never reused.
    known: HashMap<u64, bool>,
}

impl Opener {
    /// Must be called before the sandbox is set up.
    pub fn new() -> Self {
        let memfd = memfd_create("ebpf-run", MemfdFlags::CLOEXEC).ok();
        let memory =
            memfd.and_then(|memfd| look_at(memfd.as_fd()).ok()).map(|stat| (stat.stx_dev_major, stat.stx_dev_minor));
        Opener { memory, known: HashMap::new() }
    }

    /// Opens the regular file behind `path`, an O_PATH descriptor; `stat` has its attributes.
    ///
    /// # Errors
    /// [`UnresolvedCause::FileRefused`] for all other files, and [`UnresolvedCause::NotPermitted`].
    pub fn open(&mut self, dir: &mut ProcDir, path: BorrowedFd<'_>, stat: &Statx) -> Result<File, UnresolvedCause> {
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
            return Err(UnresolvedCause::FileRefused);
        }
        let in_memory = self.memory == Some((stat.stx_dev_major, stat.stx_dev_minor));
        if !in_memory && !self.may_open_on_mount_of(dir, path) {
            return Err(UnresolvedCause::FileRefused);
        }
        // O_NONBLOCK: does not wait for a lease
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let again = format!("/proc/self/fd/{}", path.as_raw_fd());
        openat(rustix::fs::CWD, again, flags, Mode::empty()).map(File::from).map_err(cause)
    }

    /// Whether the file system of `path` is inside the kernel: a server in user space can refuse to answer, and then
    /// not even SIGKILL ends the wait.
    fn may_open_on_mount_of(&mut self, dir: &mut ProcDir, path: BorrowedFd<'_>) -> bool {
        let Some(unique) = mount_number(path, UNIQUE_MOUNT) else {
            return dir.may_open_on_mount_of(path); // before 6.8
        };
        if let Some(known) = self.known.get(&unique) {
            return *known;
        }
        let may = dir.may_open_on_mount_of(path);
        if self.known.len() >= MAX_KNOWN_MOUNTS {
            self.known.clear();
        }
        self.known.insert(unique, may);
        may
    }
}

fn cause(errno: Errno) -> UnresolvedCause {
    match errno {
        Errno::ACCESS | Errno::PERM => UnresolvedCause::NotPermitted,
        _ => UnresolvedCause::FileRefused,
    }
}

/// The attributes that the kernel has cached, without a request to a server.
pub fn look_at(path: BorrowedFd<'_>) -> Result<Statx, UnresolvedCause> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(path, c"", flags, StatxFlags::BASIC_STATS).map_err(cause)
}

const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

impl ProcDir {
    /// Opens the directory of process `pid`.
    ///
    /// # Errors
    /// [`UnresolvedCause::ProcessGone`]
    pub fn open(pid: u32) -> Result<Self, UnresolvedCause> {
        let fd = openat(rustix::fs::CWD, format!("/proc/{pid}"), PATH | OFlags::DIRECTORY, Mode::empty());
        Ok(ProcDir { fd: fd.map_err(|_| UnresolvedCause::ProcessGone)?, mounts: HashMap::new() })
    }

    /// Opens a file of /proc/PID for reading.
    ///
    /// # Errors
    /// [`UnresolvedCause::ProcessGone`] or [`UnresolvedCause::NotPermitted`].
    pub fn read(&self, name: &str) -> Result<File, UnresolvedCause> {
        let file = openat(&self.fd, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        file.map(File::from).map_err(|errno| match errno {
            Errno::ACCESS | Errno::PERM => UnresolvedCause::NotPermitted,
            _ => UnresolvedCause::ProcessGone,
        })
    }

    /// Reads a small file of /proc/PID.
    ///
    /// # Errors
    /// As [`ProcDir::read`].
    pub fn text(&self, name: &str) -> Result<Vec<u8>, UnresolvedCause> {
        let mut text = Vec::new();
        self.read(name)?.take(MAX_SMALL).read_to_end(&mut text).map_err(|_| UnresolvedCause::ProcessGone)?;
        Ok(text)
    }

    /// The target of a link of /proc/PID, not opened.
    ///
    /// # Errors
    /// [`UnresolvedCause::NotPermitted`], or [`UnresolvedCause::NotMapped`] if there is no such link (any more).
    pub fn link(&self, name: &str) -> Result<OwnedFd, UnresolvedCause> {
        openat(&self.fd, name, PATH, Mode::empty()).map_err(|errno| match errno {
            Errno::ACCESS | Errno::PERM => UnresolvedCause::NotPermitted,
            _ => UnresolvedCause::NotMapped,
        })
    }

    /// The file `name` in /tmp below the process's root, not opened. No link is followed.
    ///
    /// # Errors
    /// [`UnresolvedCause::NoFile`] if there is none, [`UnresolvedCause::FileRefused`] if it can't be looked up safely.
    pub fn in_tmp(&mut self, opener: &mut Opener, name: &str) -> Result<OwnedFd, UnresolvedCause> {
        let flags = PATH | OFlags::NOFOLLOW;
        let not_there = |_| UnresolvedCause::NoFile;
        let root = self.link("root").map_err(|_| UnresolvedCause::NoFile)?;
        // Each look-up accesses the file system, so each component must be on one inside the kernel
        if !opener.may_open_on_mount_of(self, root.as_fd()) {
            return Err(UnresolvedCause::FileRefused);
        }
        let tmp = openat(&root, "tmp", flags | OFlags::DIRECTORY, Mode::empty()).map_err(not_there)?;
        if !opener.may_open_on_mount_of(self, tmp.as_fd()) {
            return Err(UnresolvedCause::FileRefused);
        }
        openat(&tmp, name, flags, Mode::empty()).map_err(not_there)
    }

    /// Like [`Opener::may_open_on_mount_of`]. The mount's number is looked up in the process's list of mounts and in
    /// this process's; a mount that is in neither, such as a detached one, is refused.
    fn may_open_on_mount_of(&mut self, path: BorrowedFd<'_>) -> bool {
        let Some(mount) = mount_number(path, StatxFlags::MNT_ID) else { return false };
        if let Some(known) = self.mounts.get(&mount) {
            return known.0;
        }
        let Ok(held) = fcntl_dupfd_cloexec(path, 0) else { return false };
        let own = own_mounts().and_then(|list| Mount::of_number(list, mount));
        let may = match own {
            Some(own) => !in_user_space(&own.kind),
            None => self.read("mountinfo").ok().and_then(|list| Mount::of_number(list, mount)).is_some_and(|theirs| {
                // A user with a user namespace can mount an overlay over his own server
                !in_user_space(&theirs.kind)
                    && (theirs.kind != b"overlay" || self.mounts_are_made_by_root() || is_on_host(&theirs))
            }),
        };
        self.mounts.insert(mount, (may, held));
        may
    }

    /// Whether only root can have created the mounts in the process's mount namespace.
    fn mounts_are_made_by_root(&self) -> bool {
        let own = File::open("/proc/self/ns/user").ok();
        let owner = self.read("ns/mnt").ok().and_then(|namespace| {
            // SAFETY: the call has no argument, and returns a new descriptor
            let owner = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
            // SAFETY: the descriptor was just created, and has no other owner
            (owner >= 0).then(|| unsafe { OwnedFd::from_raw_fd(owner) })
        });
        let number = |fd: BorrowedFd<'_>| look_at(fd).ok().map(|stat| stat.stx_ino);
        matches!((own, owner), (Some(own), Some(owner)) if number(own.as_fd()) == number(owner.as_fd()))
    }
}

fn own_mounts() -> Option<File> {
    File::open("/proc/self/mountinfo").ok()
}

/// Whether the same file system is mounted where the runner is, as with containers that root's daemon starts.
fn is_on_host(theirs: &Mount) -> bool {
    own_mounts().is_some_and(|list| Mount::find(list, |_, mount| mount == theirs).is_some())
}

fn in_user_space(kind: &[u8]) -> bool {
    kind == b"fuse" || kind == b"fuseblk" || kind.starts_with(b"fuse.")
}

/// The number of the mount of an open file, of one of two kinds.
fn mount_number(path: BorrowedFd<'_>, which: StatxFlags) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(path, c"", flags, which).ok()?;
    (stat.stx_mask & which.bits() != 0).then_some(stat.stx_mnt_id)
}

/// A mounted file system.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// `MAJOR:MINOR`, unique for each file system.
    device: Vec<u8>,
    kind: Vec<u8>,
}

impl Mount {
    fn of_number(list: File, wanted: u64) -> Option<Self> {
        Mount::find(list, |number, _| number == Some(wanted))
    }

    /// The first mount that matches in a list of lines `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS … - KIND SOURCE
    /// OPTIONS`.
    fn find(list: File, wanted: impl Fn(Option<u64>, &Mount) -> bool) -> Option<Self> {
        let mut list = BufReader::new(list.take(MAX_MOUNTS));
        let mut line = Vec::new();
        loop {
            line.clear();
            if list.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
            let number = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
            let device = words.nth(1).map(<[u8]>::to_vec);
            // Spaces in paths are escaped as \040; the number of fields before the dash varies
            let kind = words.skip_while(|word| *word != b"-").nth(1).map(<[u8]>::to_vec);
            if let (Some(device), Some(kind)) = (device, kind)
                && let mount = (Mount { device, kind })
                && wanted(number, &mount)
            {
                return Some(mount);
            }
        }
    }
}

#[cfg(test)]
mod tests;
