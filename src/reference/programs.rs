//! The sections of `docs/reference/programs.md`: what the objects say of each program, and notes that are written by hand
//! between two markers and stay.

use std::fmt::Write as _;

use super::{code, compare, table};
use crate::catalog::{Catalog, Program, Variable, configs_of};
use crate::describe;

const END_OF_NOTES: &str = "<!-- end of notes -->";

/// Filters that one section describes for all programs.
const TASK_FILTERS: &[&str] = &["pid", "tid", "uid", "comm", "process_comm", "cgroup", "unit"];

/// What is written by hand about `program`.
fn notes<'a>(program: &str, page: &'a str) -> &'a str {
    let notes = page.split_once(&format!("<!-- notes: {program} -->"));
    notes.and_then(|(_, rest)| rest.split_once(END_OF_NOTES)).map_or("", |(notes, _)| notes.trim())
}

fn section(program: &Program, page: &str) -> String {
    let mut out = String::new();
    let name = program.name;
    writeln!(out, "## `{name}`\n\n{}.\n", program.doc()).expect("a String takes all");
    let values = |of: &str, values: &str| describe::brief(values, &format!("ebpf-run describe {name}.{of}"));
    let kind = if program.event().is_some() { "field of an event" } else { "field of a row" };
    let fields = describe::fields(program).into_iter().filter(|field| !["time", "probe"].contains(&&*field.name));
    let fields = fields.map(|field| [code(&field.name), values(&field.name, &field.values), field.doc]);
    writeln!(out, "{}", table([kind, "values", "meaning"], fields)).expect("a String takes all");
    let is_common = |filter: &&Variable| TASK_FILTERS.contains(&filter.name.as_str());
    let (common, own): (Vec<&Variable>, Vec<&Variable>) = program.filters.iter().partition(is_common);
    let own = own
        .into_iter()
        .map(|filter| [code(&filter.name), values(&filter.name, &describe::takes(filter)), filter.doc.clone()]);
    let filters = table(["filter", "values", "meaning"], own);
    if !filters.is_empty() {
        writeln!(out, "{filters}").expect("a String takes all");
    }
    let common: Vec<String> = common.into_iter().map(|filter| code(&filter.name)).collect();
    if common.is_empty() {
        writeln!(out, "It has no [filters on tasks](#filters-on-tasks).\n").expect("a String takes all");
    } else {
        writeln!(out, "[Filters on tasks](#filters-on-tasks): {}.\n", common.join(" ")).expect("a String takes all");
    }
    let maps = program.maps.iter().map(|map| [code(&map.name), map.max_entries.to_string(), map.doc.clone()]);
    let maps = table(["map", "entries", "meaning"], maps);
    if !maps.is_empty() {
        writeln!(out, "{maps}").expect("a String takes all");
    }
    let configs: Vec<String> = configs_of(name).iter().map(|(config, _)| code(config)).collect();
    if !configs.is_empty() {
        writeln!(out, "Ready-made configs: {}.\n", configs.join(" ")).expect("a String takes all");
    }
    writeln!(out, "<!-- notes: {name} -->\n\n{}\n\n{END_OF_NOTES}\n", notes(name, page)).expect("a String takes all");
    out
}

#[test]
fn the_page_of_programs_has_all_that_the_objects_say() {
    let catalog = Catalog::embedded();
    let program = |name| catalog.program(name).expect("it is listed").expect("it is sound");
    compare("reference/programs.md", |page| {
        for notes in page.split("<!-- notes: ").skip(1).filter_map(|rest| rest.split_once(" -->")) {
            assert!(catalog.names().any(|name| name == notes.0), "notes of `{}`, which is no program", notes.0);
        }
        catalog.names().map(|name| section(&program(name), page)).collect()
    });
}
