//! Names in filters that only the machine at hand can resolve: users and cgroups.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::plan::{Lookup, Name, ProbePlan, Setting};

/// Where cgroups are, alone or beside those of the first version.
const HIERARCHIES: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// How deep units lie at the most: user@1000.service/app.slice/… included.
const UNIT_DEPTH: usize = 8;

/// What the lookups of `probe` come to, to be set before it is loaded.
///
/// # Errors
/// If a user or cgroup is not there; the message says which filter names it.
pub fn resolve(probe: &ProbePlan) -> Result<Vec<Setting>> {
    let one = |lookup: &Lookup| {
        let bytes = match &lookup.name {
            Name::User(name) => user(name)?.to_ne_bytes().to_vec(),
            Name::Cgroup(path) => {
                let root = hierarchy()?;
                cgroup(&root, &root.join(path.trim_start_matches('/')))?
            }
            Name::Unit(name) => {
                let root = hierarchy()?;
                cgroup(&root, &unit(&root, name)?)?
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
pub(super) fn user(name: &str) -> Result<u32> {
    let passwd = fs::read_to_string("/etc/passwd")
        .map_err(|error| Error::failed(format!("/etc/passwd can't be read: {error}")))?;
    number_of(&passwd, name).ok_or_else(|| {
        Error::failed(format!("there is no user `{name}` in /etc/passwd here"))
            .hint(format!("a user of a directory service goes by its number: `id -u {name}`"))
    })
}

/// The number of a group in /etc/group.
pub(super) fn group(name: &str) -> Result<u32> {
    let groups = fs::read_to_string("/etc/group")
        .map_err(|error| Error::failed(format!("/etc/group can't be read: {error}")))?;
    number_of(&groups, name).ok_or_else(|| {
        Error::failed(format!("there is no group `{name}` in /etc/group here"))
            .hint(format!("a group of a directory service goes by its number: `getent group {name}`"))
    })
}

fn number_of(passwd: &str, name: &str) -> Option<u32> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields[0] == name)?.get(2)?.parse().ok()
}

/// The root of the cgroup hierarchy that eBPF programs know: version 2.
pub(super) fn hierarchy() -> Result<PathBuf> {
    let found = HIERARCHIES.iter().map(Path::new).find(|path| path.join("cgroup.controllers").exists());
    found.map(Path::to_owned).ok_or_else(|| {
        Error::failed("cgroups of version 2 are not mounted at /sys/fs/cgroup here")
            .hint("filter by `pid`, `comm` or `uid`, or mount them: `mount -t cgroup2 none /sys/fs/cgroup`")
    })
}

/// `struct runner_cgroup` of the folder `path`: its inode is the id that the kernel has for it.
fn cgroup(root: &Path, path: &Path) -> Result<Vec<u8>> {
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    let id = match fs::metadata(path) {
        Ok(found) if found.is_dir() => found.ino(),
        _ => {
            return Err(Error::failed(format!("there is no cgroup `/{shown}` here now"))
                .hint("`systemd-cgls` or `find /sys/fs/cgroup -type d` lists those that there are"));
        }
    };
    let level = path.strip_prefix(root).map_or(0, |inside| inside.components().count()) as u32;
    let mut bytes = Vec::with_capacity(16);
    bytes.extend(id.to_ne_bytes());
    bytes.extend(level.to_ne_bytes());
    bytes.extend([0; 4]);
    Ok(bytes)
}

/// The folder of a systemd unit.
fn unit(root: &Path, name: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    find_unit(root, name, UNIT_DEPTH, &mut found);
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::failed(format!("the unit `{name}` has no cgroup here now"))
            .hint(format!("a unit that does not run has none: `systemctl status {name}`"))),
        several => {
            let paths: Vec<String> =
                several.iter().map(|path| format!("/{}", path.strip_prefix(root).unwrap_or(path).display())).collect();
            Err(Error::failed(format!("there are {} units `{name}` here: {}", paths.len(), paths.join(", ")))
                .hint("say which by its path, with the filter `cgroup`"))
        }
    }
}

fn find_unit(folder: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth > 1 {
            find_unit(&entry.path(), name, depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/:/x\nwww-data:x:34:33::/:/x\nodd\n";
        assert_eq!(number_of(passwd, "root"), Some(0));
        assert_eq!(number_of(passwd, "www-data"), Some(34));
        assert_eq!(number_of(passwd, "ww"), None);
        assert_eq!(number_of(passwd, "odd"), None);
        assert!(user("no-such-user-here").unwrap_err().hint.unwrap().contains("id -u no-such-user-here"));
    }

    #[test]
    fn a_unit_is_the_one_folder_of_its_name() {
        let root = tempfile::tempdir().expect("a folder");
        for path in ["system.slice/a.service/sub", "system.slice/b.service", "user.slice/b.service"] {
            fs::create_dir_all(root.path().join(path)).expect("a folder");
        }
        let found = unit(root.path(), "a.service").expect("it is there");
        assert!(found.ends_with("system.slice/a.service"));
        let bytes = cgroup(root.path(), &found).expect("it is there");
        assert_eq!(bytes[8..], [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[..8], fs::metadata(&found).unwrap().ino().to_ne_bytes());
        let error = unit(root.path(), "b.service").unwrap_err();
        assert!(error.message.contains("/system.slice/b.service") && error.hint.unwrap().contains("`cgroup`"));
        assert!(unit(root.path(), "c.service").unwrap_err().message.contains("no cgroup"));
        assert!(cgroup(root.path(), &root.path().join("x/y")).unwrap_err().message.contains("`/x/y`"));
    }
}
