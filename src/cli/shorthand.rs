//! The options that change a config from the command line, and their shell completion.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use clap::{Args, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::commands::starting;
use super::set;
use crate::catalog::{Catalog, ElementKind};
use crate::config::Arguments;
use crate::config::shorthand::Output;
use crate::config::yaml::{Node, Value};

#[derive(Debug, Clone, Default, Args)]
pub(super) struct FilterArgs {
    /// Set a filter of a config with one probe: `pid=123`, `comm=nginx,php-fpm`, `comm={not: nginx}`
    #[arg(short, long = "filter", value_name = "NAME=VALUE", add = ArgValueCompleter::new(complete_filter))]
    filter: Vec<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub(super) struct OutputArgs {
    /// Write records to FILE in place of the config's sinks: .jsonl, .json, .csv, .txt or .log, and .gz or .zst to
    /// compress; `-` is standard output. For a config with one probe
    #[arg(short, long = "output", value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<String>,
}

impl FilterArgs {
    /// Combines the filters with the arguments of `--set`.
    pub fn with(&self, sets: &[String]) -> Arguments {
        Arguments { filters: self.filter.clone(), output: None, sets: sets.to_owned() }
    }
}

impl OutputArgs {
    /// The value of the option.
    pub fn output(&self) -> Option<Output> {
        self.output.clone().map(Output::File)
    }
}

/// Completes the filters of the programs in the config on the same command line; after the `=`, the values of an enum.
pub(super) fn complete_filter(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_string_lossy();
    let catalog = Catalog::embedded();
    let programs = set::config().map(|config| programs(&config)).unwrap_or_default();
    let mut found = Vec::new();
    for program in programs.iter().filter_map(|name| catalog.program(name)).flatten() {
        for filter in &program.filters {
            match text.split_once('=') {
                None => found.push((format!("{}=", filter.name), filter.doc.clone())),
                Some((name, _)) if name == filter.name => {
                    if let ElementKind::Enum(names) = &filter.element.kind {
                        found.extend(names.iter().map(|(_, value)| (format!("{name}={value}"), String::new())));
                    }
                }
                Some(_) => {}
            }
        }
    }
    starting(current, found.into_iter())
}

/// The programs of a config's probes.
fn programs(config: &Node) -> BTreeSet<String> {
    let Some(Value::List(probes)) = config.get("probes").map(|probes| &probes.value) else { return BTreeSet::new() };
    let programs = probes.iter().filter_map(|probe| probe.get("program"));
    let text = |node: &Node| match &node.value {
        Value::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    };
    programs.filter_map(text).collect()
}
