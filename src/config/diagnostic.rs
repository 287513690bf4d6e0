//! One problem of a config: what is wrong, where, and what to write instead.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

pub use super::code::Code;
use crate::event::text::{is_deceptive, one_line};

/// A place in one of the texts that a config consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which text: 0 is the config file itself.
    pub text: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters to underline, at least 1; what goes past the line's end is cut.
    pub width: usize,
}

impl Place {
    /// A place in the config file itself.
    pub fn new(line: usize, column: usize, width: usize) -> Self {
        Place { text: 0, line, column, width }
    }
}

/// A text that a config consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// As messages name it: the file's path, or `--set #1`.
    pub name: String,
    /// The whole text.
    pub content: String,
    /// Where it comes from.
    pub kind: TextKind,
}

/// Where texts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// The config file itself.
    Config,
    /// A file that it includes.
    Included,
    /// An argument of the command line.
    Argument,
}

impl Text {
    /// A text.
    pub fn new(kind: TextKind, name: impl Into<String>, content: impl Into<String>) -> Self {
        Text { name: name.into(), content: content.into(), kind }
    }

    /// A place in it: `io.yaml:7`; an argument is a place by itself.
    pub fn at(&self, place: Place) -> String {
        match self.kind {
            TextKind::Argument => self.name.clone(),
            TextKind::Config | TextKind::Included => format!("{}:{}", self.name, place.line),
        }
    }
}

/// A problem with its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// Which kind of fault.
    pub code: Code,
    /// Where.
    pub place: Place,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Diagnostic {
    /// A problem of kind `code` at `place`.
    pub fn new(code: Code, place: Place, message: impl Into<String>) -> Self {
        Diagnostic { code, place, message: message.into() }
    }
}

/// In the order of the file.
pub fn sorted(diagnostics: &[Diagnostic]) -> Vec<&Diagnostic> {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|d| (d.place, d.code));
    sorted
}

/// All problems of a config as a person reads them: `file:line:column`, the line, a caret under the culprit.
pub fn render(texts: &[Text], diagnostics: &[Diagnostic]) -> String {
    let rendered: Vec<String> = sorted(diagnostics).into_iter().map(|problem| render_one(texts, problem)).collect();
    rendered.join("\n")
}

fn render_one(texts: &[Text], Diagnostic { code, place, message }: &Diagnostic) -> String {
    let Place { text, line, column, width } = *place;
    let Text { name, content, kind } = &texts[text];
    if *code == Code::Unreadable && content.is_empty() {
        return format!("{name}: {code} {message}"); // no line of it is known
    }
    let mut out = match kind {
        TextKind::Argument => format!("{name}: {code} {message}"), // one line, in most cases
        _ => format!("{name}:{line}:{column}: {code} {message}"),
    };
    let Some(source) = content.lines().nth(line.wrapping_sub(1)) else { return out };
    let before = column.saturating_sub(1);
    let marks = |c: char| if c.is_control() || is_deceptive(c) { shown(c).len() } else { 1 };
    let carets: String = "^".repeat(source.chars().skip(before).take(width.max(1)).map(marks).sum::<usize>().max(1));
    // Tabs stay tabs, so that the caret is below the text
    let indent: String = source.chars().take(before).map(indent).collect();
    let source: String = source.chars().map(|c| if c == '\t' { "\t".into() } else { shown(c) }).collect();
    write!(out, "\n  {line:>4} | {source}\n       | {indent}{carets}").expect("a String takes all");
    out
}

/// `c` as a terminal shows it: what changes the text around it is shown as an escape.
fn shown(c: char) -> String {
    one_line(c.encode_utf8(&mut [0; 4]))
}

/// As wide as `c` is on a terminal.
fn indent(c: char) -> String {
    match (c, c.width().unwrap_or(1)) {
        ('\t', _) => "\t".into(),
        (c, _) if c.is_control() || is_deceptive(c) => " ".repeat(shown(c).len()),
        (_, width) => " ".repeat(width),
    }
}

/// The one of `known` that `name` was probably meant to be: spelled nearly so, or the only one that begins with it.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let lower = name.to_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_lowercase());
    let (distance, best) = known.iter().map(|known| (distance(known), *known)).min()?;
    if distance <= 1 + name.chars().count() / 4 {
        return Some(best);
    }
    let mut longer = known.iter().filter(|known| lower.len() >= 3 && known.to_lowercase().starts_with(&lower));
    longer.next().filter(|_| longer.next().is_none()).copied()
}

/// `, did you mean `x`?` and the list of what there is, for a name that is not among `known`.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    suggest_described(name, known.into_iter().map(|known| (known, "")))
}

/// As [`suggest`], of names with descriptions. Where no name is near, the first whose description has the name, or a word that
/// it is short for, is suggested: `usr` is short for the users of `uid`.
pub fn suggest_described<'a>(name: &str, known: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut described: Vec<(&str, &str)> = Vec::new();
    for (known, description) in known {
        if !described.iter().any(|(other, _)| *other == known) {
            described.push((known, description));
        }
    }
    let known: Vec<&str> = described.iter().map(|(known, _)| *known).collect();
    let by_description = || described.iter().find(|(_, text)| mentions(text, name)).map(|(known, _)| *known);
    let guess = nearest(name, known.iter().copied()).or_else(by_description);
    let guess = guess.map(|best| format!(", did you mean `{best}`?")).unwrap_or_default();
    // A line of hundreds of names is not readable
    const MOST: usize = 40;
    match known.len() {
        0 => guess,
        count if count > MOST => {
            format!("{guess} (known: {}, … and {} more)", known[..MOST / 4].join(", "), count - MOST / 4)
        }
        _ => format!("{guess} (known: {})", known.join(", ")),
    }
}

/// Whether a description has a word that `name` is short for: begins like it, and has its letters in their order.
fn mentions(description: &str, name: &str) -> bool {
    let name = name.to_lowercase();
    let short = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next() == name.chars().next();
        first && name.len() <= word.len() && name.chars().skip(1).all(|c| letters.any(|letter| letter == c))
    };
    let words = description.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let is_short = |word: &str| short(word) && word.len() <= name.len() + 3;
    name.len() >= 3 && words.map(str::to_lowercase).any(|word| is_short(&word))
}

#[cfg(test)]
mod tests;
