//! Decides which of a sink's files are kept, of this window and of earlier ones.

use std::ffi::OsStr;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, statat, unlinkat};

use super::atomic::{OpenDir, PARTIAL, is_held, partial_name};
use crate::config::files::Compress;
use crate::output::PathPattern;
use crate::plan::FilesPlan;
use crate::run::clock;

/// The minimum number of digits of a segment's number.
const SEGMENT_DIGITS: usize = 4;

/// The rules for keeping files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    pattern: PathPattern,
    files: Option<u32>,
    age: Option<Duration>,
    bytes: Option<u64>,
}

/// An existing file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RetainedFile {
    name: String,
    /// Its name.
    inode: u64,
    /// Its last write, nanoseconds since 1970.
    written: i64,
    bytes: u64,
}

impl RetentionPolicy {
    /// The rules of `plan` for the files of `pattern`.
    pub fn new(plan: &FilesPlan, pattern: PathPattern) -> Self {
        RetentionPolicy { pattern, files: plan.keep_files, age: plan.keep_age, bytes: plan.keep_bytes }
    }

    /// Removes expired files; never a file that a run is still writing to, and never `newest`, which was just
    /// completed: if the clock was set back, it can look older than the others.
    ///
    /// # Errors
    /// If the directory does not permit it.
    pub fn apply(&self, dir: &OpenDir, newest: Option<&OsStr>) -> rustix::io::Result<()> {
        let mut there = Vec::new();
        for entry in Dir::read_from(&dir.fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if !is_of(&self.pattern, stale_name(name).unwrap_or(name)) {
                continue;
            }
            // A file that has just disappeared needs no removal
            let Ok(stat) = statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                let written = stat.st_mtime.saturating_mul(1_000_000_000).saturating_add_unsigned(stat.st_mtime_nsec);
                there.push(RetainedFile {
                    name: name.to_owned(),
                    inode: stat.st_ino,
                    written,
                    bytes: stat.st_size as u64,
                });
            }
        }
        for file in self.expired(there, newest.and_then(OsStr::to_str), clock::now()) {
            let name = OsStr::new(&file.name);
            // Another run may be about to rename its file to this name, or has just done so; this order detects both
            if is_held(dir, &partial_name(name)) != Ok(false)
                || statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_ino) != Ok(file.inode)
            {
                continue;
            }
            match unlinkat(&dir.fd, name, AtFlags::empty()) {
                Err(rustix::io::Errno::NOENT) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// The expired files. The newest file is kept, whatever its size; that is `newest` if it is set.
    fn expired(&self, mut there: Vec<RetainedFile>, newest: Option<&str>, now: i64) -> Vec<RetainedFile> {
        let rank = |file: &RetainedFile| (Some(file.name.as_str()) == newest, file.written);
        there.sort_by(|a, b| (rank(b), &b.name).cmp(&(rank(a), &a.name)));
        let mut bytes = 0u64;
        let mut surplus = Vec::new();
        for (index, file) in there.into_iter().enumerate() {
            bytes = bytes.saturating_add(file.bytes);
            let old = self.age.is_some_and(|age| i128::from(now) - i128::from(file.written) > age.as_nanos() as i128);
            let many = self.files.is_some_and(|files| index >= files as usize);
            let large = self.bytes.is_some_and(|most| bytes > most);
            if index > 0 && (old || many || large) {
                surplus.push(file);
            }
        }
        surplus
    }
}

/// Whether `name` is a complete file of the pattern, of any segment, compressed or not.
pub fn is_of(pattern: &PathPattern, name: &str) -> bool {
    let name = [Compress::Zstd, Compress::Gzip].iter().find_map(|how| name.strip_suffix(how.ending())).unwrap_or(name);
    pattern.strip(name) == Some("") || without_segment(name).is_some_and(|name| pattern.strip(&name) == Some(""))
}

/// `io.csv` of `io.0001.csv`.
pub fn without_segment(name: &str) -> Option<String> {
    let is_part = |part: &str| part.len() >= SEGMENT_DIGITS && part.bytes().all(|byte| byte.is_ascii_digit());
    let (head, tail) = name.rsplit_once('.')?;
    if is_part(tail) {
        return Some(head.to_owned());
    }
    let (head, part) = head.rsplit_once('.')?;
    is_part(part).then(|| format!("{head}.{tail}"))
}

/// `NAME` of `NAME.partial-…`, a file of a killed run that a later run has renamed.
fn stale_name(name: &str) -> Option<&str> {
    let (name, aside) = name.rsplit_once(PARTIAL)?;
    aside.starts_with('-').then_some(name)
}

#[cfg(test)]
mod tests;
