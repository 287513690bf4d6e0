//! `ebpf-run init`: a config to start from.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::commands::{print, starting, suggest_name};
use crate::catalog::{Catalog, program_of};
use crate::config::shown;
use crate::console;
use crate::describe;
use crate::error::{Error, Kind, Result};

/// Every user may read a config.
const MODE: u32 = 0o644;

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The program, as `ebpf-run list` prints it
    #[arg(add = ArgValueCompleter::new(complete_program))]
    program: String,
    /// Write the config to FILE, which must not exist; default: standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
}

pub(super) fn init(args: &InitArgs) -> Result<()> {
    let catalog = Catalog::embedded();
    let name = args.program.as_str();
    let Some(program) = catalog.program(name) else {
        let known = match program_of(name) {
            Some(program) => format!("; `{name}` is a config of program `{program}`"),
            None => suggest_name(name, &catalog),
        };
        return Err(Error::new(Kind::Config, format!("there is no program `{name}`{known}")));
    };
    let text = describe::starter::config(&*program?);
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        None => print(&text),
        Some(path) => {
            create(path, &text)?;
            console::say(&format!("ebpf-run: wrote {}", shown(path)));
            Ok(())
        }
    }
}

/// Writes a new file.
fn create(path: &Path, text: &str) -> Result<()> {
    let failed = |error: std::io::Error| {
        let exists = error.kind() == ErrorKind::AlreadyExists;
        let failed = Error::failed(format!("{} can't be written: {error}", shown(path)));
        if exists { failed.hint("remove the file, or choose another name") } else { failed }
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = fs::remove_file(path); // part of a config could be taken for a complete one
        failed(error)
    })
}

fn complete_program(current: &OsStr) -> Vec<CompletionCandidate> {
    let catalog = Catalog::embedded();
    let doc = |name: &str| catalog.program(name).and_then(Result::ok).map(|program| program.doc().to_owned());
    starting(current, catalog.names().map(|name| (name.to_owned(), doc(name).unwrap_or_default())))
}
