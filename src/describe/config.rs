//! The names that the templates and columns of a config can use.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::{Described, entry, fields_of, section};
use crate::output::formatters;
use crate::plan::Plan;

/// A name for templates, with the probes whose records have it; no probes if it is not a field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigName {
    /// Its description.
    pub described: Described,
    /// The probes; all of them, if the config has one only.
    pub probes: Vec<String>,
}

/// Every name that a template of the config can use, those of records first.
pub fn names(plan: &Plan) -> Vec<ConfigName> {
    let mut found: Vec<ConfigName> = Vec::new();
    for probe in &plan.probes {
        for described in fields_of(probe.streams.iter().map(|stream| stream.layout.as_ref())) {
            match found.iter_mut().find(|name| name.described.name == described.name) {
                Some(name) => name.probes.push(probe.name.clone()),
                None => found.push(ConfigName { described, probes: vec![probe.name.clone()] }),
            }
        }
    }
    let mut add = |name: String, doc: &str, values: &str| {
        let described = Described { name, doc: doc.into(), values: values.into() };
        found.push(ConfigName { described, probes: Vec::new() });
    };
    add("name".into(), "Name of the capture", "text");
    add("host".into(), "Name of the host", "text");
    add("start".into(), "When the capture started", "time");
    for (label, value) in &plan.labels {
        add(format!("labels.{label}"), "A label of the config", &format!("text: {value}"));
    }
    found
}

/// All names, as text; `what` is the config.
pub fn text(what: &str, plan: &Plan) -> String {
    let probe = |probe: &crate::plan::ProbePlan| match probe.name == probe.program.name {
        true => probe.name.clone(),
        false => format!("{} ({})", probe.name, probe.program.name),
    };
    let probes: Vec<String> = plan.probes.iter().map(probe).collect();
    let mut out = format!("{what}: {}\n", probes.join(", "));
    let names = names(plan);
    section(&mut out, "Fields of its records, for templates, columns and fields");
    names.iter().filter(|name| !name.probes.is_empty()).for_each(|name| one_of(&mut out, name, plan));
    section(&mut out, "Also for headers and paths");
    names.iter().filter(|name| name.probes.is_empty()).for_each(|name| one_of(&mut out, name, plan));
    section(&mut out, "Formatters (docs/reference/config.md): {{ FIELD | FORMATTER }}");
    writeln!(out, "  {}", formatters::NAMES.join(" ")).expect("a String takes all");
    out
}

fn one_of(out: &mut String, name: &ConfigName, plan: &Plan) {
    let Described { name: called, doc, values } = &name.described;
    let some = !name.probes.is_empty() && name.probes.len() < plan.probes.len();
    let only = if some { format!("; only of {}", name.probes.join(", ")) } else { String::new() };
    entry(out, called, doc, &format!("{values}{only}"));
}

/// The name `called`, as text; `None` if there is none.
pub fn one(plan: &Plan, called: &str) -> Option<String> {
    let names = names(plan);
    let name = names.iter().find(|name| name.described.name == called)?;
    let of = if name.probes.is_empty() { "every record".to_owned() } else { name.probes.join(", ") };
    Some(format!("`{called}` of {of}: {}\n  {}\n", name.described.doc, name.described.values))
}

/// All names, as JSON.
pub fn json(what: &str, plan: &Plan) -> Json {
    let name = |name: ConfigName| {
        let Described { name: called, doc, values } = name.described;
        json!({"name": called, "doc": doc, "values": values, "probes": name.probes})
    };
    let names: Vec<Json> = names(plan).into_iter().map(name).collect();
    json!({"config": what, "names": names, "formatters": formatters::NAMES})
}

#[cfg(test)]
mod tests;
