//! The files of a sink: the current one, the next one, and the finished ones.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::fstatvfs;
use rustix::thread::CapabilitySet;

use super::atomic::{
    AtomicFile, CreateError, FileAttributes, OpenDir, check_replaceable, is_temporary, quarantine_stale, remove_stale,
    whole_name,
};
use super::finalize::{FinalizeJob, Finalizer};
use super::retention::RetentionPolicy;
use super::target::explain;
use crate::config::files::Compress;
use crate::config::quantity::Bytes;
use crate::error::{Error, Result};
use crate::output::{Globals, PathPattern};
use crate::plan::{FilesPlan, SinkPlan};
use crate::report::FileAccount;
use crate::run::privileges;
use crate::run::resolve;

/// The minimum time between checks of the free disk space.
const LOOK: Duration = Duration::from_millis(200);

/// The files of one sink.
#[derive(Debug)]
pub struct RotatingFile {
    sink: String,
    plan: FilesPlan,
    dir: OpenDir,
    /// The name of the file, or of the first segment.
    name: OsString,
    attributes: FileAttributes,
    retention: Option<RetentionPolicy>,
    current: AtomicFile,
    /// The segment numbers of a sink restart with each run: the lock of the name without a number keeps other runs out.
    reserved: Option<AtomicFile>,
    opened_at: Instant,
    /// The number of the current segment.
    segment: u32,
    checked: Option<Instant>,
}

impl RotatingFile {
    /// Creates the first file and returns it for writing. Files of killed runs are renamed, with a warning.
    ///
    /// # Errors
    /// If the file can't be created, or if the file system has too little free space already.
    pub fn open(
        sink: &SinkPlan,
        dir: OpenDir,
        name: &OsStr,
        globals: &Arc<Globals>,
        warn: &dyn Fn(String),
    ) -> Result<(Self, File)> {
        let plan = sink.files.clone();
        let attributes = attributes(&sink.name, &plan)?;
        let pattern = PathPattern::new(&sink.path, &sink.globals(globals));
        let reserved = if plan.rotates() {
            Some(make(&sink.name, &dir, name, || AtomicFile::reserve(&dir, name, attributes))?)
        } else {
            None
        };
        quarantine_stale_files(&dir, name, pattern.as_ref(), warn);
        let retention = pattern.filter(|_| plan.keeps()).map(|pattern| RetentionPolicy::new(&plan, pattern));
        // Before the check of the free space: expired files may fill the disk
        if let Some(Err(error)) = retention.as_ref().map(|retention| retention.apply(&dir, None)) {
            warn(format!("sink `{}`: old files in {} can't be removed: {error}", sink.name, dir.path.display()));
        }
        let first = if plan.rotates() { numbered(name, 1) } else { name.to_owned() };
        let ending = plan.compress.map_or("", Compress::ending);
        check_final_name(&sink.name, &dir, &[first.as_bytes(), ending.as_bytes()].concat())?;
        let current = create(&sink.name, &dir, &first, attributes)?;
        let file = current.writer().map_err(|error| Error::failed(format!("sink `{}`: {error}", sink.name)))?;
        let rotating = RotatingFile {
            sink: sink.name.clone(),
            plan,
            dir,
            name: name.to_owned(),
            attributes,
            retention,
            current,
            reserved,
            opened_at: Instant::now(),
            segment: 1,
            checked: None,
        };
        match rotating.room() {
            Ok(room) if rotating.plan.min_free.is_some_and(|min| room < min) => Err(rotating.no_room(room)),
            Err(error) => Err(explain(&sink.name, &rotating.current.path(), error)),
            Ok(_) => Ok((rotating, file)),
        }
    }

    fn no_room(&self, room: u64) -> Error {
        let RotatingFile { sink, dir, plan, .. } = self;
        let room = Bytes(room >> 20 << 20);
        let min = Bytes(plan.min_free.unwrap_or(0));
        let what = format!(
            "sink `{sink}`: the file system of {} has {room} free, less than `min_free` ({min})",
            dir.path.display()
        );
        Error::failed(what).hint("free disk space, or write to another file system")
    }

    /// Called when everything is attached: from now on the file stays, even after an error.
    pub fn begin(&mut self) {
        self.current.begin();
        self.opened_at = Instant::now();
    }

    /// The capabilities required to finish its files and to create more of them.
    pub fn needs(&self) -> CapabilitySet {
        let gives_away = self.attributes.owner.is_some() || self.attributes.group.is_some();
        let more = self.plan.rotates() || self.plan.compress.is_some();
        let owner = if gives_away && more { CapabilitySet::CHOWN } else { CapabilitySet::empty() };
        let to_replace = self.current.path();
        owner | privileges::for_files(&self.dir, to_replace.file_name().unwrap_or_default())
    }

    /// The path of the file until it is complete.
    pub fn partial_path(&self) -> PathBuf {
        self.current.partial_path()
    }

    /// Whether the next record belongs to another file, after `bytes` in this one.
    #[inline]
    pub fn is_full(&self, bytes: u64) -> bool {
        self.plan.rotate_size.is_some_and(|size| bytes >= size)
            || self.plan.rotate_every.is_some_and(|every| self.opened_at.elapsed() >= every)
    }

    /// Whether the file system has less free space than `min_free`.
    ///
    /// # Errors
    /// If fstatvfs(3) fails.
    pub fn is_low(&mut self) -> io::Result<bool> {
        let Some(min) = self.plan.min_free else { return Ok(false) };
        if self.checked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(false);
        }
        self.checked = Some(Instant::now());
        Ok(self.room()? < min)
    }

    fn room(&self) -> rustix::io::Result<u64> {
        let room = fstatvfs(self.current.file())?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    /// Queues the current file to be finished and creates the next one.
    ///
    /// # Errors
    /// If the next one can't be created; the current one is finished nevertheless.
    pub fn next(&mut self, bytes: u64, finalizer: &Finalizer) -> Result<File> {
        self.segment += 1;
        let name = numbered(&self.name, self.segment);
        let mut next = create(&self.sink, &self.dir, &name, self.attributes)?;
        next.begin();
        let file = next.writer().map_err(|error| Error::failed(format!("sink `{}`: {error}", self.sink)))?;
        let done = std::mem::replace(&mut self.current, next);
        self.opened_at = Instant::now();
        finalizer.take(self.job(done, bytes));
        Ok(file)
    }

    /// Queues the last file to be finished.
    pub fn finish(self, bytes: u64, finalizer: &Finalizer) {
        let RotatingFile { sink, plan, retention, current, attributes, reserved, .. } = self;
        finalizer.take(FinalizeJob {
            sink,
            file: current,
            bytes,
            compress: plan.compress,
            attributes,
            retention,
            reserved,
        });
    }

    /// The account of the last file as it is, because the run failed.
    pub fn abandon(&self, bytes: u64) -> FileAccount {
        FileAccount { sink: self.sink.clone(), path: self.partial_path(), bytes, complete: false }
    }

    fn job(&self, unfinished: AtomicFile, bytes: u64) -> FinalizeJob {
        FinalizeJob {
            sink: self.sink.clone(),
            file: unfinished,
            bytes,
            compress: self.plan.compress,
            attributes: self.attributes,
            retention: self.retention.clone(),
            reserved: None,
        }
    }
}

fn attributes(sink: &str, plan: &FilesPlan) -> Result<FileAttributes> {
    let number = |name: &Option<String>, find: fn(&str) -> Result<u32>| match name {
        None => Ok(None),
        Some(name) => match name.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => find(name).map(Some),
        },
    };
    let told = |error: Error| Error { message: format!("sink `{sink}`: {}", error.message), ..error };
    Ok(FileAttributes {
        mode: plan.mode,
        owner: number(&plan.owner, resolve::user).map_err(told)?,
        group: number(&plan.group, resolve::group).map_err(told)?,
    })
}

/// Checks at the start whether a file can have the final name; otherwise the error would occur only when the window
/// ends.
fn check_final_name(sink: &str, dir: &OpenDir, name: &[u8]) -> Result<()> {
    let name = OsStr::from_bytes(name);
    check_replaceable(dir, name).map_err(|errno| explain(sink, &dir.path.join(name), errno))
}

fn create(sink: &str, dir: &OpenDir, name: &OsStr, attributes: FileAttributes) -> Result<AtomicFile> {
    make(sink, dir, name, || AtomicFile::create(dir, name, attributes))
}

fn make(
    sink: &str,
    dir: &OpenDir,
    name: &OsStr,
    make: impl FnOnce() -> Result<AtomicFile, CreateError>,
) -> Result<AtomicFile> {
    let path = dir.path.join(name);
    make().map_err(|refused| match refused {
        CreateError::System(errno) => explain(sink, &path, errno),
        CreateError::InUse => {
            let what = format!("sink `{sink}`: another run is writing to {}", path.display());
            Error::failed(what).hint("stop that run, give each run its own path with `start`, or set `window.lock`")
        }
        CreateError::Owner(errno) => {
            let error = explain(sink, &path, errno);
            Error { message: format!("{}: its `owner` or `group` can't be set", error.message), ..error }
                .hint("only root (CAP_CHOWN) can change the owner; other users can set a group that they belong to")
        }
    })
}

/// `name.0001.csv` of `name.csv`.
pub fn numbered(name: &OsStr, part: u32) -> OsString {
    let bytes = name.as_bytes();
    let at = bytes.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0).unwrap_or(bytes.len());
    let number = format!(".{part:04}");
    OsStr::from_bytes(&[&bytes[..at], number.as_bytes(), &bytes[at..]].concat()).to_owned()
}

/// Renames the files of killed runs, and warns once: the next run does not find them again.
fn quarantine_stale_files(dir: &OpenDir, name: &OsStr, pattern: Option<&PathPattern>, warn: &dyn Fn(String)) {
    let mut left = Vec::new();
    // In a directory that can't be read, the file of this exact name is checked when it is created
    for entry in rustix::fs::Dir::read_from(&dir.fd).into_iter().flatten().flatten() {
        let found = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_temporary(found) {
            // A run was killed before its file had another name; if it can't be removed it does no harm
            let _ = remove_stale(dir, found);
            continue;
        }
        let Some(whole) = whole_name(found) else { continue };
        let is_ours = whole == name
            || whole
                .to_str()
                .is_some_and(|whole| pattern.is_some_and(|pattern| crate::files::retention::is_of(pattern, whole)));
        if is_ours {
            left.push(found.to_owned());
        }
    }
    for partial in left {
        let path = dir.path.join(&partial);
        match quarantine_stale(dir, &partial) {
            Ok(Some(aside)) => warn(format!(
                "{} was left by a run that was killed or failed; it is kept as {}, and its complete lines are valid",
                path.display(),
                aside.display()
            )),
            // A run is writing to it, or has just finished it
            Ok(None) | Err(CreateError::InUse) => {}
            Err(CreateError::System(error) | CreateError::Owner(error)) => warn(format!(
                "{} was left by a run that was killed or failed, and can't be renamed: {error}",
                path.display()
            )),
        }
    }
}

#[cfg(test)]
mod tests;
