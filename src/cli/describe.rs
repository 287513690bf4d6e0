//! `ebpf-run describe`: a program, or the names that the templates of a config can use; and the completion of both.

use std::ffi::OsStr;
use std::path::Path;

use clap::Args;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::commands::{complete_config, print, starting, suggest_name};
use crate::catalog::{Catalog, configs};
use crate::config::Arguments;
use crate::config::diagnostic::suggest;
use crate::console;
use crate::describe;
use crate::error::{Error, Kind, Result};
use crate::plan::{Overrides, Plan, examine, plan};

/// Endings of a config's file.
const ENDINGS: &[&str] = &[".yaml", ".yml"];

#[derive(Debug, Args)]
pub(super) struct DescribeArgs {
    /// A program (`biosnoop`), or one of its fields, filters or maps (`biosnoop.latency_ns`); or a config (`io-latency`,
    /// `./io.yaml`), whose names for templates are printed, or one of these (`./io.yaml.latency_ns`)
    #[arg(value_name = "PROGRAM", add = ArgValueCompleter::new(complete))]
    what: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The target of the command line.
#[derive(Debug, PartialEq, Eq)]
enum DescribeSubject<'a> {
    Program(&'a str),
    Config(&'a str),
}

/// The program or config, and the part after the dot.
fn split<'a>(text: &'a str, catalog: &Catalog) -> (DescribeSubject<'a>, Option<&'a str>) {
    for ending in ENDINGS {
        if text.ends_with(ending) {
            return (DescribeSubject::Config(text), None);
        }
        if let Some(at) = text.rfind(&format!("{ending}.")) {
            let (path, part) = text.split_at(at + ending.len());
            return (DescribeSubject::Config(path), Some(&part[1..]));
        }
    }
    let (name, part) = text.split_once('.').map_or((text, None), |(name, part)| (name, Some(part)));
    let is_config = !catalog.names().any(|known| known == name) && configs().iter().any(|(known, _)| *known == name);
    (if is_config { DescribeSubject::Config(name) } else { DescribeSubject::Program(name) }, part)
}

pub(super) fn describe(args: &DescribeArgs) -> Result<()> {
    let catalog = Catalog::embedded();
    match split(&args.what, &catalog) {
        (DescribeSubject::Program(name), part) => program(name, part, args.json, &catalog),
        (DescribeSubject::Config(path), part) => {
            let plan = plan(&super::find(Path::new(path), &Arguments::NONE)?, &catalog, &Overrides::default())?;
            config(path, &plan, part, args.json)
        }
    }
}

fn unknown(what: &str, known: &str) -> Error {
    Error::new(Kind::Config, format!("there is no {what}{known}"))
}

fn json(value: &serde_json::Value) -> Result<()> {
    console::print_json(value)
}

fn program(name: &str, part: Option<&str>, as_json: bool, catalog: &Catalog) -> Result<()> {
    let Some(program) = catalog.program(name) else {
        return Err(unknown(&format!("program or config `{name}`"), &suggest_name(name, catalog)));
    };
    let program = program?;
    match part {
        None if as_json => json(&describe::json(&program)),
        None => print(&describe::text(&program)),
        Some(part) => match describe::one(&program, part) {
            Some(text) => print(&text),
            None => {
                let parts = describe::parts(&program);
                let known = suggest(part, parts.iter().map(|(name, _)| name.as_str()));
                Err(unknown(&format!("field, filter or map `{part}` of {name}"), &known))
            }
        },
    }
}

fn config(path: &str, plan: &Plan, part: Option<&str>, as_json: bool) -> Result<()> {
    match part {
        None if as_json => json(&describe::config::json(path, plan)),
        None => print(&describe::config::text(path, plan)),
        Some(part) => match describe::config::one(plan, part) {
            Some(text) => print(&text),
            None => {
                let names = describe::config::names(plan);
                let known = suggest(part, names.iter().map(|name| name.described.name.as_str()));
                Err(unknown(&format!("name `{part}` for templates of {path}"), &known))
            }
        },
    }
}

/// Completes a program or a config; after the dot, its parts.
fn complete(current: &OsStr) -> Vec<CompletionCandidate> {
    let catalog = Catalog::embedded();
    let text = current.to_string_lossy();
    let program = |name: &str| catalog.program(name).and_then(Result::ok);
    match split(&text, &catalog) {
        // A path can have dots before its extension
        (DescribeSubject::Program(name), Some(_)) if program(name).is_none() => complete_config(current),
        (DescribeSubject::Program(name), Some(_)) => {
            let parts = program(name).map(|program| describe::parts(&program)).unwrap_or_default().into_iter();
            starting(current, parts.map(|(part, doc)| (format!("{name}.{part}"), doc)))
        }
        (DescribeSubject::Config(path), Some(_)) => {
            // A config that is being edited can have problems: its valid parts are enough
            let plan = super::find(Path::new(path), &Arguments::NONE)
                .and_then(|source| examine(&source, &catalog, &Overrides::default()));
            let names = plan.map(|(plan, _)| describe::config::names(&plan)).unwrap_or_default().into_iter();
            starting(current, names.map(|name| (format!("{path}.{}", name.described.name), name.described.doc)))
        }
        (_, None) => {
            let doc = |name: &str| program(name).map(|program| program.doc().to_owned()).unwrap_or_default();
            let mut found = starting(current, catalog.names().map(|name| (name.to_owned(), doc(name))));
            let known: Vec<_> = found.iter().map(|candidate| candidate.get_value().to_owned()).collect();
            found.extend(
                complete_config(current).into_iter().filter(|other| !known.iter().any(|k| k == other.get_value())),
            );
            found
        }
    }
}

#[cfg(test)]
mod tests;
