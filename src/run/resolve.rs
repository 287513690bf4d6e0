//! Resolves names in filters that only this machine knows: users and cgroups.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::event::text::restore;
use crate::plan::{Lookup, LookupName, ProbePlan, Setting};

/// Where cgroups are mounted, alone or beside those of version 1.
const HIERARCHIES: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The largest depth of a unit, including user@1000.service/app.slice/….
const UNIT_DEPTH: usize = 8;
/// Bytes of a line of /etc/passwd or /etc/group that are read.
const LINE_BEGINNING: u64 = 4096;

/// Resolves the lookups of `probe`; the values are set before it is loaded.
///
/// # Errors
/// If a user or cgroup does not exist; the message names the filter.
pub fn resolve(probe: &ProbePlan) -> Result<Vec<Setting>> {
    let one = |lookup: &Lookup| {
        let bytes = match &lookup.name {
            LookupName::User(name) => user(name)?.to_ne_bytes().to_vec(),
            LookupName::Cgroup(_) | LookupName::Unit(_) => {
                let root = hierarchy()?;
                found(&root, &directory(&root, &lookup.name)?)?.bytes()
            }
        };
        Ok(Setting { symbol: lookup.filter.clone(), offset: lookup.offset, bytes })
    };
    let told = |lookup: &Lookup, error: Error| Error {
        message: format!("probe `{}`, filter `{}`: {}", probe.name, lookup.filter, error.message),
        ..error
    };
    probe.lookups.iter().map(|lookup| one(lookup).map_err(|error| told(lookup, error))).collect()
}

/// The number of a user in /etc/passwd.
pub(crate) fn user(name: &str) -> Result<u32> {
    number_in("/etc/passwd", name)?.ok_or_else(|| {
        Error::failed(format!("there is no user `{name}` in /etc/passwd"))
            .hint(format!("use the number for a user of a directory service: `id -u {name}`"))
    })
}

/// The number of a group in /etc/group.
pub(crate) fn group(name: &str) -> Result<u32> {
    number_in("/etc/group", name)?.ok_or_else(|| {
        Error::failed(format!("there is no group `{name}` in /etc/group"))
            .hint(format!("use the number for a group of a directory service: `getent group {name}`"))
    })
}

fn number_in(path: &str, name: &str) -> Result<Option<u32>> {
    let number = File::open(path).and_then(|file| number_of(BufReader::new(file), &restore(name)));
    number.map_err(|error| Error::failed(format!("{path} can't be read: {error}")))
}

/// The number in the first valid entry of `name` in a file such as /etc/passwd. Many tools write this file and it can
/// hold any bytes, so it is read as bytes and line by line: an invalid line hides no other line.
fn number_of(mut file: impl BufRead, name: &[u8]) -> io::Result<Option<u32>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        // Name and number are at the beginning; the list of a group's members can be long
        if (&mut file).take(LINE_BEGINNING).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') {
            skip_line(&mut file)?;
        }
        if let Some(number) = entry(&line).filter(|(found, _)| *found == name).map(|(_, number)| number) {
            return Ok(Some(number));
        }
    }
}

/// Name and number of an entry. Comments, NIS lines (`+`, `-name`) and numbers that are no user are not entries.
fn entry(line: &[u8]) -> Option<(&[u8], u32)> {
    let mut fields = line.trim_ascii_start().split(|byte| *byte == b':');
    let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
    let digits = std::str::from_utf8(number.trim_ascii_end()).ok()?;
    let number = digits.parse().ok().filter(|number| *number != u32::MAX && !digits.starts_with('+'))?;
    (!name.starts_with(b"#") && !name.starts_with(b"+") && !name.starts_with(b"-")).then_some((name, number))
}

/// Skips to the next line, whatever the length of this one.
fn skip_line(file: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = file.fill_buf()?;
        let (length, found) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        file.consume(length);
        if found {
            return Ok(());
        }
    }
}

/// The root of the cgroup hierarchy that eBPF programs use: version 2.
pub(super) fn hierarchy() -> Result<PathBuf> {
    let found = HIERARCHIES.iter().map(Path::new).find(|path| path.join("cgroup.controllers").exists());
    found.map(Path::to_owned).ok_or_else(|| {
        Error::failed("cgroups of version 2 are not mounted at /sys/fs/cgroup")
            .hint("filter by `pid`, `comm` or `uid`, or mount them: `mount -t cgroup2 none /sys/fs/cgroup`")
    })
}

/// A cgroup as programs see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cgroup {
    /// The directory's inode, which is the kernel's id of the cgroup.
    pub id: u64,
    /// Its depth below the root.
    pub level: u32,
}

impl Cgroup {
    /// The cgroup of the directory `path`, if it exists.
    pub fn at(root: &Path, path: &Path) -> Option<Self> {
        let id = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?.ino();
        let level = path.strip_prefix(root).map_or(0, |inside| inside.components().count()) as u32;
        Some(Cgroup { id, level })
    }

    /// Its bytes as a `struct runner_cgroup`.
    fn bytes(self) -> Vec<u8> {
        [&self.id.to_ne_bytes()[..], &self.level.to_ne_bytes(), &[0; 4]].concat()
    }
}

/// The directory of a cgroup or a unit; a unit must exist.
pub(super) fn directory(root: &Path, name: &LookupName) -> Result<PathBuf> {
    match name {
        LookupName::Cgroup(path) => Ok(root.join(OsString::from_vec(restore(path.trim_start_matches('/'))))),
        LookupName::Unit(name) => unit(root, name),
        LookupName::User(name) => unreachable!("the user {name} has no directory"),
    }
}

fn found(root: &Path, path: &Path) -> Result<Cgroup> {
    Cgroup::at(root, path).ok_or_else(|| {
        let shown = path.strip_prefix(root).unwrap_or(path).display();
        Error::failed(format!("there is no cgroup `/{shown}`"))
            .hint("list the cgroups with `systemd-cgls` or `find /sys/fs/cgroup -type d`")
    })
}

/// The directory of a systemd unit. A user to whom part of the hierarchy is delegated (`user@1000.service`) can create
/// directories of any name there: a directory below another owner's counts only if the unit exists nowhere else.
fn unit(root: &Path, name: &str) -> Result<PathBuf> {
    let mut found =
        UnitSearch { name: OsStr::from_bytes(&restore(name)).to_owned(), owner: owner(root), ..UnitSearch::default() };
    found.search_below(root, true, UNIT_DEPTH);
    let paths = if found.ours.is_empty() { found.others } else { found.ours };
    match paths.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::failed(format!("the unit `{name}` has no cgroup"))
            .hint(format!("only running units have a cgroup: check `systemctl status {name}`"))),
        several => {
            let paths: Vec<String> =
                several.iter().map(|path| format!("/{}", path.strip_prefix(root).unwrap_or(path).display())).collect();
            Err(Error::failed(format!("there are {} cgroups of the unit `{name}`: {}", paths.len(), paths.join(", ")))
                .hint("choose one by its path, with the filter `cgroup`"))
        }
    }
}

fn owner(path: &Path) -> Option<u32> {
    fs::symlink_metadata(path).ok().map(|found| found.uid())
}

/// All directories of one name in a hierarchy.
#[derive(Default)]
struct UnitSearch {
    name: OsString,
    /// The owner of the hierarchy.
    owner: Option<u32>,
    /// Those that only the hierarchy's owner can have created.
    ours: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

impl UnitSearch {
    fn search_below(&mut self, directory: &Path, ours: bool, depth: usize) {
        let ours = ours && owner(directory) == self.owner;
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name() == self.name {
                let paths = if ours { &mut self.ours } else { &mut self.others };
                paths.push(entry.path());
            } else if depth > 1 {
                self.search_below(&entry.path(), ours, depth - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
