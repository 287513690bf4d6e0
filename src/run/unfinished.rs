//! A file that appears whole: written as `NAME.partial`, flushed to the disk, then given its name. Whoever finds `NAME` finds
//! all of it; what a killed run leaves is a `NAME.partial` that nobody holds.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::fs::{fchmod, fchown, flock, fstat, fsync, openat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::output::time::push_date;

/// What is behind the name of a file that is not whole.
pub const PARTIAL: &str = ".partial";

/// Others that wanted the same name at the same moment so often are no accident.
const TRIES: usize = 16;

/// A folder that stays open, whatever becomes of its name.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder.
    pub fd: Arc<OwnedFd>,
    /// Its name, for messages.
    pub path: PathBuf,
}

/// Whom a file belongs to and who may do what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions.
    pub mode: u32,
    /// The user, if not who makes it.
    pub owner: Option<u32>,
    /// The group, likewise.
    pub group: Option<u32>,
}

/// A file that is not whole yet. Dropped before [`Unfinished::begin`], it is removed; later it stays as it is, partial.
#[derive(Debug)]
pub struct Unfinished {
    place: Place,
    name: OsString,
    /// The same file as the one that is written to. It holds the lock that says that somebody is at work.
    file: File,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Untouched,
    Begun,
    Done,
}

/// Why a file could not be made.
#[derive(Debug)]
pub enum Refused {
    /// Another run is at work on it.
    InUse,
    /// The system refuses.
    System(Errno),
    /// It can't be given to this user or group.
    Owner(Errno),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Refused::System(errno)
    }
}

fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

impl Unfinished {
    /// Makes `NAME.partial`, to be written to and read. One that is there already is never touched: see [`set_aside`].
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn create(place: &Place, name: &OsStr, attributes: Attributes) -> Result<Self, Refused> {
        let partial = with_suffix(name, PARTIAL);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let file = match openat(&place.fd, partial.as_os_str(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => File::from(file),
                Err(Errno::EXIST) if is_held(place, &partial)? => return Err(Refused::InUse),
                Err(Errno::EXIST) => {
                    set_aside(place, &partial)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // Whoever took it for a left one in the moment before the lock has renamed it
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || !is_called(&file, place, &partial) {
                continue;
            }
            let made = Unfinished { place: place.clone(), name: name.to_owned(), file, state: State::Untouched };
            // The mode first: who has given a file away can't set it any more
            fchmod(&made.file, Mode::from_raw_mode(attributes.mode))?;
            if attributes.owner.is_some() || attributes.group.is_some() {
                let (owner, group) = (attributes.owner.map(Uid::from_raw), attributes.group.map(Gid::from_raw));
                fchown(&made.file, owner, group).map_err(Refused::Owner)?;
            }
            return Ok(made);
        }
        Err(Refused::InUse)
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
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// From now on it stays, whatever happens.
    pub fn begin(&mut self) {
        self.state = State::Begun;
    }

    /// Its name when it is whole.
    pub fn path(&self) -> PathBuf {
        self.place.path.join(&self.name)
    }

    /// Its name until then.
    pub fn partial_path(&self) -> PathBuf {
        self.place.path.join(with_suffix(&self.name, PARTIAL))
    }

    /// Gives it its name, once all of it is on the disk. What had that name before is gone then, and not earlier.
    ///
    /// # Errors
    /// If the disk or the folder refuses; the file stays partial.
    pub fn finish(mut self) -> io::Result<()> {
        self.begin();
        fsync(&self.file)?;
        let partial = with_suffix(&self.name, PARTIAL);
        renameat(&self.place.fd, partial.as_os_str(), &self.place.fd, self.name.as_os_str())?;
        self.state = State::Done;
        sync(&self.place)
    }

    /// Removes it, because something else has taken its place.
    ///
    /// # Errors
    /// If the folder refuses.
    pub fn remove(mut self) -> io::Result<()> {
        self.state = State::Done;
        unlinkat(&self.place.fd, with_suffix(&self.name, PARTIAL).as_os_str(), AtFlags::empty()).map_err(Into::into)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.state == State::Untouched {
            // Where that fails, an empty partial file stays, and the next run says so
            let _ = unlinkat(&self.place.fd, with_suffix(&self.name, PARTIAL).as_os_str(), AtFlags::empty());
        }
    }
}

/// A name is on the disk when its folder is. Not every file system can do that, and a folder that can only be searched
/// can't be flushed.
fn sync(place: &Place) -> io::Result<()> {
    match fsync(&place.fd) {
        Err(Errno::INVAL | Errno::BADF | Errno::NOTSUP) => Ok(()),
        result => result.map_err(Into::into),
    }
}

/// Whether a run is at work on the file `name`.
///
/// # Errors
/// If it can't be looked at.
pub fn is_held(place: &Place, name: &OsStr) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat(&place.fd, name, flags, Mode::empty()) {
        Ok(file) => Ok(flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)),
        // Nobody is at work on a link, or on what is gone
        Err(Errno::LOOP | Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a file can be given the name `name`: a file takes the place of a file, and of nothing else.
///
/// # Errors
/// `EISDIR`: a folder has it; `ELOOP`: a link; `EEXIST`: a device, a pipe or a socket; or why that can't be seen.
pub fn may_take(place: &Place, name: &OsStr) -> Result<(), Errno> {
    match statat(&place.fd, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Err(Errno::NOENT) | Ok(FileType::RegularFile) => Ok(()),
        Err(errno) => Err(errno),
        Ok(FileType::Directory) => Err(Errno::ISDIR),
        Ok(FileType::Symlink) => Err(Errno::LOOP),
        Ok(_) => Err(Errno::EXIST),
    }
}

/// Whether `name` still is the name of `file`.
fn is_called(file: &File, place: &Place, name: &OsStr) -> bool {
    match (fstat(file.as_fd()), statat(&place.fd, name, AtFlags::SYMLINK_NOFOLLOW)) {
        (Ok(file), Ok(found)) => (file.st_dev, file.st_ino) == (found.st_dev, found.st_ino),
        _ => false,
    }
}

/// Renames `NAME.partial`, which a killed run has left, to `NAME.partial-` and when it was last written to. Returns the
/// new name.
///
/// # Errors
/// If the folder refuses.
pub fn set_aside(place: &Place, partial: &OsStr) -> Result<OsString, Errno> {
    let written = statat(&place.fd, partial, AtFlags::SYMLINK_NOFOLLOW)?.st_mtime;
    let mut aside = String::from("-");
    let _ = push_date(written.saturating_mul(1_000_000_000), "%Y%m%dT%H%M%SZ", false, &mut aside); // a format that is one
    for number in 1.. {
        let more = if number == 1 { String::new() } else { format!("-{number}") };
        let name = with_suffix(partial, &format!("{aside}{more}"));
        match renameat_with(&place.fd, partial, &place.fd, name.as_os_str(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            // Not every file system can
            Err(Errno::INVAL) if statat(&place.fd, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW).is_err() => {
                renameat(&place.fd, partial, &place.fd, name.as_os_str())?;
                return Ok(name);
            }
            Err(Errno::INVAL) => {}
            result => return result.map(|()| name),
        }
    }
    unreachable!("numbers do not end")
}

/// `NAME` of `NAME.partial`.
pub fn whole_name(partial: &OsStr) -> Option<&OsStr> {
    partial.as_bytes().strip_suffix(PARTIAL.as_bytes()).map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::Path;

    use super::super::folder::{Folder, Trust};
    use super::*;

    const PLAIN: Attributes = Attributes { mode: 0o640, owner: None, group: None };

    fn place(folder: &Path) -> Place {
        let folder = Folder::of(&folder.join("x"), Trust::Checked).expect("a folder");
        Place { fd: Arc::new(folder.fd), path: folder.path }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path());
        fs::write(folder.path().join("a"), "old").expect("written");
        let file = Unfinished::create(&place, "a".as_ref(), PLAIN).expect("it is made");
        file.writer().and_then(|mut file| file.write_all(b"new")).expect("written");
        assert_eq!(names(folder.path()), ["a", "a.partial"]);
        assert_eq!(fs::read_to_string(folder.path().join("a")).expect("there"), "old");
        file.finish().expect("it is finished");
        assert_eq!(names(folder.path()), ["a"]);
        let meta = fs::metadata(folder.path().join("a")).expect("there");
        assert_eq!((meta.permissions().mode() & 0o7777, meta.len()), (0o640, 3));
    }

    #[test]
    fn what_never_began_leaves_nothing_and_what_did_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path());
        drop(Unfinished::create(&place, "a".as_ref(), PLAIN).expect("it is made"));
        assert!(names(folder.path()).is_empty());
        let mut begun = Unfinished::create(&place, "a".as_ref(), PLAIN).expect("it is made");
        begun.begin();
        drop(begun);
        assert_eq!(names(folder.path()), ["a.partial"]);
    }

    #[test]
    fn a_left_file_is_set_aside_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path());
        for content in ["first", "second"] {
            fs::write(folder.path().join("a.partial"), content).expect("written");
            drop(Unfinished::create(&place, "a".as_ref(), PLAIN).expect("it is made"));
        }
        let left = names(folder.path());
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.iter().all(|name| name.starts_with("a.partial-2") && name.contains('Z')), "{left:?}");
        let texts = left.iter().map(|name| fs::read_to_string(folder.path().join(name)).expect("there"));
        assert_eq!(texts.collect::<std::collections::BTreeSet<_>>().len(), 2, "neither took the other's place");
        let _held = Unfinished::create(&place, "a".as_ref(), PLAIN).expect("it is made");
        let again = Unfinished::create(&place, "a".as_ref(), PLAIN);
        assert!(matches!(again, Err(Refused::InUse)), "{again:?}");
    }

    #[test]
    fn a_file_is_given_to_its_owner() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can give files away");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let attributes = Attributes { mode: 0o604, owner: Some(12), group: Some(34) };
        Unfinished::create(&place(folder.path()), "a".as_ref(), attributes).expect("made").finish().expect("finished");
        let meta = fs::metadata(folder.path().join("a")).expect("there");
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (12, 34, 0o604));
    }
}
