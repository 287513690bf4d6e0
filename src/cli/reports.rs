//! `ebpf-run report FILE…`

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::console;
use crate::error::{Error, Result};
use crate::report::ReportSum;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Reports that `--report` wrote
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn add_up(args: &ReportArgs) -> Result<()> {
    let mut sum = ReportSum::default();
    let mut problems = Vec::new();
    for path in &args.files {
        let file = path.display().to_string();
        let read = fs::read_to_string(path).map_err(|error| error.to_string());
        if let Err(words) = read.and_then(|text| sum.add(&file, &text)) {
            problems.push(format!("{file}: {words}"));
        }
    }
    if args.json {
        console::print_json(&serde_json::to_value(sum.to_json()).expect("a sum is JSON"))?;
    } else {
        console::print(&sum.to_string())?;
    }
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::failed(format!("a report was skipped: {one}"))),
        several => Err(Error::failed(format!("reports were skipped: {}", several.join("; ")))),
    }
}
