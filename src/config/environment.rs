//! `${NAME}` in a config: replaced where the schema says `x-environment`, and an error anywhere else.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::deceptive_characters;
use super::diagnostic::{Code, Diagnostic, Place, Text};
use super::structure::schema;
use super::yaml::{Node, Value};

/// Where values came from the environment, and the names of the variables.
pub(super) type EnvRefs = BTreeMap<Place, Vec<String>>;

/// Replaces every `${NAME}` of `root`; `$${` stands for `${`.
pub(super) fn expand(
    root: &mut Node,
    texts: &[Text],
    environment: &dyn Fn(&str) -> Option<String>,
) -> (EnvRefs, Vec<Diagnostic>) {
    if !texts.iter().any(|text| text.content.contains("${")) {
        return (EnvRefs::new(), Vec::new());
    }
    expand_by(schema(), root, texts, environment)
}

fn expand_by(
    schema: &Json,
    root: &mut Node,
    texts: &[Text],
    environment: &dyn Fn(&str) -> Option<String>,
) -> (EnvRefs, Vec<Diagnostic>) {
    let mut expander = Expander { schema, texts, environment, env_refs: EnvRefs::new(), problems: Vec::new() };
    expander.node(root, &[schema], false);
    (expander.env_refs, expander.problems)
}

struct Expander<'a> {
    schema: &'a Json,
    texts: &'a [Text],
    environment: &'a dyn Fn(&str) -> Option<String>,
    env_refs: EnvRefs,
    problems: Vec<Diagnostic>,
}

/// Every schema that a value may be held against: references of `whole` and choices resolved.
pub(super) fn alternatives<'a>(whole: &'a Json, schema: &'a Json, found: &mut Vec<&'a Json>) {
    if let Some(path) = schema.get("$ref").and_then(Json::as_str) {
        return alternatives(whole, whole.pointer(path.trim_start_matches('#')).unwrap_or(&Json::Null), found);
    }
    let choices = ["oneOf", "anyOf"].iter().find_map(|name| schema.get(name)).and_then(Json::as_array);
    match choices {
        Some(choices) => choices.iter().for_each(|choice| alternatives(whole, choice, found)),
        None => found.push(schema),
    }
}

impl<'a> Expander<'a> {
    fn node(&mut self, node: &mut Node, schemas: &[&'a Json], allowed: bool) {
        let allowed = allowed || schemas.iter().any(|schema| schema.get("x-environment") == Some(&Json::Bool(true)));
        let mut all = Vec::new();
        schemas.iter().for_each(|schema| alternatives(self.schema, schema, &mut all));
        let place = node.place;
        match &mut node.value {
            Value::Broken => {}
            Value::Scalar { text, plain } => {
                if text.contains("${") {
                    match self.text(text, place, allowed) {
                        // It is text, whatever it looks like; a filter that wants a number says so
                        Some(expanded) => {
                            *plain = *plain && !self.env_refs.contains_key(&place);
                            *text = expanded;
                        }
                        None => node.value = Value::Broken,
                    }
                }
            }
            Value::List(items) => {
                let below: Vec<&'a Json> = all.iter().filter_map(|schema| schema.get("items")).collect();
                items.iter_mut().for_each(|item| self.node(item, &below, allowed));
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    let below: Vec<&'a Json> = all
                        .iter()
                        .filter_map(|schema| {
                            let named = schema.get("properties").and_then(|properties| properties.get(&key.name));
                            named.or_else(|| schema.get("additionalProperties"))
                        })
                        .collect();
                    if key.name.contains("${")
                        && let Some(name) = self.text(&key.name, key.place, false)
                    {
                        key.name = name;
                    }
                    self.node(value, &below, allowed);
                }
            }
        }
    }

    /// The text with its variables replaced; `None` if that can't be, which is told.
    fn text(&mut self, text: &str, place: Place, allowed: bool) -> Option<String> {
        let (mut out, mut rest, mut sound) = (String::new(), text, true);
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                out.push_str(&rest[..at]); // `$${`
                out.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let from = &rest[at..];
            let before = &text[..text.len() - from.len()];
            match reference(from) {
                Some((name, default, length)) => {
                    let whole = &from[..length];
                    if !allowed {
                        let what = format!(
                            "`{whole}`: variables are replaced only in labels, filters and paths; write `${whole}` for the text itself"
                        );
                        self.say(Code::Environment, place, (before, whole), what);
                        sound = false;
                    } else if let Some(value) = self.value(name, default, place, (before, whole)) {
                        out.push_str(&value);
                        self.env_refs.entry(place).or_default().push(name.to_owned());
                    } else {
                        sound = false;
                    }
                    rest = &from[length..];
                }
                // Of a template: `${{ … }}`; and where it has no meaning, it is text
                None if !allowed || from.starts_with("${{") => {
                    out.push_str("${");
                    rest = &from[2..];
                }
                None => {
                    let what = "`${` begins the name of a variable, as in `${TEAM}`; write `$${` for the text itself";
                    self.say(Code::Environment, place, (before, "${"), what.into());
                    sound = false;
                    rest = &from[2..];
                }
            }
        }
        out.push_str(rest);
        sound.then_some(out)
    }

    fn value(&mut self, name: &str, default: Option<&str>, place: Place, at: (&str, &str)) -> Option<String> {
        let value = (self.environment)(name);
        let value = match (value, default) {
            (Some(value), None) => value,
            (Some(value), Some(_)) if !value.is_empty() => value,
            (_, Some(default)) => default.to_owned(),
            (None, None) => {
                let what =
                    format!("environment variable `{name}` is not set: set it, or write a default, `${{{name}:-…}}`");
                self.say(Code::Unset, place, at, what);
                return None;
            }
        };
        let bad = deceptive_characters::of_value(&value).or_else(|| {
            ["{{", "{%", "{#"]
                .iter()
                .find(|brace| value.contains(**brace))
                .map(|brace| format!("a template (`{brace}`)"))
        });
        if let Some(bad) = bad {
            let what = format!("the value of environment variable `{name}` contains {bad}: set it to plain text");
            self.say(Code::Environment, place, at, what);
            return None;
        }
        Some(value)
    }

    /// At the variable itself, where it can be found from the value's place on: `whole`, and what is before it in the value.
    fn say(&mut self, code: Code, place: Place, (before, whole): (&str, &str), what: String) {
        let content = &self.texts[place.text].content;
        let lines: usize = content.split_inclusive('\n').take(place.line - 1).map(str::len).sum();
        let from = &content[lines..];
        let from = from.char_indices().nth(place.column - 1).map_or("", |(at, _)| &from[at..]);
        let found = from.match_indices(whole).nth(before.matches(whole).count());
        let exact = found.map(|(at, _)| {
            // A value of several lines begins on the first of them
            let (line, column) = match from[..at].rsplit_once('\n') {
                None => (place.line, place.column + from[..at].chars().count()),
                Some((above, line)) => (place.line + above.matches('\n').count() + 1, 1 + line.chars().count()),
            };
            Place { line, column, width: whole.chars().count(), ..place }
        });
        let problem = Diagnostic::new(code, exact.unwrap_or(place), what);
        // An alias has the places of what it stands for
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// `${NAME}` or `${NAME:-default}` at the start of `text`: the name, the default, and the bytes of all of it.
fn reference(text: &str) -> Option<(&str, Option<&str>, usize)> {
    let inner = text.strip_prefix("${")?;
    let end = inner.find('}')?;
    let (name, default) =
        inner[..end].split_once(":-").map_or((&inner[..end], None), |(name, default)| (name, Some(default)));
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(word);
    is_name.then_some((name, default, end + 3))
}

#[cfg(test)]
mod tests;
