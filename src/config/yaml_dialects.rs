//! YAML that readers read differently. The runner reads YAML 1.2; reviewers' tools, validators and generators may read
//! YAML 1.1 (PyYAML, Ruby) or something between (Go). A text that means one thing here and another there is refused.

use serde_yaml::Value as Yaml;

use super::diagnostic::{Code, Diagnostic, Place};
use super::syntax::refused_by_loader;
use super::typed::plain;
use super::yaml::{Node, Value};

/// Words that YAML 1.1 reads as true or false. (Its readers leave `y` and `n` alone.)
const WORDS: [&str; 12] = ["yes", "Yes", "YES", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF"];

/// A directive (`%YAML 1.1`) in front of the document: some readers follow it, and some do not.
pub(super) fn directive(text: &str) -> Option<Diagnostic> {
    let blank = |line: &&str| line.trim_start_matches([' ', '\t']).is_empty() || line.starts_with('#');
    let (index, line) = text.lines().enumerate().find(|(_, line)| !blank(line))?;
    let what = "YAML directives (`%`) are not supported by every reader: remove the line";
    let place = Place::new(index + 1, 1, line.chars().count());
    line.starts_with('%').then(|| Diagnostic::new(Code::Ambiguous, place, what))
}

/// Why the scalar `text`, which has no quotes, is read differently, and what to write; `None` if it is not.
pub(super) fn scalar(text: &str) -> Option<String> {
    let of = |what: &str| Some(format!("YAML readers disagree on `{text}`: {what}"));
    if text == "=" || text == "<<" {
        return of("text or an operator; put quotes around it");
    }
    if is_date(text) {
        return of("text or a date; put quotes around it");
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if is_sexagesimal(digits) {
        return of("text or a base-60 number; put quotes around it");
    }
    if is_number_for_some(text, digits) {
        return of("they read different numbers, or text; write a plain decimal number, or put quotes around it");
    }
    None
}

/// `2026-01-01`, alone or with a time behind it.
fn is_date(text: &str) -> bool {
    let (date, time) = text.split_once(['T', 't', ' ', '\t']).unwrap_or((text, ""));
    let parts: Vec<&str> = date.split('-').collect();
    let is_number =
        |part: &str, length: &[usize]| length.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let [year, month, day] = parts.as_slice() else { return false };
    let time = time.trim_start_matches([' ', '\t']);
    is_number(year, &[4])
        && is_number(month, &[1, 2])
        && is_number(day, &[1, 2])
        && (date.len() == text.len() || time.starts_with(|c: char| c.is_ascii_digit()) && time.contains(':'))
}

/// `12:30`, `1:00:00.5`: digits, then groups of at most two digits below 60.
fn is_sexagesimal(digits: &str) -> bool {
    let mut groups = digits.split(':');
    let is_first = |group: &str| {
        group.starts_with(|c: char| c.is_ascii_digit()) && group.bytes().all(|b| b.is_ascii_digit() || b == b'_')
    };
    if !groups.next().is_some_and(is_first) || !digits.contains(':') {
        return false;
    }
    let groups: Vec<&str> = groups.collect();
    groups.iter().enumerate().all(|(index, group)| {
        let (whole, fraction) = group.split_once('.').unwrap_or((group, ""));
        (index + 1 == groups.len() || !group.contains('.'))
            && whole.parse::<u8>().is_ok_and(|n| n < 60 && whole.len() <= 2 && !whole.starts_with('+'))
            && fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_')
    })
}

/// Whether it is a number for one reader at least, and something else for another.
fn is_number_for_some(text: &str, digits: &str) -> bool {
    let all = |text: &str, good: fn(u8) -> bool| !text.is_empty() && text.bytes().all(|b| good(b) || b == b'_');
    if let Some((prefix, rest)) = digits.split_at_checked(2)
        && let Some(good) = match prefix {
            "0x" | "0X" => Some((|b| b.is_ascii_hexdigit()) as fn(u8) -> bool),
            "0o" | "0O" => Some((|b| matches!(b, b'0'..=b'7')) as fn(u8) -> bool),
            "0b" | "0B" => Some((|b| matches!(b, b'0' | b'1')) as fn(u8) -> bool),
            _ => None,
        }
    {
        // What all agree on: `0x1f`
        let agreed = prefix == "0x" && digits.len() == text.len() && !rest.contains('_');
        return all(rest, good) && !agreed;
    }
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(whole, rest)| (whole, Some(rest)));
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let has_digits = mantissa.starts_with(|c: char| c.is_ascii_digit())
        || whole.is_empty() && fraction.is_some_and(|fraction| fraction.starts_with(|c: char| c.is_ascii_digit()));
    if !has_digits || !is_digits(whole) || !fraction.is_none_or(is_digits) {
        return false;
    }
    match exponent {
        // Some want a point in front, a sign behind, or both
        Some(exponent) => {
            let power = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            let agreed = fraction.is_some() && power.len() < exponent.len() && !mantissa.contains('_');
            let is_finite = text.parse::<f64>().is_ok_and(f64::is_finite);
            all(power, |b| b.is_ascii_digit()) && !(agreed && is_finite)
        }
        None => mantissa.contains('_') || fraction.is_none() && whole.len() > 1 && whole.starts_with('0'),
    }
}

/// The same for a word where the schema does not say whether it is text, or true and false. Where it does, a reader that takes it
/// for the other reports an error.
pub(super) fn word(text: &str) -> Option<String> {
    let what = "text, or true or false; write true or false, or put quotes around it";
    WORDS.contains(&text).then(|| format!("YAML readers disagree on `{text}`: {what}"))
}

/// Why the key `text`, which has no quotes, is not text for every reader; `None` if it is.
pub(super) fn key(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("the key in front of `:` is missing".into());
    }
    let is_text = matches!(plain(text), Yaml::String(_));
    scalar(text)
        .or_else(|| word(text))
        .or_else(|| (!is_text).then(|| format!("the key `{text}` is not text: put quotes around it")))
}

/// Compares the tree `root` of `text` with what libyaml reads, which most YAML readers are built on or after. Values that differ
/// are reported and broken. What libyaml refuses, the loader may refuse too: it is reported if it is the `only` problem.
pub(super) fn with_libyaml(text: &str, root: &mut Node, only: bool) -> Vec<Diagnostic> {
    match serde_yaml::from_str::<Yaml>(text) {
        Ok(other) => {
            let mut problems = Vec::new();
            differences(root, &other, &mut problems);
            problems
        }
        // A number that does not fit is a matter of the structure's check, which knows what is expected there
        Err(_) if only => {
            refused_by_loader(text).filter(|problem| problem.code != Code::OutOfRange).into_iter().collect()
        }
        Err(_) => Vec::new(),
    }
}

fn differences(node: &mut Node, other: &Yaml, problems: &mut Vec<Diagnostic>) {
    let as_read = matches!(node.value, Value::Scalar { .. }).then(|| node.to_yaml());
    let problem = match (&mut node.value, other) {
        // A tag has been reported
        (Value::Broken, _) | (_, Yaml::Tagged(_)) => return,
        (Value::Map(entries), Yaml::Mapping(others)) if entries.len() == others.len() => {
            for (key, value) in entries {
                match others.get(key.name.as_str()) {
                    Some(other) => differences(value, other, problems),
                    None if matches!(value.value, Value::Broken) => {}
                    None => {
                        problems.push(disagreement(key.place, "this key"));
                        value.value = Value::Broken;
                    }
                }
            }
            return;
        }
        (Value::List(items), Yaml::Sequence(others)) if items.len() == others.len() => {
            items.iter_mut().zip(others).for_each(|(item, other)| differences(item, other, problems));
            return;
        }
        (Value::Scalar { .. }, _) if as_read.as_ref() == Some(other) => return,
        (Value::Scalar { text, plain: false }, Yaml::String(other))
            if text.trim_end_matches('\n') == other.trim_end_matches('\n') =>
        {
            let what = "YAML readers disagree on the end of this text: end the file with a line feed";
            Diagnostic::new(Code::Ambiguous, node.place, what)
        }
        _ => disagreement(node.place, "this value"),
    };
    problems.push(problem);
    node.value = Value::Broken;
}

fn disagreement(place: Place, what: &str) -> Diagnostic {
    let message =
        format!("YAML readers disagree on {what}: put quotes around the text, and a space behind `:`, `-` and `?`");
    Diagnostic::new(Code::Ambiguous, place, message)
}

#[cfg(test)]
mod tests;
