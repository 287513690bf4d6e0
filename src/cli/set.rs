//! Shell completion of `--set`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use clap_complete::engine::CompletionCandidate;
use serde_json::Value as Json;

use super::commands::starting;
use crate::catalog;
use crate::config::structure::schema_text;
use crate::config::yaml::{self, Node, Value};

/// The paths that can continue `current`, from the schema. Probes and sinks are offered by their names in the config of
/// the same command line.
pub(super) fn complete(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_string_lossy();
    if text.contains('=') {
        return Vec::new();
    }
    let schema: Json = serde_json::from_str(schema_text()).expect("the committed schema is JSON");
    let before = text.rfind('.').map_or("", |at| &text[..=at]);
    let config = config();
    let (mut below, mut node) = (vec![&schema], config.as_ref());
    for part in before.split_terminator('.') {
        below = below
            .iter()
            .flat_map(|one| properties(&schema, one))
            .filter(|(name, _)| name.is_empty() || name == part)
            .map(|(_, one)| one)
            .collect();
        node = node.and_then(|node| child(node, part));
    }
    let named = node.map(names).unwrap_or_default().into_iter().map(|name| (name, None));
    let known = below.iter().flat_map(|one| properties(&schema, one)).map(|(name, one)| (name, Some(one)));
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, property) in known.filter(|(name, _)| !name.is_empty()).chain(named) {
        let doc = property.and_then(|property| property["description"].as_str()).unwrap_or_default();
        let goes_on = property.is_none_or(|property| !properties(&schema, property).is_empty());
        let path = format!("{before}{name}{}", if goes_on { "." } else { "=" });
        if !found.iter().any(|(other, _)| *other == path) {
            found.push((path, doc.to_owned()));
        }
    }
    starting(current, found.into_iter())
}

/// The possible children of a value: keys by their names; entries with a user-defined name have an empty name.
fn properties<'a>(schema: &'a Json, of: &'a Json) -> Vec<(String, &'a Json)> {
    if let Some(path) = of["$ref"].as_str() {
        return schema.pointer(path.trim_start_matches('#')).map(|of| properties(schema, of)).unwrap_or_default();
    }
    let choices = ["oneOf", "anyOf"].iter().filter_map(|name| of[name].as_array()).flatten();
    let mut found: Vec<_> = choices.flat_map(|choice| properties(schema, choice)).collect();
    found.extend(of["properties"].as_object().into_iter().flatten().map(|(name, one)| (name.clone(), one)));
    let others = [&of["items"], &of["additionalProperties"]];
    found.extend(others.into_iter().filter(|other| other.is_object()).map(|other| (String::new(), other)));
    found
}

/// The config on the command line that the shell completes.
pub(super) fn config() -> Option<Node> {
    let read = |word: &str| {
        let is_yaml = Path::new(word).extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        let built_in = || catalog::configs().iter().find(|(name, _)| *name == word).map(|(_, yaml)| (*yaml).to_owned());
        if is_yaml { fs::read_to_string(word).ok() } else { built_in() }
    };
    std::env::args().skip_while(|word| word != "--").skip(2).find_map(|word| yaml::parse(&read(&word)?).0)
}

fn name(node: &Node) -> Option<&str> {
    match &node.get("name").or_else(|| node.get("program"))?.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn names(node: &Node) -> Vec<String> {
    match &node.value {
        Value::List(items) => items.iter().filter_map(name).map(str::to_owned).collect(),
        Value::Map(entries) => entries.iter().map(|(key, _)| key.name.clone()).collect(),
        _ => Vec::new(),
    }
}

fn child<'a>(node: &'a Node, part: &str) -> Option<&'a Node> {
    match &node.value {
        Value::List(items) => items.iter().find(|item| name(item) == Some(part)),
        _ => node.get(part),
    }
}
