//! `ebpf-run test`: renders the records of fixtures through the sinks of their configs.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::commands::print;
use crate::catalog::Catalog;
use crate::check;
use crate::config::{Overlay, shown};
use crate::console;
use crate::error::{Error, Kind, Result};
use crate::fixture::{TestRun, fixture_path, rehearse};

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Config files with a NAME.fixture.jsonl in the same directory, and directories of such configs
    #[arg(required = true, value_name = "CONFIG")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    filter: super::shorthand::FilterArgs,
    /// Set a value of each config, as if it were in the file: `labels.site=test`
    #[arg(long, value_name = "PATH=VALUE", add = ArgValueCompleter::new(super::set::complete))]
    set: Vec<String>,
    /// Write the output as the expected output
    #[arg(long)]
    update: bool,
}

/// Prints problems and differences to standard output and the summary to standard error; returns the exit code.
pub(super) fn test(args: &TestArgs) -> Result<u8> {
    let mut files = check::files(&args.paths)?;
    // A config named on the command line must have a fixture; in a directory, configs without one are skipped
    let all = files.len();
    files.retain(|path| args.paths.contains(path) || fixture_path(path).exists());
    if files.is_empty() {
        let what = format!("none of {all} configs has a fixture");
        return Err(Error::new(Kind::Config, what)
            .hint("a config is tested if NAME.fixture.jsonl is beside NAME.yaml; `ebpf-run test CONFIG` explains how to write it"));
    }
    let catalog = Catalog::embedded();
    let arguments = args.filter.with(&args.set);
    let outside = Overlay { arguments: &arguments, environment: &super::environment };
    let (mut total, mut faulty, mut different) = (TestRun::default(), 0, 0);
    for path in &files {
        match rehearse(path, &catalog, outside, args.update) {
            Ok(found) => {
                different += usize::from(!found.differences.is_empty());
                faulty += usize::from(!found.problems.is_empty());
                report(path, &found, &mut total)?;
            }
            // The other configs are reported as well
            Err(error) if error.kind == Kind::Config && files.len() > 1 => {
                super::show(&error, false);
                faulty += 1;
            }
            Err(error) => return Err(error),
        }
    }
    let same = files.len() - faulty - different;
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut summary = format!(
        "{same} of {} as expected ({}, {})",
        plural(files.len(), "config"),
        plural(total.records, "record"),
        plural(total.sinks, "sink")
    );
    if faulty > 0 {
        write!(summary, "; {faulty} could not be tested").expect("a String takes all");
    }
    if different > 0 {
        write!(summary, "; {different} different").expect("a String takes all");
        if !args.update {
            summary += ": if the new output is right, accept it with `ebpf-run test --update`";
        }
    }
    console::say(&format!("ebpf-run: {summary}"));
    Ok(match (faulty, different) {
        (0, 0) => 0,
        (0, _) => Kind::Failed.code(),
        _ => Kind::Config.code(),
    })
}

fn report(path: &std::path::Path, found: &TestRun, total: &mut TestRun) -> Result<()> {
    total.records += found.records;
    total.sinks += found.sinks;
    for what in found.problems.iter().chain(&found.differences) {
        print(&format!("{what}\n"))?;
    }
    for written in &found.written {
        console::say(&format!("ebpf-run: wrote {}", shown(written)));
    }
    for probe in &found.without_records {
        let fixture = shown(&fixture_path(path));
        console::say(&format!("ebpf-run: warning: {fixture} has no record of probe `{probe}`"));
    }
    Ok(())
}
