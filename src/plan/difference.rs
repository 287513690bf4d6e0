//! What is different in two plans.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::event::text::one_line;

/// What `new` would set otherwise than `old`, a line for each value: `-` was, `+` will be. Empty where nothing is
/// different. Where a value stands in the file makes no difference, and neither does the order of probes.
pub fn difference(old: &Json, new: &Json) -> String {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten(old, String::new(), &mut before);
    flatten(new, String::new(), &mut after);
    let mut out = String::new();
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for path in paths {
        let (was, will) = (before.get(path), after.get(path));
        if was != will {
            let lines = [("-", was), ("+", will)];
            for (sign, value) in lines.into_iter().filter_map(|(sign, value)| Some((sign, value?))) {
                writeln!(out, "{sign} {}", one_line(&format!("{path}: {value}"))).expect("a String takes all");
            }
        }
    }
    out
}

/// What an entry of a list goes by; a sink that is for one probe by that too.
fn name(item: &Json) -> Option<String> {
    let name = item["name"].as_str()?;
    Some(item["probe"].as_str().map_or_else(|| name.to_owned(), |probe| format!("{name}.{probe}")))
}

fn flatten(value: &Json, path: String, found: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Json::Object(map) => {
            // What a value comes from is no value, its bytes say what it says, and the time is always another
            let values = map.iter().filter(|(name, _)| !["from", "bytes", "offset", "now"].contains(&name.as_str()));
            for (name, value) in values {
                let path = if name == "value" && map.contains_key("from") { path.clone() } else { below(name) };
                flatten(value, path, found);
            }
        }
        Json::Array(items) => match items.iter().map(name).collect::<Option<Vec<_>>>() {
            // What has a name goes by it
            Some(names) if !names.is_empty() => {
                names.iter().zip(items).for_each(|(name, item)| flatten(item, below(name), found));
            }
            _ => drop(found.insert(path, value.to_string())),
        },
        Json::Null => {}
        Json::String(text) => drop(found.insert(path, text.clone())),
        other => drop(found.insert(path, other.to_string())),
    }
}

#[cfg(test)]
mod tests;
