//! One problem of a config: what, where, and what to write instead.

use std::fmt::Write as _;

/// A place in a config file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters to underline, at least 1; what goes past the line's end is cut.
    pub width: usize,
}

/// A problem with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// All problems of one file as a person reads them: `file:line:column`, the line, a caret under the culprit.
pub fn render(path: &str, text: &str, diagnostics: &[Diagnostic]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|d| d.place);
    let mut out = String::new();
    for (i, Diagnostic { place, message }) in sorted.into_iter().enumerate() {
        let Place { line, column, width } = *place;
        if i > 0 {
            out.push('\n');
        }
        write!(out, "{path}:{line}:{column}: {message}").expect("a String takes all");
        let Some(source) = lines.get(line.wrapping_sub(1)) else { continue };
        let room = source.chars().count().saturating_sub(column - 1).max(1);
        let carets = "^".repeat(width.clamp(1, room));
        // Tabs stay tabs, so that the caret stands where the eye looks
        let indent: String = source.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(out, "\n  {line:>4} | {source}\n       | {indent}{carets}").expect("a String takes all");
    }
    out
}

/// `, did you mean `x`?` and the list of what there is, for a name that is not among `known`.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let best = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), *candidate))
        .min();
    let guess = match best {
        Some((distance, candidate)) if distance <= 1 + name.chars().count() / 4 => {
            format!(", did you mean `{candidate}`?")
        }
        _ => String::new(),
    };
    if known.is_empty() { guess } else { format!("{guess} (known: {})", known.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_culprit() {
        let place = Place { line: 2, column: 3, width: 5 };
        let shown = render("x.yaml", "a: 1\n  buffr: 2\n", &[Diagnostic { place, message: "unknown key".into() }]);
        assert_eq!(shown, "x.yaml:2:3: unknown key\n     2 |   buffr: 2\n       |   ^^^^^");
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        assert_eq!(suggest("buffr", ["buffer", "maps"]), ", did you mean `buffer`? (known: buffer, maps)");
        assert_eq!(suggest("Comm", ["comm"]), ", did you mean `comm`? (known: comm)");
        assert_eq!(suggest("xyz", ["buffer"]), " (known: buffer)");
        assert_eq!(suggest("pdi", ["pid"]), ", did you mean `pid`? (known: pid)", "swapped letters");
    }
}
