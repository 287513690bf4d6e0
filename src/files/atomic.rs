//! A file that appears whole: written as `NAME.partial`, flushed to the disk, then given its name. Whoever finds `NAME` finds
//! all of it; what a killed run leaves is a `NAME.partial` that nobody holds.

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

/// What is behind the name of a file that is not whole.
pub const PARTIAL: &str = ".partial";

/// What the name of a file begins with until it has a name that counts.
const TEMPORARY: &str = ".ebpf-run-";

/// Others that wanted the same name at the same moment so often are no accident.
const TRIES: usize = 16;

/// A folder that stays open, whatever becomes of its name.
#[derive(Debug, Clone)]
pub struct OpenDir {
    /// The folder.
    pub fd: Arc<OwnedFd>,
    /// Its name, for messages.
    pub path: PathBuf,
}

/// Whom a file belongs to and who may do what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAttributes {
    /// Permissions.
    pub mode: u32,
    /// The user, if not who makes it.
    pub owner: Option<u32>,
    /// The group, likewise.
    pub group: Option<u32>,
}

/// A file that is not whole yet. Dropped before [`AtomicFile::begin`], it is removed; later it stays as it is, partial.
#[derive(Debug)]
pub struct AtomicFile {
    dir: OpenDir,
    name: OsString,
    /// The same file as the one that is written to. It holds the lock that says that somebody is at work.
    file: File,
    state: FileState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileState {
    Untouched,
    Begun,
    Done,
}

/// Why a file could not be made.
#[derive(Debug)]
pub enum CreateError {
    /// Another run is at work on it.
    InUse,
    /// The system refuses.
    System(Errno),
    /// It can't be given to this user or group.
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
    /// Makes `NAME.partial`, to be written to and read. It has its lock before it has that name, so that no other run
    /// takes it for one that was left. One that was left is set aside: see [`quarantine_stale`].
    ///
    /// # Errors
    /// See [`CreateError`].
    pub fn create(dir: &OpenDir, name: &OsStr, attributes: FileAttributes) -> Result<Self, CreateError> {
        Self::create_or(dir, name, attributes, |partial| quarantine_stale(dir, partial).map(drop))
    }

    /// The same for a file that has content only at the end. An empty one that was left is removed.
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
                    // Where that fails too, an empty file stays, which the next run of a sink removes
                    let _ = unlinkat(&dir.fd, temporary.as_os_str(), AtFlags::empty());
                    match error {
                        Errno::EXIST => clear(&partial)?,
                        // Another run has taken the temporary file for one that was left
                        Errno::NOENT => {}
                        error => return Err(error.into()),
                    }
                    continue;
                }
            }
            let made = AtomicFile { dir: dir.clone(), name: name.to_owned(), file, state: FileState::Untouched };
            // The mode first: who has given a file away can't set it any more
            fchmod(&made.file, Mode::from_raw_mode(attributes.mode))?;
            if attributes.owner.is_some() || attributes.group.is_some() {
                let (owner, group) = (attributes.owner.map(Uid::from_raw), attributes.group.map(Gid::from_raw));
                fchown(&made.file, owner, group).map_err(CreateError::Owner)?;
            }
            return Ok(made);
        }
        Err(CreateError::InUse)
    }

    /// A handle to write with.
    ///
    /// # Errors
    /// If there are no more file descriptors.
    pub fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The file itself, to be read.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The folder that it is in.
    pub fn dir(&self) -> &OpenDir {
        &self.dir
    }

    /// The name that it will have in it.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The same, for comparisons.
    pub fn reserved_name(&self, what: &'static str) -> ReservedName<'_> {
        ReservedName { what, folder: self.dir.fd.as_fd(), name: &self.name }
    }

    /// From now on it stays, whatever happens.
    pub fn begin(&mut self) {
        self.state = FileState::Begun;
    }

    /// Its name when it is whole.
    pub fn path(&self) -> PathBuf {
        self.dir.path.join(&self.name)
    }

    /// Its name until then.
    pub fn partial_path(&self) -> PathBuf {
        self.dir.path.join(with_suffix(&self.name, PARTIAL))
    }

    /// Whether it has its name.
    pub fn is_finished(&self) -> bool {
        self.state == FileState::Done
    }

    /// Gives it its name, once all of it is on the disk. What had that name before is gone then, and not earlier.
    ///
    /// # Errors
    /// If the disk or the directory refuses, or if another process has moved or removed the file meanwhile. Unless
    /// [`is_finished`](Self::is_finished), it stays as it is.
    pub fn finish(&mut self) -> io::Result<()> {
        fsync(&self.file)?;
        let partial = with_suffix(&self.name, PARTIAL);
        let moved =
            || io::Error::other(format!("another process has moved or removed {}", self.partial_path().display()));
        if !is_called(&self.file, &self.dir.fd, &partial) {
            return Err(moved());
        }
        renameat(&self.dir.fd, partial.as_os_str(), &self.dir.fd, self.name.as_os_str())?;
        // A file without any name had this one, until a later run finished its own
        if !is_called(&self.file, &self.dir.fd, &self.name) && fstat(&self.file)?.st_nlink > 0 {
            return Err(moved());
        }
        self.state = FileState::Done;
        sync(&self.dir)
    }

    /// Removes it, because something else has taken its place.
    ///
    /// # Errors
    /// If the directory refuses.
    pub fn remove(mut self) -> io::Result<()> {
        self.state = FileState::Done;
        self.unlink().map_err(Into::into)
    }

    /// Never what another process has put in its place.
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
            // Where that fails, an empty partial file stays, and the next run reports it
            let _ = self.unlink();
        }
    }
}

/// Makes a file with a name that no other file has, and locks it.
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
            // Another run takes it for one that was left, and removes it
            Ok(false) => {}
            Err(error) if has_no_locks(error) => return Ok((file, name)),
            Err(error) => {
                let _ = unlinkat(&dir.fd, name.as_os_str(), AtFlags::empty());
                return Err(error.into());
            }
        }
    }
}

/// Takes the lock of a file, if no other run has it.
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

/// Whether a lock can't be had because this file system has none.
fn has_no_locks(error: Errno) -> bool {
    matches!(error, Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS)
}

/// Renames `from` to `to`, if nothing has that name.
fn rename_to_free(dir: &OpenDir, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
    match renameat_with(&dir.fd, from, &dir.fd, to, RenameFlags::NOREPLACE) {
        // Not every file system can. A second name can't take the place of another file either
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

/// A name is on the disk when its folder is. Not every file system can do that, and a folder that can only be searched
/// can't be flushed.
fn sync(dir: &OpenDir) -> io::Result<()> {
    match fsync(&dir.fd) {
        Err(Errno::INVAL | Errno::BADF | Errno::NOTSUP) => Ok(()),
        result => result.map_err(Into::into),
    }
}

/// Opens what has the name `name`, without waiting and without following a link, and takes its lock. `None`: it is no
/// regular file, which no run works on.
///
/// # Errors
/// [`CreateError::InUse`] if a run is at work on it; `ENOENT` if it is gone.
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
        // Then it may be in use as well
        Err(error) if has_no_locks(error) => return Err(CreateError::InUse),
        Err(error) => return Err(error.into()),
    }
    // Between the two, its run may have finished it
    if is_called(&file, &dir.fd, name) { Ok(Some(file)) } else { Err(CreateError::System(Errno::NOENT)) }
}

/// Whether a run is at work on the file `name`.
///
/// # Errors
/// If that can't be found out.
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

/// Whether `name` is one that [`AtomicFile::create`] gives a file for a moment.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMPORARY.as_bytes()) && name.as_bytes().ends_with(PARTIAL.as_bytes())
}

/// Removes `name` if it is an empty file that a killed run has left. Returns whether it is gone.
///
/// # Errors
/// [`CreateError::InUse`] if a run is at work on it; or if the directory refuses.
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

/// Whether a file can be given the name `name`: a file takes the place of a file, and of nothing else.
///
/// # Errors
/// `EISDIR`: a folder has it; `ELOOP`: a link; `EEXIST`: a device, a pipe or a socket; or why that can't be seen.
pub fn check_replaceable(dir: &OpenDir, name: &OsStr) -> Result<(), Errno> {
    match statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Err(Errno::NOENT) | Ok(FileType::RegularFile) => Ok(()),
        Err(errno) => Err(errno),
        Ok(FileType::Directory) => Err(Errno::ISDIR),
        Ok(FileType::Symlink) => Err(Errno::LOOP),
        Ok(_) => Err(Errno::EXIST),
    }
}

/// Whether `name` in `folder` still is the name of `file`.
pub fn is_called(file: &File, folder: &OwnedFd, name: &OsStr) -> bool {
    match (fstat(file), statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)) {
        (Ok(file), Ok(found)) => (file.st_dev, file.st_ino) == (found.st_dev, found.st_ino),
        _ => false,
    }
}

/// Renames `NAME.partial`, which a killed run has left, to `NAME.partial-` and when it was last written to. Its lock is held
/// meanwhile. Returns the new name; `None` if it is gone.
///
/// # Errors
/// [`CreateError::InUse`] if a run is at work on it; or if the directory refuses.
pub fn quarantine_stale(dir: &OpenDir, partial: &OsStr) -> Result<Option<OsString>, CreateError> {
    let _held = match lock_stale(dir, partial) {
        Err(CreateError::System(Errno::NOENT)) => return Ok(None),
        result => result?,
    };
    let written = statat(&dir.fd, partial, AtFlags::SYMLINK_NOFOLLOW)?.st_mtime;
    let mut aside = String::from("-");
    let _ = push_date(written.saturating_mul(1_000_000_000), "%Y%m%dT%H%M%SZ", false, &mut aside); // a format that is one
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
