//! Characters that a config's text must not hold, because a reviewer or another YAML reader sees something else than the
//! runner does: controls, line ends of YAML 1.1 and of Unicode, invisible and direction-changing characters, and spaces
//! that YAML does not take for spaces.
//!
//! The rule is the same in keys, values, quotes and comments, so that no reader has to know where quotes end; only spaces,
//! which are seen as what they are, may be in quotes and in comments. Any character can still be written as an escape in double
//! quotes. Emoji keep their joiners and variation selectors: between pictographs these change only how the pictograph is drawn.

use super::diagnostic::{Code, Diagnostic, Place};
use crate::event::text::is_deceptive;

/// Lines with such a character that are reported; a binary file has one in most lines.
pub(super) const MAX_LINES: usize = 20;

/// The first such character of each line, but for spaces, which quotes may have: see [`spaces`].
pub(super) fn check(text: &str) -> Vec<Diagnostic> {
    let first = |(line, content)| {
        let (column, c) = first_of(content, |c| c == '\t' || is_odd_space(c))?;
        Some(problem(line, column, c))
    };
    lines(text).filter_map(first).take(MAX_LINES).collect()
}

/// The lines of `text` with their numbers, as YAML 1.2 has them; none of a text that is plain ASCII.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let plain = |byte: u8| matches!(byte, b'\t' | b'\n' | 0x20..=0x7e);
    let text = Some(text).filter(|text| !text.bytes().all(plain));
    text.into_iter().flat_map(|text| text.split_inclusive('\n')).enumerate().map(|(index, line)| {
        let content = line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\n')).unwrap_or(line);
        (index + 1, content)
    })
}

fn problem(line: usize, column: usize, c: char) -> Diagnostic {
    let (code, message) = describe(c);
    Diagnostic::new(code, Place::new(line, column, 1), message)
}

/// The first space of each line that YAML does not take for one, and that seems to end a word. In quotes and blocks (`|`), which are
/// at `quoted` (from line and column to line and column, in order), and in comments they are text. If the text could be read up
/// to `last` only, it is the space that is just there, or those up to that line.
pub(super) fn spaces(text: &str, quoted: &[[(usize, usize); 2]], last: Option<(usize, usize)>) -> Vec<Diagnostic> {
    let is_quoted = |at| is_within(quoted, at);
    let mut problems = Vec::new();
    for (line, content) in lines(text) {
        let (mut comment, mut before, mut found) = (false, ' ', None);
        for (column, c) in (1..).zip(content.chars()) {
            comment |= c == '#' && matches!(before, ' ' | '\t') && !is_quoted((line, column));
            before = c;
            if !is_odd_space(c) || comment || is_quoted((line, column)) {
                continue;
            }
            if last == Some((line, column)) {
                return vec![problem(line, column, c)];
            }
            found = found.or(Some(problem(line, column, c)));
        }
        if last.is_none_or(|(last, _)| line <= last) && problems.len() < MAX_LINES {
            problems.extend(found);
        }
    }
    problems
}

/// The first character of `text` that is neither `allowed` nor unremarkable, and its column from 1.
fn first_of(text: &str, allowed: impl Fn(char) -> bool) -> Option<(usize, char)> {
    all_of(text, allowed).next()
}

/// All of them.
fn all_of<'t>(text: &'t str, allowed: impl Fn(char) -> bool + 't) -> impl Iterator<Item = (usize, char)> + 't {
    let mut before = [None; 2];
    let mut chars = text.chars().peekable();
    let mut column = 0;
    std::iter::from_fn(move || {
        while let Some(c) = chars.next() {
            column += 1;
            let good = allowed(c)
                || match c {
                    '\u{fe0e}' | '\u{fe0f}' => {
                        before[1].is_some_and(is_pictograph)
                            || before[1].is_some_and(is_keycap) && chars.peek() == Some(&'\u{20e3}')
                    }
                    '\u{200d}' => {
                        let of = if before[1] == Some('\u{fe0f}') { before[0] } else { before[1] };
                        of.is_some_and(is_pictograph) && chars.peek().copied().is_some_and(is_pictograph)
                    }
                    c => !is_misleading(c) && !is_odd_space(c),
                };
            before = [before[1], Some(c)];
            if !good {
                return Some((column, c));
            }
        }
        None
    })
}

/// Stands for a character that can't be there. It is refused itself, so that no text of a config has it.
pub(super) const MASK: char = '\u{fdd0}';

/// `text` with a mask for each such character, but for spaces, so that the rest of the text can be read. With a `blank` instead of a
/// mask, the rest of the line is blank too where a reader may end the line: which text it belongs to is not known.
pub(super) fn masked(text: &str, blank: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for whole in text.split_inclusive('\n') {
        let content = whole.strip_suffix("\r\n").or_else(|| whole.strip_suffix('\n')).unwrap_or(whole);
        let mut bad = all_of(content, |c| c == '\t' || is_odd_space(c)).peekable();
        let mut rest = false;
        for (column, c) in (1..).zip(content.chars()) {
            let is_bad = bad.next_if(|(at, _)| *at == column).is_some();
            rest |= is_bad && blank && ends_lines(c);
            out.push(if rest || is_bad && blank {
                ' '
            } else if is_bad {
                MASK
            } else {
                c
            });
        }
        out.push_str(&whole[content.len()..]);
    }
    out
}

/// `text` with a plain space for each that is none, on these `lines` and outside of what is `quoted`.
pub(super) fn with_plain_spaces(text: &str, quoted: &[[(usize, usize); 2]], lines: &[usize]) -> String {
    let mut out = String::with_capacity(text.len());
    for (line, content) in (1..).zip(text.split_inclusive('\n')) {
        out.extend((1..).zip(content.chars()).map(|(column, c)| {
            let is_odd = is_odd_space(c) && lines.contains(&line) && !is_within(quoted, (line, column));
            if is_odd { ' ' } else { c }
        }));
    }
    out
}

/// Whether line and column are in one of the parts of a text, which are in order.
fn is_within(parts: &[[(usize, usize); 2]], at: (usize, usize)) -> bool {
    let index = parts.partition_point(|[start, _]| *start <= at);
    index > 0 && at < parts[index - 1][1]
}

/// Whether some readers end the line at `c`.
fn ends_lines(c: char) -> bool {
    matches!(c, '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The first character of `value`, a value from outside of the config's text, that must not be there. Spaces are what they
/// are there, as in quotes.
pub(super) fn of_value(value: &str) -> Option<String> {
    first_of(value, is_odd_space).map(|(_, c)| label(c))
}

/// The number of `c`, and its name if that is known: `U+2028 LINE SEPARATOR`.
pub(crate) fn label(c: char) -> String {
    let name = name(c).map_or_else(String::new, |name| format!(" {name}"));
    format!("U+{:04X}{name}", u32::from(c))
}

/// Controls, what is invisible, what only formats (general category Cf), and code points that are no characters.
fn is_misleading(c: char) -> bool {
    let number = u32::from(c);
    c.is_control()
        || is_deceptive(c)
        || matches!(number, 0x600..=0x605 | 0x6dd | 0x70f | 0x890 | 0x891 | 0x8e2 | 0x110bd | 0x110cd)
        || matches!(number, 0xfe0e | 0xfe0f)
        || is_no_character(c)
}

fn is_no_character(c: char) -> bool {
    let number = u32::from(c);
    number & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&number)
}

/// A space that is none for YAML: general category Zs without U+0020, and the blank pattern of Braille.
fn is_odd_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{2800}' | '\u{3000}')
}

/// Characters that emoji sequences consist of: symbols, pictographs, skin tones. No letters, digits or punctuation.
fn is_pictograph(c: char) -> bool {
    matches!(u32::from(c), 0xa9 | 0xae | 0x203c | 0x2049 | 0x2100..=0x27ff | 0x2900..=0x2bff | 0x3030 | 0x303d
        | 0x3297 | 0x3299 | 0x1f000..=0x1faff)
}

fn is_keycap(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '#' | '*')
}

/// What is wrong with `c`, and what to write instead.
fn describe(c: char) -> (Code, String) {
    let number = u32::from(c);
    let label = label(c);
    let escape = match number {
        0..=0xffff => format!("\\u{number:04x}"),
        _ => format!("\\U{number:08x}"),
    };
    let instead = format!("write `{escape}` in double quotes");
    let message = match c {
        '\r' => {
            let what =
                "a carriage return without a line feed: only some YAML readers end the line here; use line feeds";
            return (Code::NotYaml, what.into());
        }
        '\0' => format!("{label} is not text: save the file as UTF-8 (UTF-16 has such bytes)"),
        '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
            format!("{label}: only some YAML readers end the line here; remove it or {instead}")
        }
        '\u{feff}' => {
            format!("{label} is allowed only as the first character of a file; remove it or {instead}")
        }
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            format!("{label} changes the order in which text is displayed; remove it or {instead}")
        }
        c if is_odd_space(c) => {
            format!("{label} is not a space in YAML; type a space, or put quotes around the text")
        }
        c if c.is_control() => format!("{label} is a control character; remove it or {instead}"),
        c if is_no_character(c) => format!("{label} is not a character; remove it"),
        _ => format!("{label} is invisible; remove it or {instead}"),
    };
    (Code::Character, message)
}

/// The Unicode name of those that are met in practice.
fn name(c: char) -> Option<&'static str> {
    Some(match c {
        '\0' => "NUL",
        '\u{8}' => "BACKSPACE",
        '\u{b}' => "LINE TABULATION",
        '\u{c}' => "FORM FEED",
        '\u{1b}' => "ESCAPE",
        '\u{7f}' => "DELETE",
        '\u{85}' => "NEXT LINE",
        '\u{a0}' => "NO-BREAK SPACE",
        '\u{ad}' => "SOFT HYPHEN",
        '\u{34f}' => "COMBINING GRAPHEME JOINER",
        '\u{61c}' => "ARABIC LETTER MARK",
        '\u{115f}' => "HANGUL CHOSEONG FILLER",
        '\u{1160}' => "HANGUL JUNGSEONG FILLER",
        '\u{1680}' => "OGHAM SPACE MARK",
        '\u{180e}' => "MONGOLIAN VOWEL SEPARATOR",
        '\u{2002}' => "EN SPACE",
        '\u{2003}' => "EM SPACE",
        '\u{2007}' => "FIGURE SPACE",
        '\u{2009}' => "THIN SPACE",
        '\u{200a}' => "HAIR SPACE",
        '\u{200b}' => "ZERO WIDTH SPACE",
        '\u{200c}' => "ZERO WIDTH NON-JOINER",
        '\u{200d}' => "ZERO WIDTH JOINER",
        '\u{200e}' => "LEFT-TO-RIGHT MARK",
        '\u{200f}' => "RIGHT-TO-LEFT MARK",
        '\u{2028}' => "LINE SEPARATOR",
        '\u{2029}' => "PARAGRAPH SEPARATOR",
        '\u{202a}' => "LEFT-TO-RIGHT EMBEDDING",
        '\u{202b}' => "RIGHT-TO-LEFT EMBEDDING",
        '\u{202c}' => "POP DIRECTIONAL FORMATTING",
        '\u{202d}' => "LEFT-TO-RIGHT OVERRIDE",
        '\u{202e}' => "RIGHT-TO-LEFT OVERRIDE",
        '\u{202f}' => "NARROW NO-BREAK SPACE",
        '\u{205f}' => "MEDIUM MATHEMATICAL SPACE",
        '\u{2060}' => "WORD JOINER",
        '\u{2066}' => "LEFT-TO-RIGHT ISOLATE",
        '\u{2067}' => "RIGHT-TO-LEFT ISOLATE",
        '\u{2068}' => "FIRST STRONG ISOLATE",
        '\u{2069}' => "POP DIRECTIONAL ISOLATE",
        '\u{2800}' => "BRAILLE PATTERN BLANK",
        '\u{3000}' => "IDEOGRAPHIC SPACE",
        '\u{3164}' => "HANGUL FILLER",
        '\u{fe00}'..='\u{fe0f}' => "VARIATION SELECTOR",
        '\u{feff}' => "ZERO WIDTH NO-BREAK SPACE (byte order mark)",
        '\u{ffa0}' => "HALFWIDTH HANGUL FILLER",
        '\u{e0000}'..='\u{e007f}' => "TAG CHARACTER",
        '\u{e0100}'..='\u{e01ef}' => "VARIATION SELECTOR",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
