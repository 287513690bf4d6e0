//! Finds the target of a sink: what exists at its path, and whether it can be written to.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::{Errno, FdFlags};
use rustix::process::geteuid;

use super::atomic::OpenDir;
use super::path_safety::{ParentDir, PathPolicy, PathProblem};
use super::retention::without_segment;
use super::rotate::{RotatingFile, numbered};
use crate::config::files::Compress;
use crate::error::{Error, Kind, Result};
use crate::output::template::render_global;
use crate::output::{Destination, Globals, STANDARD_OUTPUT};
use crate::plan::{FilesPlan, SinkPlan};
use crate::stdio;

/// How long the start waits for a reader of a pipe.
const PIPE_PATIENCE: Duration = Duration::from_secs(1);

/// Paths of this process's standard error; like those of its output they are links everywhere.
const STDERR: &[&str] = &["/dev/stderr", "/proc/self/fd/2", "/dev/fd/2"];

/// Whether a sink's path is this process's standard output or error.
pub fn is_standard_stream(path: &str) -> bool {
    STANDARD_OUTPUT.contains(&path) || STDERR.contains(&path)
}

/// The target of a sink.
#[derive(Debug)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A pipe, a device, standard error: written records can't be taken back.
    Stream(File),
    /// A regular file, or a path that does not exist.
    File(ParentDir),
}

/// A sink's output, open.
#[derive(Debug)]
pub struct OpenTarget {
    /// The destination of records.
    pub output: Destination,
    /// The sink's files; `None` for standard output, pipes and devices.
    pub files: Option<RotatingFile>,
}

impl OpenTarget {
    /// Whether it is standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self.output, Destination::Stdout)
    }
}

/// Opens the outputs of all sinks before anything is loaded, so that a wrong path fails at once. Files have a temporary
/// name until they are complete, so a failed start does not remove the last capture.
///
/// # Errors
/// If one can't be opened for writing, or has a `reserved` name, with what to do.
pub fn open_all(
    sinks: &[SinkPlan],
    globals: &Arc<Globals>,
    reserved: &[ReservedName<'_>],
    warn: &dyn Fn(String),
) -> Result<Vec<OpenTarget>> {
    let found = sinks.iter().map(|sink| find(sink, globals)).collect::<Result<Vec<_>>>()?;
    check_apart(sinks, &found, reserved)?;
    let mut opened = Vec::new();
    for (sink, found) in sinks.iter().zip(found) {
        opened.push(match found {
            Target::Stdout => OpenTarget { output: Destination::Stdout, files: None },
            Target::Stream(file) => OpenTarget { output: Destination::File(file), files: None },
            Target::File(folder) => {
                let dir = OpenDir { fd: Arc::new(folder.fd), path: folder.path };
                let (files, file) = RotatingFile::open(sink, dir, &folder.name, globals, warn)?;
                OpenTarget { output: Destination::File(file), files: Some(files) }
            }
        });
    }
    Ok(opened)
}

fn find(sink: &SinkPlan, globals: &Arc<Globals>) -> Result<Target> {
    let rendered = render_global(&sink.path, &sink.globals(globals));
    let path = rendered.map_err(|what| Error::failed(format!("sink `{}`: {what}", sink.name)))?;
    if STANDARD_OUTPUT.contains(&path.as_str()) {
        let system = |error: Errno| explain(&sink.name, Path::new("standard output"), error);
        stdio::check_writable(rustix::stdio::stdout()).map_err(system)?;
        return Ok(Target::Stdout);
    }
    let path = PathBuf::from(path);
    let system = |error: Errno| explain(&sink.name, &path, error);
    if let Some(number) = inherited(&path) {
        return Ok(Target::Stream(duplicate(number).map_err(system)?));
    }
    let trust = if sink.files.allow_unsafe_path { PathPolicy::Unchecked } else { PathPolicy::Checked };
    let folder = ParentDir::of(&path, trust).map_err(|problem| unsafe_path(&sink.name, &path, problem))?;
    let kind = match statat(&folder.fd, folder.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => FileType::RegularFile,
        Err(error) => return Err(system(error)),
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
    };
    match kind {
        FileType::RegularFile => Ok(Target::File(folder)),
        FileType::Symlink => Err(system(Errno::LOOP)),
        FileType::Directory => Err(system(Errno::ISDIR)),
        _ => {
            let file = stream(&folder).map_err(system)?;
            let stat = fstat(&file).map_err(system)?;
            let is_ours = [0, geteuid().as_raw()].contains(&stat.st_uid);
            // A user who can create files in a directory such as /tmp could have created the pipe to read the records
            if trust == PathPolicy::Checked && FileType::from_raw_mode(stat.st_mode) == FileType::Fifo && !is_ours {
                let message = format!("it is a pipe of user {}, who could read the records", stat.st_uid);
                let hint = Some("create the pipe yourself, in a directory of your own".into());
                return Err(unsafe_path(&sink.name, &path, PathProblem { message, hint, errno: None }));
            }
            Ok(Target::Stream(file))
        }
    }
}

/// The number of the inherited descriptor that `path` names. The path is a link everywhere, which is not followed.
fn inherited(path: &Path) -> Option<RawFd> {
    let path = path.to_str()?;
    if STDERR.contains(&path) {
        return Some(2);
    }
    let number = ["/dev/fd/", "/proc/self/fd/"].iter().find_map(|folder| path.strip_prefix(folder))?;
    number.parse().ok().filter(|fd: &RawFd| fd.to_string() == number)
}

/// Duplicates the inherited descriptor `number`. This process's own descriptors are close-on-exec, so an inherited one
/// is not.
fn duplicate(number: RawFd) -> Result<File, Errno> {
    // SAFETY: the number is used in this function only; if it is not an open descriptor, the calls fail
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    if rustix::io::fcntl_getfd(fd)?.contains(FdFlags::CLOEXEC) {
        return Err(Errno::BADF);
    }
    stdio::check_writable(fd)?;
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?.into())
}

/// Opens a file that is not regular, without following a link and with a limited wait for the reader of a pipe.
fn stream(folder: &ParentDir) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let patience = Instant::now() + PIPE_PATIENCE;
    let file = loop {
        match openat(&folder.fd, folder.name.as_os_str(), flags, Mode::empty()) {
            // The reader of the pipe may have been started at the same time
            Err(Errno::NXIO) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(10)),
            result => break result?,
        }
    };
    let now = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, now.difference(OFlags::NONBLOCK))?;
    Ok(file.into())
}

/// A name that another part of this run uses: the report, or the lock.
#[derive(Debug)]
pub struct ReservedName<'a> {
    /// The user of the name.
    pub what: &'static str,
    /// Its directory.
    pub folder: BorrowedFd<'a>,
    /// The name.
    pub name: &'a OsStr,
}

impl ReservedName<'_> {
    /// Whether both are the same name in the same directory.
    pub fn is_same(&self, other: &ReservedName<'_>) -> bool {
        self.name == other.name && identity(self.folder).is_some() && identity(self.folder) == identity(other.folder)
    }
}

/// The names that a sink gives its files in a directory.
struct SinkFileNames<'a> {
    folder: (u64, u64),
    name: &'a OsStr,
    files: &'a FilesPlan,
}

impl SinkFileNames<'_> {
    /// The first names, compressed and not.
    fn first(&self) -> Vec<OsString> {
        let parts = [self.name.to_owned(), numbered(self.name, 1)];
        let parts = if self.files.rotates() { &parts[..] } else { &parts[..1] };
        let ending = self.files.compress.map_or("", Compress::ending);
        parts.iter().flat_map(|name| [name.clone(), with_ending(name, ending)]).collect()
    }

    /// Whether `name` is one of all possible names.
    fn have(&self, folder: (u64, u64), name: &OsStr) -> bool {
        let Some(text) = name.to_str() else { return folder == self.folder && name == self.name };
        let ending = self.files.compress.map_or("", Compress::ending);
        let is = |text: &str| {
            OsStr::new(text) == self.name
                || (self.files.rotates() && without_segment(text).is_some_and(|text| OsStr::new(&text) == self.name))
        };
        folder == self.folder && (is(text) || text.strip_suffix(ending).is_some_and(is))
    }
}

fn with_ending(name: &OsStr, ending: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(ending);
    name
}

fn identity(folder: BorrowedFd<'_>) -> Option<(u64, u64)> {
    fstat(folder).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// Rejects two sinks with the same file, also under different paths, because they would overwrite each other. (Devices
/// and pipes can have several writers.)
fn check_apart(sinks: &[SinkPlan], found: &[Target], reserved: &[ReservedName<'_>]) -> Result<()> {
    let names = |index: usize| match &found[index] {
        Target::File(folder) => {
            Some(SinkFileNames { folder: identity(folder.fd.as_fd())?, name: &folder.name, files: &sinks[index].files })
        }
        Target::Stdout | Target::Stream(_) => None,
    };
    for (index, sink) in sinks.iter().enumerate() {
        let Some(own) = names(index) else { continue };
        let used = |reserved: &&ReservedName<'_>| {
            identity(reserved.folder).is_some_and(|folder| own.have(folder, reserved.name))
        };
        if let Some(ReservedName { what, .. }) = reserved.iter().find(used) {
            let error = format!("sink `{}` and the {what} are the same file", sink.name);
            return Err(Error::failed(error).hint(format!("give the {what} its own path")));
        }
        let same = |other: &usize| {
            names(*other).is_some_and(|other| {
                other.first().iter().any(|name| own.have(other.folder, name))
                    || own.first().iter().any(|name| other.have(own.folder, name))
            })
        };
        if let (Some(other), Target::File(folder)) = ((0..index).find(same), &found[index]) {
            let path = folder.path.join(&folder.name);
            let what =
                format!("sinks `{}` and `{}` write to the same file, {}", sinks[other].name, sink.name, path.display());
            return Err(Error::failed(what).hint("give each sink its own path"));
        }
    }
    Ok(())
}

fn unsafe_path(sink: &str, path: &Path, problem: PathProblem) -> Error {
    let what = format!("sink `{sink}` can't write to {}: {}", path.display(), problem.message);
    let kind = if problem.errno == Some(Errno::ACCESS) { Kind::NotPermitted } else { Kind::Failed };
    let error = Error::new(kind, what);
    match (problem.hint, problem.errno) {
        // A setting does not change the system's errors, only those of this program
        (Some(hint), None) => error.hint(format!("{hint}, or set `allow_unsafe_path: true`")),
        (Some(hint), Some(_)) => error.hint(hint),
        (None, _) => error,
    }
}

/// The error for a name that is not a regular file's.
pub const NO_FILE: &str = "it is a device, a pipe or a socket, not a file";

/// The error of the system as a message, with what to do.
pub fn explain(sink: &str, path: &Path, errno: Errno) -> Error {
    let what = format!("sink `{sink}` can't write to {}", path.display());
    match errno {
        Errno::NXIO => Error::failed(format!("{what}: no process reads this pipe")).hint("start the reader first"),
        Errno::LOOP => Error::failed(format!("{what}: it is a symbolic link")).hint(
            "links are not followed, because other users may be able to change them: use the path of the file itself",
        ),
        Errno::EXIST => Error::failed(format!("{what}: {NO_FILE}")).hint("move it away, or use another path"),
        Errno::ISDIR => Error::failed(format!("{what}: it is a directory")).hint("add the name of a file"),
        Errno::ACCESS | Errno::PERM => Error::new(Kind::NotPermitted, format!("{what}: permission denied"))
            .hint("check the directory's owner and mode"),
        Errno::BADF => Error::failed(format!("{what}: it is closed, or not open for writing"))
            .hint("open it in the process that starts ebpf-run, or write to a file"),
        _ => Error::failed(format!("{what}: {}", io::Error::from(errno))),
    }
}

#[cfg(test)]
mod tests;
