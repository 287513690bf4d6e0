//! Text that is not YAML: where, and what to do about it.

use super::diagnostic::{Code, Diagnostic, Place};
use super::yaml::MAX_DEPTH;

/// The place behind the last character. The parser reports a line's end there, with or without a line feed.
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
        let message = format!("{number} does not fit into 64 bits");
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
        return Diagnostic::new(
            Code::TooDeep,
            place,
            format!("more than {MAX_DEPTH} levels of lists and mappings: remove some"),
        );
    }
    let line = lines[place.line - 1];
    let from = |column: usize| line.chars().skip(column - 1);
    if info.contains("unknown anchor") {
        place.width = from(place.column).take_while(|c| !c.is_whitespace() && !",[]{}".contains(*c)).count().max(1);
        let alias: String = from(place.column).take(place.width).collect();
        let what = format!(
            "`{alias}` is an alias, and there is no anchor of that name: put quotes around text that begins with `*`"
        );
        return Diagnostic::new(Code::NotYaml, place, what);
    }
    let blanks = |line: &str| line.find(|c| c != ' ').filter(|at| line[*at..].starts_with('\t'));
    let mut hint = "";
    if let Some(tab) = blanks(line) {
        (place.column, hint) = (tab + 1, ": indent with spaces, not with tabs");
    }
    if info.contains("mapping values are not allowed") {
        hint = ": put quotes around a text with `: ` in it";
    } else if from(place.column).next().is_some_and(|c| c == '"' || c == '\'') {
        hint = ": the quote that begins here has no end on its line, or text behind it";
    }
    if line.contains("${") {
        hint = ": inside of `{…}` and `[…]`, `${NAME}` needs quotes around it";
    }
    Diagnostic::new(Code::NotYaml, place, format!("this is not YAML: {info}{hint}"))
}

/// The value that a parser stops at for `problem`, if it is known where it ends: on its line.
pub(super) fn masking(text: &str, problem: &Diagnostic) -> Option<Place> {
    let place = problem.place;
    if problem.code == Code::Unquoted
        && let Some((column, width)) = text.lines().nth(place.line - 1).and_then(unquoted)
        && column == place.column
    {
        return Some(Place { width, ..place });
    }
    if problem.code == Code::Unquoted || problem.code == Code::NotYaml && place.width > 1 {
        return Some(place);
    }
    let line = text.lines().nth(place.line - 1).filter(|_| problem.code == Code::NotYaml)?;
    let key = line.trim_start().trim_start_matches("- ");
    let (name, value) = key.split_once(": ")?;
    let is_key = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let value = value.trim_start();
    let (width, before) = (value.chars().count(), line.chars().count() - value.chars().count());
    (is_key && before < place.column && width > 0).then_some(Place { column: before + 1, width, ..place })
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
            let close = |from: usize| line[from..].find("}}").map_or(from, |end| from + end + 2);
            let mut end = close(at).max(at + 2);
            while let Some(next) = line[end..].find("{{")
                && !line[end..end + next].contains([',', ']', '}'])
            {
                end = close(end + next).max(end + next + 2);
            }
            return Some((line[..at].chars().count() + 1, line[at..end].chars().count()));
        }
        from = at + 2;
    }
    None
}
