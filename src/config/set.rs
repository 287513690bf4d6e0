//! `--set PATH=VALUE`: a value of the command line, put into the tree as if it stood there.

use std::ops::Range;

use super::deceptive_characters;
use super::diagnostic::{Code, Diagnostic, Place, Text, suggest};
use super::yaml::{self, MapKey, Node, Value};

/// One step of the path, with its place in the argument.
pub(super) struct SetStep {
    pub name: String,
    pub place: Place,
}

/// Puts what the argument `argument` says into `root`; it is the text of number `text`, by which places go.
pub(super) fn apply(root: &mut Node, text: usize, argument: &Text) -> Vec<Diagnostic> {
    let content = argument.content.as_str();
    let mut problems = deceptive_characters::check(content);
    if !problems.is_empty() {
        problems.iter_mut().for_each(|problem| problem.place.text = text);
        return problems;
    }
    let (parts, value_at) = match path(text, content) {
        Ok(found) => found,
        Err(problem) => return vec![problem],
    };
    if let Some(part) = parts.first().filter(|part| ["include", "part"].contains(&part.name.as_str())) {
        let what = format!("`{}` can't be set on the command line: write it into the config file", part.name);
        return vec![Diagnostic::new(Code::SetNothing, part.place, what)];
    }
    let odd = deceptive_characters::spaces(&content[..value_at], &[], None);
    if !odd.is_empty() {
        return odd
            .into_iter()
            .map(|problem| Diagnostic { place: Place { text, ..problem.place }, ..problem })
            .collect();
    }
    let (value, mut problems) = value(text, content, value_at..content.len());
    if problems.is_empty()
        && let Some(value) = value
    {
        problems.extend(put(root, &parts, 0, value).err());
    }
    problems
}

/// The YAML value that stands at `range` of an argument, the text of number `text`.
pub(super) fn value(text: usize, argument: &str, range: Range<usize>) -> (Option<Node>, Vec<Diagnostic>) {
    let moved = moved(text, argument, range.start);
    let (mut value, mut problems) = yaml::parse(&argument[range]);
    for problem in &mut problems {
        problem.place = moved(problem.place);
        if problem.code == Code::Empty {
            problem.message = "the value behind `=` is missing".into();
        }
    }
    if let Some(value) = &mut value {
        value.relocate(&moved);
    }
    (value, problems)
}

/// What makes a place in a value, which begins at byte `at` of an argument, a place in the argument.
pub(super) fn moved(text: usize, argument: &str, at: usize) -> impl Fn(Place) -> Place {
    let before = argument[..at].chars().count();
    move |place| {
        let column = if place.line == 1 { place.column + before } else { place.column };
        Place { text, column, ..place }
    }
}

/// The steps in front of the `=`, and where the value begins. A step with a point in it goes in quotes.
fn path(text: usize, argument: &str) -> Result<(Vec<SetStep>, usize), Diagnostic> {
    let place = |column: usize, width: usize| Place { text, line: 1, column, width: width.max(1) };
    let (mut parts, mut name, mut quoted, mut start) = (Vec::new(), String::new(), false, 1);
    for (column, (at, c)) in (1..).zip(argument.char_indices()) {
        match c {
            '"' => quoted = !quoted,
            '.' | '=' if !quoted => {
                if name.is_empty() {
                    let what = "a key is missing in the path: write for instance `probes.slow-io.buffer.size`";
                    return Err(Diagnostic::new(Code::SetNothing, place(column, 1), what));
                }
                parts.push(SetStep { name: std::mem::take(&mut name), place: place(start, column - start) });
                if c == '=' {
                    return Ok((parts, at + 1));
                }
                start = column + 1;
            }
            '\n' | '\r' => break,
            _ => name.push(c),
        }
    }
    let what = "`=` is missing: write PATH=VALUE, for instance `window.duration=10s`";
    Err(Diagnostic::new(
        Code::SetNothing,
        place(1, argument.lines().next().map_or(1, |line| line.chars().count())),
        what,
    ))
}

pub(super) fn put(node: &mut Node, parts: &[SetStep], depth: usize, value: Node) -> Result<(), Diagnostic> {
    let part = &parts[depth];
    let last = depth + 1 == parts.len();
    match &mut node.value {
        Value::List(items) => {
            let Some(index) = entry(items, &part.name) else {
                let names: Vec<&str> = items.iter().filter_map(name_of).collect();
                let list = if depth > 0 { parts[depth - 1].name.as_str() } else { "the config" };
                let count = if names.is_empty() { format!(" (it has {})", items.len()) } else { String::new() };
                let what = format!("there is no `{}` in `{list}`{count}{}", part.name, suggest(&part.name, names));
                return Err(Diagnostic::new(Code::SetNothing, part.place, what));
            };
            if last {
                items[index] = value;
                return Ok(());
            }
            put(&mut items[index], parts, depth + 1, value)
        }
        Value::Map(entries) => {
            let key = || MapKey { name: part.name.clone(), place: part.place };
            let found = entries.iter().position(|(key, _)| key.name == part.name);
            if last {
                // A value that is not there is seen at its key
                let place = if value.is_nothing() { part.place } else { value.place };
                let entry = (key(), Node { place, ..value });
                match found {
                    Some(found) => entries[found] = entry,
                    None => entries.push(entry),
                }
                return Ok(());
            }
            let found = match found {
                Some(found) => found,
                None if depth == 1 && parts[0].name == "sinks" => {
                    let known = suggest(&part.name, entries.iter().map(|(key, _)| key.name.as_str()));
                    let what = format!("there is no sink `{}`{known}", part.name);
                    return Err(Diagnostic::new(Code::UnknownSink, part.place, what));
                }
                None => {
                    entries.push((key(), Node { value: Value::Map(Vec::new()), place: part.place }));
                    entries.len() - 1
                }
            };
            put(&mut entries[found].1, parts, depth + 1, value)
        }
        // Its problem has been reported; the value is checked all the same
        Value::Broken => {
            *node = Node::unreadable(node.place);
            put(node, parts, depth, value)
        }
        // The structure's check says whether there may be a mapping
        Value::Scalar { .. } => {
            let place = if depth > 0 { parts[depth - 1].place } else { part.place };
            *node = Node { value: Value::Map(Vec::new()), place };
            put(node, parts, depth, value)
        }
    }
}

/// An entry by its name, or by its number from 0.
fn entry(items: &[Node], name: &str) -> Option<usize> {
    let named = items.iter().position(|item| name_of(item) == Some(name));
    named.or_else(|| name.parse().ok().filter(|index| *index < items.len()))
}

/// What a probe goes by.
pub(super) fn name_of(item: &Node) -> Option<&str> {
    match &item.get("name").or_else(|| item.get("program"))?.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
