//! `ebpf-run doctor`: what this machine supports.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::commands::{complete_config, print};
use super::shorthand::complete_filter;
use crate::catalog::Catalog;
use crate::config::Arguments;
use crate::console;
use crate::doctor::{DiagnosisView, examine};
use crate::error::Result;

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Config files, or names of built-in configs, whose probes are checked; default: every program
    #[arg(value_name = "CONFIG", add = ArgValueCompleter::new(complete_config))]
    configs: Vec<PathBuf>,
    /// Set a filter of each CONFIG, which has one probe: `comm=nginx,php-fpm`
    #[arg(short, long, value_name = "NAME=VALUE", requires = "configs", add = ArgValueCompleter::new(complete_filter))]
    filter: Vec<String>,
    /// Set a value of each CONFIG, as if it were in the file: `probes.slow-io.filters.min_latency=5ms`
    #[arg(long, value_name = "PATH=VALUE", requires = "configs", add = ArgValueCompleter::new(super::set::complete))]
    set: Vec<String>,
    /// Print the hooks of every program (with a CONFIG they are printed anyway)
    #[arg(long)]
    hooks: bool,
    /// Run each program against a small generated load and compare the events (attaches to the kernel)
    #[arg(long = "try")]
    try_programs: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The path of this program, even if its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Returns the exit code of a run that fails before its window begins, or of a program whose trial failed.
pub(super) fn doctor(args: &DoctorArgs) -> Result<u8> {
    let mut plans = Vec::new();
    let arguments = Arguments { filters: args.filter.clone(), output: None, sets: args.set.clone() };
    for path in &args.configs {
        let source = super::find(path, &arguments)?;
        plans.push((source.path().to_owned(), super::make_plan(&source, &Default::default())?));
    }
    let catalog = Catalog::embedded();
    let mut examination = examine(&plans, &catalog)?;
    if args.try_programs {
        examination.try_programs(&catalog, OWN_PROGRAM.as_ref())?;
    }
    if args.json {
        console::print_json(&examination.json())?;
    } else {
        print(&DiagnosisView { diagnosis: &examination, hooks: args.hooks }.to_string())?;
    }
    Ok(examination.exit_code())
}
