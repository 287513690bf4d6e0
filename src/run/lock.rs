//! The lock file that prevents two runs of a capture at the same time.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::signals::StopSignal;
use crate::config::window::OnLocked;
use crate::error::{Error, Kind, Result};
use crate::files::atomic::is_called;
use crate::files::path_safety::{ParentDir, PathPolicy};
use crate::files::target::ReservedName;

/// How often a waiting run tries to take the lock.
const LOOK: Duration = Duration::from_millis(50);

/// Limit of retries if the file is replaced while its lock is taken.
const REPLACED: u32 = 100;

/// A lock that this process holds until it is dropped. The file stays: another run may be waiting for it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    folder: ParentDir,
}

impl Lock {
    /// The name of its file, which no other file of the run may have.
    pub fn reserved_name(&self) -> ReservedName<'_> {
        ReservedName { what: "lock", folder: self.folder.fd.as_fd(), name: &self.folder.name }
    }
}

/// Takes the lock at `path`; `None` if a signal ended the wait.
///
/// # Errors
/// [`Kind::Skipped`] if another run holds it and `on_locked` is `skip`; [`Kind::Failed`] if it is `fail`, or if the
/// file can't be opened safely from interference by other users.
pub fn take(path: &Path, on_locked: OnLocked, stop: &StopSignal, say: &dyn Fn(String)) -> Result<Option<Lock>> {
    let (mut folder, mut file) = open(path)?;
    let mut said = false;
    let mut replaced = 0;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_called(&file, &folder.fd, &folder.name) => break,
            Ok(()) if replaced == REPLACED => {
                return Err(Error::failed(format!(
                    "the lock {} can't be taken: another process keeps replacing it",
                    path.display()
                )));
            }
            // Another process has removed or replaced it since it was opened: other runs would lock the new file
            Ok(()) => {
                (folder, file) = open(path)?;
                replaced += 1;
                continue;
            }
            Err(Errno::WOULDBLOCK) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Error::failed(format!("the lock {} can't be taken: {error}", path.display()))),
        }
        let other = holder(&mut file);
        match on_locked {
            OnLocked::Skip => {
                return Err(Error::new(Kind::Skipped, format!("another run{other} holds the lock {}", path.display())));
            }
            OnLocked::Fail => {
                let what = format!("another run{other} holds the lock {}", path.display());
                return Err(Error::failed(what).hint("wait for it to end, or stop it; `on_locked: wait` waits for it"));
            }
            OnLocked::Wait => {
                if !said {
                    say(format!("waiting for another run{other}, which holds the lock {}", path.display()));
                    said = true;
                }
                if stop.within(LOOK)? {
                    return Ok(None);
                }
            }
        }
    }
    // For the messages of other runs; a failed write is ignored
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Some(Lock { _file: file, folder }))
}

/// Opens the lock's file, and ensures that it is the one that every run opens.
fn open(path: &Path) -> Result<(ParentDir, File)> {
    let refused = |what: String| Error::failed(format!("the lock {} can't be used: {what}", path.display()));
    let folder = ParentDir::of(path, PathPolicy::Checked).map_err(|problem| {
        refused(problem.message).hint(problem.hint.unwrap_or_else(|| "/run/lock is the usual directory".into()))
    })?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file =
        openat(&folder.fd, folder.name.as_os_str(), flags, Mode::RUSR | Mode::WUSR).map_err(|error| match error {
            Errno::LOOP => refused("it is a symbolic link".into()).hint("remove it"),
            Errno::ACCESS | Errno::PERM => {
                let error = Error::new(Kind::NotPermitted, refused("permission denied".into()).message);
                error.hint("check the owner of the file and of its directory; the lock must belong to the user that runs the capture")
            }
            error => refused(error.to_string()),
        })?;
    let stat = fstat(&file).map_err(|error| refused(error.to_string()))?;
    if stat.st_mode & 0o170_000 != 0o100_000 {
        return Err(refused("it is not a regular file".into()));
    }
    // Taking the lock overwrites the file: a wrong path must not destroy another file
    let mut file = File::from(file);
    let mut text = Vec::new();
    (&mut file).take(32).read_to_end(&mut text).map_err(|error| refused(error.to_string()))?;
    if stat.st_nlink > 1 || !text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'\n') || text.len() > 11 {
        let what =
            if stat.st_nlink > 1 { "it has several hard links" } else { "it is not a lock file: it has other content" };
        return Err(refused(what.into()).hint("use a separate file for the lock, such as /run/lock/NAME"));
    }
    // Its owner could hold the lock forever
    if stat.st_uid != geteuid().as_raw() && stat.st_uid != 0 {
        let what = format!("it belongs to user {}, who could hold the lock forever", stat.st_uid);
        return Err(refused(what).hint("use a path in a directory that only you can write to"));
    }
    Ok((folder, file))
}

/// ` (process 123)`, if the lock's file has the number.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!(" (process {pid})"),
        _ => String::new(),
    }
}

/// The lock's path for this machine.
pub fn path(template: &str, globals: &std::sync::Arc<crate::output::Globals>) -> Result<PathBuf> {
    let rendered = crate::output::template::render_global(template, globals);
    rendered.map(PathBuf::from).map_err(|words| Error::failed(format!("the lock's path: {words}")))
}
