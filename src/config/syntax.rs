//! Text that is no YAML: where, and what to do about it.

use super::diagnostic::{Code, Diagnostic, Place};
use super::yaml::MAX_DEPTH;

/// Behind the last character. The parser sees a line's end there, whether there is one or not.
pub(super) fn end(text: &str) -> Place {
    let last = text.rsplit('\n').next().unwrap_or_default();
    Place::new(text.matches('\n').count() + 1, last.chars().count() + 1, 1)
}

/// What the loader's own parser finds wrong with a text that passed here.
pub(super) fn refused_by_loader(text: &str) -> Option<Diagnostic> {
    let error = serde_yaml::from_str::<serde_yaml::Value>(text).err()?;
    let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
    let words = error.to_string();
    if let Some((number, _)) = words.split_once("integer `").and_then(|(_, rest)| rest.split_once('`')) {
        let message = format!("{number} is larger than any number here can be");
        return Some(Diagnostic::new(Code::OutOfRange, Place::new(line, column, number.chars().count()), message));
    }
    Some(not_yaml(text, line, column, words.split(" at line ").next().unwrap_or_default()))
}

/// What a parser says of a place, and what is probably meant.
pub(super) fn not_yaml(text: &str, line: usize, column: usize, info: &str) -> Diagnostic {
    let found = |number: usize| {
        let place = text.lines().nth(number.wrapping_sub(1)).and_then(unquoted);
        place.map(|(column, width)| Place::new(number, column, width))
    };
    // The parser may go on to the next line before it sees that something is wrong
    if let Some(place) = found(line).or_else(|| found(line.wrapping_sub(1))) {
        return Diagnostic::new(Code::Unquoted, place, QUOTE);
    }
    let mut place = Place::new(line.max(1), column, 1);
    let lines: Vec<&str> = text.split('\n').collect();
    if place.line > lines.len() {
        place = end(text); // what is missing at the end is missing behind the last line
    }
    let length = lines[place.line - 1].chars().count();
    place.column = place.column.clamp(1, length + 1);
    if info.contains("recursion limit") {
        return Diagnostic::new(Code::TooDeep, place, format!("more than {MAX_DEPTH} levels deep: no config is"));
    }
    let blanks = |line: &str| line.find(|c| c != ' ').filter(|at| line[*at..].starts_with('\t'));
    let mut hint = "";
    if let Some(tab) = blanks(lines[place.line - 1]) {
        (place.column, hint) = (tab + 1, ": indent with blanks, not with tabs");
    }
    if lines[place.line - 1].contains("${") {
        hint = ": inside of `{…}` and `[…]`, `${NAME}` needs quotes around it";
    }
    Diagnostic::new(Code::NotYaml, place, format!("this is not YAML: {info}{hint}"))
}

/// What to do about a template without quotes.
pub(super) const QUOTE: &str = "a value that begins with `{{` needs quotes around it: \"{{ … }}\"";

/// Column and width of a `{{` that begins a value.
pub(super) fn unquoted(line: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = line[from..].find("{{").map(|at| at + from) {
        let before = line[..at].trim_end();
        let begins = before.ends_with('[') || before.len() < at && before.ends_with([':', '-', ',']);
        if begins && !before.contains(" #") {
            let end = line.rfind("}}").map_or(at + 2, |end| end + 2).max(at + 2);
            return Some((line[..at].chars().count() + 1, line[at..end].chars().count()));
        }
        from = at + 2;
    }
    None
}
