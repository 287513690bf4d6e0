//! Small files that are written at once: reports, man pages, units.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::atomic::{AtomicFile, CreateError, FileAttributes, OpenDir, check_replaceable};
use super::path_safety::{ParentDir, PathPolicy};
use super::target;
use crate::run::limits;

/// Creates a small file for `name`. The error has what is wrong and what to do.
pub(crate) fn small_file(
    folder: &OpenDir,
    name: &OsStr,
    mode: u32,
) -> std::result::Result<AtomicFile, (String, &'static str)> {
    let no_file = check_replaceable(folder, name).err().map(|errno| match errno {
        Errno::ISDIR => "it is a directory".into(),
        Errno::LOOP => "it is a symbolic link".into(),
        // The new file would replace it
        Errno::EXIST => target::NO_FILE.into(),
        errno => errno.to_string(),
    });
    if let Some(what) = no_file {
        return Err((what, "use the path of a file, which is replaced, or a path that does not exist"));
    }
    let attributes = FileAttributes { mode, owner: None, group: None };
    AtomicFile::reserve(folder, name, attributes).map_err(|refused| match refused {
        CreateError::InUse => ("another run is writing to it".into(), "give each run its own path with `start`"),
        CreateError::System(Errno::MFILE) => (std::io::Error::from(Errno::MFILE).to_string(), limits::MORE_DESCRIPTORS),
        CreateError::System(error) | CreateError::Owner(error) => {
            (std::io::Error::from(error).to_string(), "check the directory's owner and mode")
        }
    })
}

/// Writes a small file atomically, with the permissions `mode`.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let folder = ParentDir::of(path, PathPolicy::Named).map_err(|problem| std::io::Error::other(problem.message))?;
    let dir = OpenDir { fd: Arc::new(folder.fd), path: folder.path };
    let mut file = small_file(&dir, &folder.name, mode).map_err(|(what, _)| std::io::Error::other(what))?;
    file.writer()?.write_all(bytes)?;
    file.finish()
}
