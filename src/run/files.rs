//! Opening the files of sinks: before anything is loaded, so that a wrong path fails at once; emptied only when every
//! probe is attached, so that a failed start does not cost the last capture.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::error::{Error, Kind, Result};
use crate::output::template::render_global;
use crate::output::{Globals, Output};
use crate::plan::SinkPlan;

/// Readable by the owner's group, writable by the owner.
const MODE: u32 = 0o640;

/// How long a pipe may be without a reader at the start.
const PIPE_PATIENCE: Duration = Duration::from_secs(1);

fn nobody_reads(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

/// A sink's file, open.
#[derive(Debug)]
pub struct Opened {
    /// What records are written to.
    pub output: Output,
    /// Where that is; `None` for standard output.
    pub path: Option<PathBuf>,
}

/// Opens the file of `sink`.
///
/// # Errors
/// If it can't be opened for writing, with what to do.
pub fn open(sink: &SinkPlan, globals: &Arc<Globals>) -> Result<Opened> {
    if sink.path == "-" {
        return Ok(Opened { output: Output::Stdout, path: None });
    }
    let shown = |what: String| Error::failed(format!("sink `{}`: {what}", sink.name));
    let path = render_global(&sink.path, globals).map_err(shown)?;
    let path = PathBuf::from(path);
    // Not through a symlink that somebody else may have put there; and not waiting for somebody to read a pipe
    let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits() as i32;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(MODE).custom_flags(flags);
    let patience = Instant::now() + PIPE_PATIENCE;
    let opened = loop {
        match options.open(&path) {
            // What reads the pipe may have been started at the same time
            Err(error) if nobody_reads(&error) && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => break result,
        }
    };
    match opened {
        Ok(file) => {
            let blocking = rustix::fs::fcntl_getfl(&file)
                .and_then(|flags| rustix::fs::fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK)));
            blocking.map_err(|error| explain(&sink.name, &path, &error.into()))?;
            Ok(Opened { output: Output::File(file), path: Some(path) })
        }
        Err(error) => Err(explain(&sink.name, &path, &error)),
    }
}

/// Two sinks in one file would write over each other, under whatever names they came to it. (Devices and pipes take what
/// comes, as it comes.)
///
/// # Errors
/// With the names of the two.
pub fn check_apart(sinks: &[SinkPlan], opened: &[Opened]) -> Result<()> {
    let identity = |opened: &Opened| match &opened.output {
        Output::File(file) => file.metadata().ok().filter(|meta| meta.is_file()).map(|meta| (meta.dev(), meta.ino())),
        Output::Stdout => None,
    };
    for (index, file) in opened.iter().enumerate() {
        let same = |other: &Opened| identity(other).is_some() && identity(other) == identity(file);
        if let Some(other) = opened[..index].iter().position(same) {
            let (first, second) = (&sinks[other].name, &sinks[index].name);
            let path = file.path.as_deref().unwrap_or(Path::new("-")).display();
            let what = format!("sinks `{first}` and `{second}` write to the same file, {path}");
            return Err(Error::failed(what).hint("give each sink a path of its own"));
        }
    }
    Ok(())
}

/// Writes `bytes` to a file of their own: never through a link, and with the mode of every file that the runner makes.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits() as i32;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).custom_flags(flags).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Empties a regular file; a pipe or a device has nothing to be emptied of.
///
/// # Errors
/// If the file system refuses.
pub fn empty(opened: &Opened) -> Result<()> {
    let (Output::File(file), Some(path)) = (&opened.output, &opened.path) else { return Ok(()) };
    let result = file.metadata().and_then(|meta| if meta.is_file() { truncate(file) } else { Ok(()) });
    result.map_err(|error| Error::failed(format!("{} can't be emptied: {error}", path.display())))
}

fn truncate(file: &File) -> io::Result<()> {
    file.set_len(0)
}

fn explain(sink: &str, path: &Path, error: &io::Error) -> Error {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let what = format!("sink `{sink}` can't write to {}", path.display());
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOENT) => {
            Error::failed(format!("{what}: there is no folder {}", folder.display())).hint("create the folder first")
        }
        Some(rustix::io::Errno::NXIO) => {
            Error::failed(format!("{what}: it is a pipe that nobody reads")).hint("start what reads it first")
        }
        Some(rustix::io::Errno::LOOP) => Error::failed(format!("{what}: it is a symbolic link"))
            .hint("links are not followed, because others may be able to set them: name the file itself"),
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            Error::new(Kind::NotPermitted, format!("{what}: permission denied"))
                .hint("check the folder's owner and mode")
        }
        _ => Error::failed(format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Shape;

    fn sink(path: &Path) -> SinkPlan {
        SinkPlan { name: "s".into(), path: path.display().to_string(), shape: Shape::Jsonl { fields: None } }
    }

    #[test]
    fn a_file_is_emptied_only_when_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("{{ name }}.jsonl");
        let real = folder.path().join("io.jsonl");
        std::fs::write(&real, "the last capture\n").expect("written");
        let globals = Arc::new(Globals { name: "io".into(), ..Globals::default() });
        let opened = open(&sink(&path), &globals).expect("it opens");
        assert_eq!(opened.path.as_deref(), Some(real.as_path()));
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "the last capture\n");
        empty(&opened).expect("it is a file");
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "");
    }

    #[test]
    fn two_sinks_in_one_file_are_found_under_any_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let sinks = [sink(&folder.path().join("x")), sink(&folder.path().join("./x")), sink(Path::new("/dev/null"))];
        let opened: Vec<Opened> = sinks.iter().map(|sink| open(sink, &Arc::default()).expect("it opens")).collect();
        let error = check_apart(&sinks, &opened).expect_err("they are the same");
        assert!(error.message.contains("the same file"), "{error}");
        let apart = [sink(Path::new("/dev/null")), sink(Path::new("/dev/null"))];
        let opened: Vec<Opened> = apart.iter().map(|sink| open(sink, &Arc::default()).expect("it opens")).collect();
        check_apart(&apart, &opened).expect("a device is no file");
    }

    #[test]
    fn links_and_missing_folders_are_refused_in_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/tmp/elsewhere", &link).expect("a link");
        let globals = Arc::default();
        assert!(open(&sink(&link), &globals).unwrap_err().message.contains("symbolic link"));
        let missing = folder.path().join("no/such/file");
        assert!(open(&sink(&missing), &globals).unwrap_err().message.contains("no folder"));
        let opened = open(&sink(Path::new("/dev/null")), &globals).expect("a device is fine");
        empty(&opened).expect("and needs no emptying");
    }
}
