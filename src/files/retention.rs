//! Which of a sink's files stay, of this window and of those before.

use std::ffi::OsStr;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, statat, unlinkat};

use super::atomic::{OpenDir, PARTIAL, is_held, partial_name};
use crate::config::files::Compress;
use crate::output::PathPattern;
use crate::plan::FilesPlan;
use crate::run::clock;

/// Digits that the number of a part has at the least.
const SEGMENT_DIGITS: usize = 4;

/// What stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    pattern: PathPattern,
    files: Option<u32>,
    age: Option<Duration>,
    bytes: Option<u64>,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RetainedFile {
    name: String,
    /// Which file has that name.
    inode: u64,
    /// When it was last written to, nanoseconds since 1970.
    written: i64,
    bytes: u64,
}

impl RetentionPolicy {
    /// The rules of `plan` for the files that `pattern` names.
    pub fn new(plan: &FilesPlan, pattern: PathPattern) -> Self {
        RetentionPolicy { pattern, files: plan.keep_files, age: plan.keep_age, bytes: plan.keep_bytes }
    }

    /// Removes what is not to stay; never a file that a run is still at work on, nor `newest`, which has only now become whole:
    /// where clocks go back, it may look older than the others.
    ///
    /// # Errors
    /// If the folder refuses.
    pub fn apply(&self, dir: &OpenDir, newest: Option<&OsStr>) -> rustix::io::Result<()> {
        let mut there = Vec::new();
        for entry in Dir::read_from(&dir.fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if !is_of(&self.pattern, stale_name(name).unwrap_or(name)) {
                continue;
            }
            // What is gone in this moment needs no removal
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
            // Another run may be about to give its file this name, or has just done so; in this order it is not missed
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

    /// Those that are not to stay. The newest file does, whatever its size; that is `newest` if there is one.
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

/// Whether `name` is a whole file of the pattern's, whatever its part, compressed or not.
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

/// `NAME` of `NAME.partial-…`, which a killed run has left and a later one has set aside.
fn stale_name(name: &str) -> Option<&str> {
    let (name, aside) = name.rsplit_once(PARTIAL)?;
    aside.starts_with('-').then_some(name)
}

#[cfg(test)]
mod tests;
