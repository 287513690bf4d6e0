//! Several trees as one: an included file under the one that includes it, defaults under a probe.

use std::collections::HashSet;

use super::diagnostic::{Code, Diagnostic, Place, Text};
use super::yaml::{MapKey, Node, Value};

/// Values of all probes that defaults may add.
const MAX_NODES: usize = 100_000;

/// `over` with the keys that only `base` has. Probes and sinks of both are kept; else `over` takes precedence.
pub(super) fn under(base: Node, mut over: Node, texts: &[Text], problems: &mut Vec<Diagnostic>) -> Node {
    let (Value::Map(below), Value::Map(above)) = (base.value, &mut over.value) else { return over };
    for (key, value) in below {
        match above.iter_mut().find(|(other, _)| other.name == key.name) {
            None => above.push((key, value)),
            Some((_, own)) => match (key.name.as_str(), &mut own.value, value.value) {
                ("probes", Value::List(own), Value::List(mut items)) => {
                    items.append(own);
                    *own = items;
                }
                ("sinks", Value::Map(own), Value::Map(sinks)) => add_sinks(own, sinks, texts, problems),
                // `buffer`, `filters` and `maps` of the defaults are mappings too
                ("defaults", Value::Map(own), Value::Map(entries)) => fill(own, entries, 2),
                // Two ways to say when a capture starts are none that add up
                ("probes" | "sinks" | "schedule", ..) => {}
                (_, Value::Map(own), Value::Map(entries)) => fill(own, entries, 1),
                _ => {}
            },
        }
    }
    over
}

fn add_sinks(
    own: &mut Vec<(MapKey, Node)>,
    sinks: Vec<(MapKey, Node)>,
    texts: &[Text],
    problems: &mut Vec<Diagnostic>,
) {
    let is_new = |(key, _): &(MapKey, Node)| !own.iter().any(|(other, _)| other.name == key.name);
    let (mut all, twice): (Vec<_>, Vec<_>) = sinks.into_iter().partition(is_new);
    for (key, _) in &twice {
        let Some((second, _)) = own.iter().find(|(other, _)| other.name == key.name) else { continue };
        let first = place_in(texts, key.place, second.place);
        let what = format!("another sink is called `{}` ({first}): rename one of them", key.name);
        problems.push(Diagnostic::new(Code::SinkTwice, second.place, what));
    }
    // Of two of one name the first has the value; the other is checked
    all.append(own);
    all.extend(twice);
    *own = all;
}

/// Adds to `own` what only `entries` has, and so on in mappings that both have, so many levels deep.
fn fill(own: &mut Vec<(MapKey, Node)>, entries: Vec<(MapKey, Node)>, levels: usize) {
    for (key, value) in entries {
        match own.iter_mut().find(|(other, _)| other.name == key.name) {
            None => own.push((key, value)),
            Some((_, node)) => {
                if let (Value::Map(own), Value::Map(entries), 2..) = (&mut node.value, value.value, levels) {
                    fill(own, entries, levels - 1);
                }
            }
        }
    }
}

/// What a probe has from the defaults: its number, the key, and the key below it where the probe has something of its own.
pub(super) type DefaultKeys = HashSet<(usize, String, Option<String>)>;

/// Gives every probe of `root` what its `defaults` say and the probe does not.
///
/// # Errors
/// If that would be more than any config has.
pub(super) fn apply_defaults(root: &mut Node) -> Result<DefaultKeys, Diagnostic> {
    let mut given = DefaultKeys::new();
    let Some(defaults) = root.get("defaults").filter(|defaults| !defaults.entries().is_empty()).cloned() else {
        return Ok(given);
    };
    let Value::Map(entries) = &mut root.value else { return Ok(given) };
    let Some((_, Node { value: Value::List(probes), .. })) = entries.iter_mut().find(|(key, _)| key.name == "probes")
    else {
        return Ok(given);
    };
    if defaults.count().saturating_mul(probes.len()) > MAX_NODES {
        let what = "the defaults of all probes are more than 100000 values: remove some";
        return Err(Diagnostic::new(Code::Count, defaults.place, what));
    }
    for (index, probe) in probes.iter_mut().enumerate() {
        for (key, value) in defaults.entries() {
            match probe.get(&key.name) {
                None => drop(given.insert((index, key.name.clone(), None))),
                Some(own) => {
                    let missing = value.entries().iter().filter(|(below, _)| own.get(&below.name).is_none());
                    given.extend(missing.map(|(below, _)| (index, key.name.clone(), Some(below.name.clone()))));
                }
            }
        }
        if let Value::Map(own) = &mut probe.value {
            fill(own, defaults.entries().to_vec(), 2);
        }
    }
    Ok(given)
}

/// `place` for a message at `from`: a line, and the file if it is another one.
pub fn place_in(texts: &[Text], place: Place, from: Place) -> String {
    if place.text == from.text {
        return format!("line {}", place.line);
    }
    texts[place.text].at(place)
}

#[cfg(test)]
mod tests;
