//! Which other files a path template names: those of earlier windows, whose `start` was another one. Pure.

use std::sync::Arc;

use super::field_value::Globals;
use super::template::render_global;

/// The names that a template gives files for any `start`, with `name`, `host` and `labels` as they are.
///
/// What `start` gives is known for one moment only; for another one each digit in it may be any other.
/// So names of months and days match only themselves: less is found than there is, never more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    /// Text as it is, or digits.
    pieces: Vec<PatternPart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternPart {
    Text(String),
    Digits(usize),
}

/// A template's text and expressions; `None` if there is anything else in it.
fn parts(source: &str) -> Option<Vec<(bool, &str)>> {
    if source.contains("{%") || source.contains("{#") {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some((text, after)) = rest.split_once("{{") {
        let (expression, next) = after.split_once("}}")?;
        parts.push((false, text));
        parts.push((true, expression));
        rest = next;
    }
    parts.push((false, rest));
    Some(parts)
}

fn mentions(expression: &str, name: &str) -> bool {
    expression.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
}

fn uses(source: &str, name: &str) -> bool {
    match parts(source) {
        Some(parts) => parts.iter().any(|(expression, text)| *expression && mentions(text, name)),
        None => mentions(source, name),
    }
}

/// The beginning of a path that is the same on every host and at any moment: up to the first expression that is not, or
/// that can't be told apart.
pub fn known_beginning(source: &str, globals: &Arc<Globals>) -> String {
    let Some(parts) = parts(source) else { return source[..source.find("{").unwrap_or(0)].to_owned() };
    let mut known = String::new();
    for (expression, text) in parts {
        if !expression {
            known += text;
            continue;
        }
        let varies = ["host", "start"].iter().any(|name| mentions(text, name));
        match render_global(&format!("{{{{{text}}}}}"), globals) {
            Ok(rendered) if !varies => known += &rendered,
            _ => break,
        }
    }
    known
}

impl PathPattern {
    /// Whether the path is another one for each start.
    pub fn uses_start(source: &str) -> bool {
        uses(source, "start")
    }

    /// Whether the path is another one for each probe.
    pub fn uses_probe(source: &str) -> bool {
        uses(source, "probe")
    }

    /// Whether [`PathPattern::new`] can tell the names: the template has text and expressions alone, and `start` only in
    /// the file's own name.
    pub fn is_possible(source: &str) -> bool {
        let folder = source.rfind('/').map_or("", |at| &source[..at]);
        parts(source).is_some() && parts(folder).is_some_and(|_| !PathPattern::uses_start(folder))
    }

    /// The pattern of the file's own name, without its folder; `None` if it can't be told.
    pub fn new(source: &str, globals: &Arc<Globals>) -> Option<Self> {
        if !PathPattern::is_possible(source) {
            return None;
        }
        let mut pieces = Vec::new();
        for (expression, text) in parts(&source[source.rfind('/').map_or(0, |at| at + 1)..])? {
            if !expression {
                pieces.push(PatternPart::Text(text.to_owned()));
                continue;
            }
            let rendered = render_global(&format!("{{{{{text}}}}}"), globals).ok()?;
            if mentions(text, "start") {
                pieces.extend(digits(&rendered));
            } else {
                pieces.push(PatternPart::Text(rendered));
            }
        }
        Some(PathPattern { pieces })
    }

    /// What is left of `name` once the pattern has matched its beginning.
    pub fn strip<'a>(&self, name: &'a str) -> Option<&'a str> {
        self.pieces.iter().try_fold(name, |rest, piece| match piece {
            PatternPart::Text(text) => rest.strip_prefix(text.as_str()),
            PatternPart::Digits(count) => {
                let (digits, rest) = rest.split_at_checked(*count)?;
                digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(rest)
            }
        })
    }
}

fn digits(text: &str) -> Vec<PatternPart> {
    let mut pieces: Vec<PatternPart> = Vec::new();
    for c in text.chars() {
        match pieces.last_mut() {
            Some(PatternPart::Digits(count)) if c.is_ascii_digit() => *count += 1,
            Some(PatternPart::Text(text)) if !c.is_ascii_digit() => text.push(c),
            _ if c.is_ascii_digit() => pieces.push(PatternPart::Digits(1)),
            _ => pieces.push(PatternPart::Text(c.into())),
        }
    }
    pieces
}

#[cfg(test)]
mod tests;
