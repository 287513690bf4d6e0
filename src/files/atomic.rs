//! Files that appear atomically: written as `NAME.partial`, flushed to the disk, then renamed. A file `NAME` is always
//! complete; a killed run leaves a `NAME.partial` that no process has locked.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::fs::{fchmod, fchown, flock, fstat, fsync, linkat, openat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::target::ReservedName;
use crate::output::time::push_date;

/// The suffix of an incomplete file.
pub const PARTIAL: &str = ".partial";

/// The prefix of a file's temporary name, before it is `NAME.partial`.
const TEMPORARY: &str = ".ebpf-run-";

/// Limit of retries if other runs use the same name at the same moment.
const TRIES: usize = 16;

/// A directory that stays open, even if it is renamed.
#[derive(Debug, Clone)]
pub struct OpenDir {
    /// Its descriptor.
    pub fd: Arc<OwnedFd>,
    /// Its path, for messages.
    pub path: PathBuf,
}

/// Owner and permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAttributes {
    /// Permissions.
    pub mode: u32,
    /// The user; `None`: the user of this process.
    pub owner: Option<u32>,
    /// The group; `None`: the group of this process.
    pub group: Option<u32>,
}

/// An incomplete file. If it is dropped before [`AtomicFile::begin`], it is removed; afterwards it stays, as
/// `NAME.partial`.
#[derive(Debug)]
pub struct AtomicFile {
    dir: OpenDir,
    name: OsString,
    /// The file that is written to. It holds the lock that marks the file as in use.
    file: File,
    state: FileState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileState {
    Untouched,
    Begun,
    Done,
}

/// Why a file could not be created.
#[derive(Debug)]
pub enum CreateError {
    /// Another run is writing to it.
    InUse,
    /// An error of the system.
    System(Errno),
    /// Its owner or group can't be set.
    Owner(Errno),
}

impl From<Errno> for CreateError {
    fn from(errno: Errno) -> Self {
        CreateError::System(errno)
    }
}

fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

impl AtomicFile {
    /// Creates `NAME.partial`, for writing and reading. The file is locked before it has that name, so that no other
    /// run takes it for a stale one. A stale file is renamed: see [`quarantine_stale`].
    ///
    /// # Errors
    /// See [`CreateError`].
    pub fn create(dir: &OpenDir, name: &OsStr, attributes: FileAttributes) -> Result<Self, CreateError> {
        Self::create_or(dir, name, attributes, |partial| quarantine_stale(dir, partial).map(drop))
    }

    /// Like [`AtomicFile::create`], for a file that has content only at the end. A stale empty file is removed.
    ///
    /// # Errors
    /// See [`CreateError`].
    pub fn reserve(dir: &OpenDir, name: &OsStr, attributes: FileAttributes) -> Result<Self, CreateError> {
        Self::create_or(dir, name, attributes, |partial| {
            if remove_stale(dir, partial)? { Ok(()) } else { quarantine_stale(dir, partial).map(drop) }
        })
    }

    fn create_or(
        dir: &OpenDir,
        name: &OsStr,
        attributes: FileAttributes,
        clear: impl Fn(&OsStr) -> Result<(), CreateError>,
    ) -> Result<Self, CreateError> {
        let partial = with_suffix(name, PARTIAL);
        for _ in 0..TRIES {
            let (file, temporary) = temporary(dir)?;
            match rename_to_free(dir, &temporary, &partial) {
                Ok(()) => {}
                Err(error) => {
                    // If that fails too, an empty file stays, which the next run of a sink removes
                    let _ = unlinkat(&dir.fd, temporary.as_os_str(), AtFlags::empty());
                    match error {
                        Errno::EXIST => clear(&partial)?,
                        // Another run has removed the temporary file as a stale one
                        Errno::NOENT => {}
                        error => return Err(error.into()),
                    }
                    continue;
                }
            }
            let made = AtomicFile { dir: dir.clone(), name: name.to_owned(), file, state: FileState::Untouched };
            // The mode first: after a change of the owner it can't be set any more
            fchmod(&made.file, Mode::from_raw_mode(attributes.mode))?;
            if attributes.owner.is_some() || attributes.group.is_some() {
                let (owner, group) = (attributes.owner.map(Uid::from_raw), attributes.group.map(Gid::from_raw));
                fchown(&made.file, owner, group).map_err(CreateError::Owner)?;
            }
            return Ok(made);
        }
        Err(CreateError::InUse)
    }

    /// A handle for writing.
    ///
    /// # Errors
    /// If no file descriptor is available.
    pub fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The file itself, for reading.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The directory of the file.
    pub fn dir(&self) -> &OpenDir {
        &self.dir
    }

    /// The final name of the file.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The final name, for comparisons.
    pub fn reserved_name(&self, what: &'static str) -> ReservedName<'_> {
        ReservedName { what, folder: self.dir.fd.as_fd(), name: &self.name }
    }

    /// Keeps the file from now on, even if it is dropped.
    pub fn begin(&mut self) {
        self.state = FileState::Begun;
    }

    /// The final path.
    pub fn path(&self) -> PathBuf {
        self.dir.path.join(&self.name)
    }

    /// The path until the file is complete.
    pub fn partial_path(&self) -> PathBuf {
        self.dir.path.join(with_suffix(&self.name, PARTIAL))
    }

    /// Whether the file has its final name.
    pub fn is_finished(&self) -> bool {
        self.state == FileState::Done
    }

    /// Flushes the file to the disk and renames it to its final name. This replaces an existing file of that name
    /// atomically.
    ///
    /// # Errors
    /// If a flush or the rename fails, or if another process has moved or removed the file. Unless
    /// [`is_finished`](Self::is_finished), the file stays as it is.
    pub fn finish(&mut self) -> io::Result<()> {
        fsync(&self.file)?;
        let partial = with_suffix(&self.name, PARTIAL);
        let moved =
            || io::Error::other(format!("another process has moved or removed {}", self.partial_path().display()));
        if !is_called(&self.file, &self.dir.fd, &partial) {
            return Err(moved());
        }
        renameat(&self.dir.fd, partial.as_os_str(), &self.dir.fd, self.name.as_os_str())?;
        // An unlinked file had this name, until a later run finished its own
        if !is_called(&self.file, &self.dir.fd, &self.name) && fstat(&self.file)?.st_nlink > 0 {
            return Err(moved());
        }
        self.state = FileState::Done;
        sync(&self.dir)
    }

    /// Removes the file, because another file replaces it.
    ///
    /// # Errors
    /// If the directory does not permit it.
    pub fn remove(mut self) -> io::Result<()> {
        self.state = FileState::Done;
        self.unlink().map_err(Into::into)
    }

    /// Removes the file, but never a file that another process has put in its place.
    fn unlink(&self) -> Result<(), Errno> {
        let partial = with_suffix(&self.name, PARTIAL);
        if !is_called(&self.file, &self.dir.fd, &partial) {
            return Ok(());
        }
        unlinkat(&self.dir.fd, partial.as_os_str(), AtFlags::empty())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.state == FileState::Untouched {
            // If that fails, an empty partial file stays, and the next run reports it
            let _ = self.unlink();
        }
    }
}

/// Creates a file with a unique name, and locks it.
fn temporary(dir: &OpenDir) -> Result<(File, OsString), CreateError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = OsString::from(format!("{TEMPORARY}{}-{count}{PARTIAL}", std::process::id()));
        let file = match openat(&dir.fd, name.as_os_str(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            Err(Errno::EXIST) => continue,
            Err(error) => return Err(error.into()),
        };
        match lock(&file) {
            Ok(true) => return Ok((file, name)),
            // Another run takes it for a stale file, and removes it
            Ok(false) => {}
            Err(error) if has_no_locks(error) => return Ok((file, name)),
            Err(error) => {
                let _ = unlinkat(&dir.fd, name.as_os_str(), AtFlags::empty());
                return Err(error.into());
            }
        }
    }
}

/// Takes the lock of a file; `false` if another run has it.
fn lock(file: &File) -> Result<bool, Errno> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether this file system does not support locks.
fn has_no_locks(error: Errno) -> bool {
    matches!(error, Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS)
}

/// Renames `from` to `to`, unless `to` exists.
fn rename_to_free(dir: &OpenDir, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
    match renameat_with(&dir.fd, from, &dir.fd, to, RenameFlags::NOREPLACE) {
        // Not supported by every file system. A hard link does not replace another file either
        Err(Errno::INVAL | Errno::NOSYS) => match linkat(&dir.fd, from, &dir.fd, to, AtFlags::empty()) {
            Ok(()) => unlinkat(&dir.fd, from, AtFlags::empty()),
            Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP)
                if statat(&dir.fd, to, AtFlags::SYMLINK_NOFOLLOW).err() == Some(Errno::NOENT) =>
            {
                renameat(&dir.fd, from, &dir.fd, to)
            }
            result => result,
        },
        result => result,
    }
}

/// Flushes the directory: a name is on the disk only after that. Some file systems do not support it, and a directory
/// without read permission can't be flushed.
fn sync(dir: &OpenDir) -> io::Result<()> {
    match fsync(&dir.fd) {
        Err(Errno::INVAL | Errno::BADF | Errno::NOTSUP) => Ok(()),
        result => result.map_err(Into::into),
    }
}

/// Opens `name` without blocking and without following a link, and takes its lock. `None` if it is not a regular file,
/// to which no run writes.
///
/// # Errors
/// [`CreateError::InUse`] if a run is writing to it; `ENOENT` if it no longer exists.
fn lock_stale(dir: &OpenDir, name: &OsStr) -> Result<Option<File>, CreateError> {
    let is_file = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
    if !is_file(statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match openat(&dir.fd, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match lock(&file) {
        Ok(true) => {}
        Ok(false) => return Err(CreateError::InUse),
        // It may be in use as well
        Err(error) if has_no_locks(error) => return Err(CreateError::InUse),
        Err(error) => return Err(error.into()),
    }
    // Between the two calls, its run may have finished it
    if is_called(&file, &dir.fd, name) { Ok(Some(file)) } else { Err(CreateError::System(Errno::NOENT)) }
}

/// Whether a run is writing to the file `name`.
///
/// # Errors
/// If the file can't be checked.
pub fn is_held(dir: &OpenDir, name: &OsStr) -> Result<bool, Errno> {
    match lock_stale(dir, name) {
        Ok(_) | Err(CreateError::System(Errno::NOENT)) => Ok(false),
        Err(CreateError::InUse) => Ok(true),
        Err(CreateError::System(error) | CreateError::Owner(error)) => Err(error),
    }
}

/// `NAME.partial` of `NAME`.
pub fn partial_name(name: &OsStr) -> OsString {
    with_suffix(name, PARTIAL)
}

/// Whether `name` is a temporary name of [`AtomicFile::create`].
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMPORARY.as_bytes()) && name.as_bytes().ends_with(PARTIAL.as_bytes())
}

/// Removes `name` if it is an empty file of a killed run. Returns whether it no longer exists.
///
/// # Errors
/// [`CreateError::InUse`] if a run is writing to it; or an error of the directory.
pub fn remove_stale(dir: &OpenDir, name: &OsStr) -> Result<bool, CreateError> {
    match lock_stale(dir, name) {
        Err(CreateError::System(Errno::NOENT)) => Ok(true),
        Ok(Some(file)) if fstat(&file)?.st_size == 0 => {
            unlinkat(&dir.fd, name, AtFlags::empty())?;
            Ok(true)
        }
        result => result.map(|_| false),
    }
}

/// Whether a file can be renamed to `name`: only a regular file is replaced.
///
/// # Errors
/// `EISDIR`: a directory has the name; `ELOOP`: a link; `EEXIST`: a device, a pipe or a socket; or an error of the
/// system.
pub fn check_replaceable(dir: &OpenDir, name: &OsStr) -> Result<(), Errno> {
    match statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Err(Errno::NOENT) | Ok(FileType::RegularFile) => Ok(()),
        Err(errno) => Err(errno),
        Ok(FileType::Directory) => Err(Errno::ISDIR),
        Ok(FileType::Symlink) => Err(Errno::LOOP),
        Ok(_) => Err(Errno::EXIST),
    }
}

/// Whether `name` in `folder` is still the name of `file`.
pub fn is_called(file: &File, folder: &OwnedFd, name: &OsStr) -> bool {
    match (fstat(file), statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)) {
        (Ok(file), Ok(found)) => (file.st_dev, file.st_ino) == (found.st_dev, found.st_ino),
        _ => false,
    }
}

/// Renames `NAME.partial`, left by a killed run, to `NAME.partial-` and the time of its last write. Holds its lock
/// meanwhile. Returns the new name; `None` if the file no longer exists.
///
/// # Errors
/// [`CreateError::InUse`] if a run is writing to it; or an error of the directory.
pub fn quarantine_stale(dir: &OpenDir, partial: &OsStr) -> Result<Option<OsString>, CreateError> {
    let _held = match lock_stale(dir, partial) {
        Err(CreateError::System(Errno::NOENT)) => return Ok(None),
        result => result?,
    };
    let written = statat(&dir.fd, partial, AtFlags::SYMLINK_NOFOLLOW)?.st_mtime;
    let mut aside = String::from("-");
    let _ = push_date(written.saturating_mul(1_000_000_000), "%Y%m%dT%H%M%SZ", false, &mut aside); // the format is valid
    for number in 1.. {
        let more = if number == 1 { String::new() } else { format!("-{number}") };
        let name = with_suffix(partial, &format!("{aside}{more}"));
        match rename_to_free(dir, partial, &name) {
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(None),
            result => return Ok(result.map(|()| Some(name))?),
        }
    }
    unreachable!("numbers do not end")
}

/// `NAME` of `NAME.partial`.
pub fn whole_name(partial: &OsStr) -> Option<&OsStr> {
    partial.as_bytes().strip_suffix(PARTIAL.as_bytes()).map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests;
