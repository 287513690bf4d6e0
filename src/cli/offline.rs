//! The commands that need no kernel: check, schema, list, describe.

use std::path::PathBuf;

use clap::Args;

use crate::catalog::Catalog;
use crate::check::{self, Format};
use crate::config::structure::schema_text;
use crate::console;
use crate::error::{Error, Kind, Result};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Config files, and folders whose *.yaml and *.yml are checked, those below them too
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How problems are written
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// Problems go to standard output, what they come to on standard error; returns the exit code.
pub(super) fn check(args: &CheckArgs) -> Result<u8> {
    let files = check::files(&args.paths)?;
    let catalog = Catalog::embedded();
    let (mut problems, mut faulty) = (0, 0);
    for path in &files {
        if let Some(file) = check::check(path, &catalog)? {
            print(&file.written(args.format))?;
            problems += file.problems.len();
            faulty += 1;
        }
    }
    console::say(&format!("ebpf-run: {}", check::summary(problems, faulty, files.len())));
    Ok(if problems == 0 { 0 } else { Kind::Config.code() })
}

pub(super) fn schema() -> Result<()> {
    print(schema_text())
}

fn print(text: &str) -> Result<()> {
    console::print(text).map_err(|error| Error::failed(format!("standard output takes nothing: {error}")))
}
