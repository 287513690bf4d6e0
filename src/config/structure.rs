//! Checks a config's structure against the published JSON Schema, `schemas/ebpf-run.schema.json`: the schema decides.
//!
//! A small walker rather than a validator from elsewhere, because it works on the tree that knows its places, tells
//! what to write instead, and needs just the keywords that our schema uses. A keyword that it does not know is an error
//! in a test, not a rule that is silently left out.

use serde_json::Value as Json;

use super::diagnostic::{Diagnostic, Place, suggest};
use super::files::parse_mode;
use super::quantity::{parse_duration, parse_percent, parse_size};
use super::yaml::{Node, Value};

static SCHEMA: &str = include_str!("../../schemas/ebpf-run.schema.json");

/// All problems of `root`'s structure.
pub fn check(root: &Node) -> Vec<Diagnostic> {
    let schema: Json = serde_json::from_str(SCHEMA).expect("the committed schema is JSON; a test sees to it");
    check_against(&schema, root)
}

fn check_against(schema: &Json, root: &Node) -> Vec<Diagnostic> {
    let mut walker = Walker { schema, problems: Vec::new() };
    walker.check(root, schema, "the config");
    walker.problems
}

struct Walker<'a> {
    schema: &'a Json,
    problems: Vec<Diagnostic>,
}

/// JSON's type of a YAML value, as serde_yaml reads it too (YAML 1.2 core schema).
fn json_type(node: &Node) -> &'static str {
    match &node.value {
        Value::List(_) => "array",
        Value::Map(_) => "object",
        Value::Scalar { plain: false, .. } => "string",
        Value::Scalar { text, .. } => match serde_yaml::from_str(text) {
            Ok(serde_yaml::Value::Null) => "null",
            Ok(serde_yaml::Value::Bool(_)) => "boolean",
            Ok(serde_yaml::Value::Number(n)) if n.is_f64() => "number",
            Ok(serde_yaml::Value::Number(_)) => "integer",
            _ => "string",
        },
    }
}

fn name_of(json_type: &str) -> &str {
    match json_type {
        "array" => "a list",
        "object" => "a mapping",
        "string" => "text",
        "null" => "nothing",
        "boolean" => "true or false",
        "integer" => "a whole number",
        other => other,
    }
}

impl<'a> Walker<'a> {
    fn say(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Diagnostic { place, message: message.into() });
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        match schema.get("$ref").and_then(Json::as_str) {
            Some(path) => self.schema.pointer(path.trim_start_matches('#')).expect("references of the schema hold"),
            None => schema,
        }
    }

    /// `what` names the value in messages: `probes`, `a probe`.
    fn check(&mut self, node: &Node, schema: &'a Json, what: &str) {
        let schema = self.resolve(schema);
        if let Some(variants) = schema.get("oneOf").and_then(Json::as_array) {
            return self.check_variants(node, variants, what);
        }
        if let Some(choices) = schema.get("anyOf").and_then(Json::as_array) {
            return self.check_choices(node, choices, what);
        }
        if !self.check_type(node, schema, what) {
            return;
        }
        match &node.value {
            Value::Map(entries) => {
                self.check_keys(node, entries, schema, what);
            }
            Value::List(items) => {
                let min = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
                if (items.len() as u64) < min {
                    self.say(node.place, format!("{what} is empty"));
                }
                if let Some(item) = schema.get("items") {
                    let what = format!("an entry of {what}");
                    items.iter().for_each(|node| self.check(node, item, &what));
                }
            }
            Value::Scalar { text, .. } => self.check_scalar(node.place, text, schema, what),
        }
    }

    fn check_type(&mut self, node: &Node, schema: &Json, what: &str) -> bool {
        let allowed: Vec<&str> = match schema.get("type") {
            Some(Json::String(one)) => vec![one.as_str()],
            Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
            _ => return true,
        };
        let actual = json_type(node);
        if allowed.contains(&actual) || (actual == "integer" && allowed.contains(&"number")) {
            return true;
        }
        if let (Some(format), Value::Scalar { text, .. }) = (schema.get("format").and_then(Json::as_str), &node.value)
            && let Err(message) = check_format(format, text)
        {
            self.say(node.place, format!("{what}: {message}"));
            return false;
        }
        let expected = allowed.iter().filter(|t| **t != "null").map(|t| name_of(t)).collect::<Vec<_>>().join(" or ");
        let quotes = match &node.value {
            Value::Scalar { text, plain: true } if allowed.contains(&"string") && actual != "null" => {
                format!(": put quotes around it, \"{text}\"")
            }
            Value::Scalar { text, plain: false } if allowed.contains(&"integer") && text.parse::<i64>().is_ok() => {
                ": take the quotes away".into()
            }
            _ => String::new(),
        };
        self.say(node.place, format!("{what} must be {expected}, not {}{quotes}", name_of(actual)));
        false
    }

    fn check_scalar(&mut self, place: Place, text: &str, schema: &Json, what: &str) {
        if let Some(allowed) = schema.get("enum").and_then(Json::as_array) {
            let allowed: Vec<&str> = allowed.iter().filter_map(Json::as_str).collect();
            if !allowed.contains(&text) {
                self.say(place, format!("`{text}` is no {what}{}", suggest(text, allowed)));
            }
        }
        if let Some(only) = schema.get("const") {
            let only = only.as_str().map_or_else(|| only.to_string(), str::to_owned);
            if text != only {
                self.say(place, format!("{what} must be {only}, not {text}"));
            }
        }
        if let Some(Err(message)) = schema.get("format").and_then(Json::as_str).map(|format| check_format(format, text))
        {
            self.say(place, format!("{what}: {message}"));
        }
        if let Ok(number) = text.parse::<f64>() {
            let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
            if bound("minimum").is_some_and(|min| number < min) || bound("maximum").is_some_and(|max| number > max) {
                let (min, max) = (bound("minimum"), bound("maximum"));
                let range = match (min, max) {
                    (Some(min), Some(max)) => format!("between {min} and {max}"),
                    (Some(min), None) => format!("at least {min}"),
                    (_, max) => format!("at most {}", max.unwrap_or(f64::MAX)),
                };
                self.say(place, format!("{what} must be {range}, not {text}"));
            }
        }
    }

    fn check_keys(&mut self, node: &Node, entries: &[(super::yaml::Key, Node)], schema: &'a Json, what: &str) {
        let known = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties");
        for (key, value) in entries {
            match (known.and_then(|known| known.get(&key.name)), others) {
                (Some(property), _) => self.check(value, property, &format!("`{}`", key.name)),
                (None, Some(Json::Bool(false))) => {
                    let names = known.into_iter().flatten().map(|(name, _)| name.as_str());
                    self.say(key.place, format!("unknown key `{}` in {what}{}", key.name, suggest(&key.name, names)));
                }
                (None, Some(property)) => self.check(value, property, &format!("`{}`", key.name)),
                (None, None) => {}
            }
        }
        for name in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            if !entries.iter().any(|(key, _)| key.name == name) {
                self.say(node.place, format!("{what} needs `{name}`"));
            }
        }
        let count = entries.len() as u64;
        if schema.get("minProperties").and_then(Json::as_u64).is_some_and(|min| count < min) {
            self.say(node.place, format!("{what} is empty"));
        }
        if schema.get("maxProperties").and_then(Json::as_u64).is_some_and(|max| count > max) {
            self.say(node.place, format!("{what} has more than one key: begin a new `-` for each"));
        }
    }

    /// Mappings told apart by the one value that their `type` may have; or plain constants with a doc each.
    fn check_variants(&mut self, node: &Node, variants: &'a [Json], what: &str) {
        let tag = |variant: &'a Json| variant.pointer("/properties/type/const").and_then(Json::as_str);
        if variants.iter().all(|variant| tag(variant).is_none()) {
            let known: Vec<&str> =
                variants.iter().filter_map(|variant| variant.get("const").and_then(Json::as_str)).collect();
            match &node.value {
                Value::Scalar { text, .. } if known.contains(&text.as_str()) => {}
                Value::Scalar { text, .. } => {
                    self.say(node.place, format!("`{text}` is not possible for {what}{}", suggest(text, known)));
                }
                _ => self.say(node.place, format!("{what} must be one of {}", known.join(", "))),
            }
            return;
        }
        let Value::Map(_) = node.value else {
            return self.say(node.place, format!("{what} must be a mapping, not {}", name_of(json_type(node))));
        };
        let Some(kind) = node.get("type") else {
            let known = variants.iter().filter_map(tag).collect::<Vec<_>>().join(", ");
            return self.say(node.place, format!("{what} needs `type` ({known})"));
        };
        let text = if let Value::Scalar { text, .. } = &kind.value { text.as_str() } else { "" };
        match variants.iter().find(|variant| tag(variant) == Some(text)) {
            Some(variant) => self.check(node, variant, what),
            None => self.say(
                kind.place,
                format!("`{text}` is no type of sink{}", suggest(text, variants.iter().filter_map(tag))),
            ),
        }
    }

    /// The choice whose type is the value's.
    fn check_choices(&mut self, node: &Node, choices: &'a [Json], what: &str) {
        let actual = json_type(node);
        let fits = choices.iter().find(|choice| {
            let choice = self.resolve(choice);
            let variants = choice.get("oneOf").and_then(Json::as_array);
            // Variants are mappings with a `type`, or names
            let named = variants.is_some_and(|list| list.iter().all(|variant| variant.get("const").is_some()));
            choice.get("type").and_then(Json::as_str) == Some(actual)
                || variants.is_some() && named == (actual == "string")
        });
        match fits {
            Some(choice) => self.check(node, choice, what),
            // The first one is the usual one, the last may be "null" for a key that can be left out
            None => self.check(node, &choices[0], what),
        }
    }
}

fn check_format(format: &str, text: &str) -> Result<(), String> {
    match format {
        "duration" => parse_duration(text).map(drop),
        "size" => parse_size(text).map(drop),
        "percent" => parse_percent(text).map(drop),
        "mode" => parse_mode(text).map(drop),
        _ => Ok(()), // number formats such as uint32: the bounds say it
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Config;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/ebpf-run.schema.json");

    /// `EBPF_RUN_BLESS=1 cargo test schema` writes the file anew.
    #[test]
    fn the_committed_schema_is_what_the_types_say() {
        let mut schema = schemars::schema_for!(Config);
        schema.insert("title".into(), "ebpf-run config".into());
        let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
        if std::env::var_os("EBPF_RUN_BLESS").is_some() {
            std::fs::write(PATH, &text).expect("the schema can be written");
        }
        let committed = std::fs::read_to_string(PATH).expect("the schema is there");
        assert!(committed == text, "schemas/ is out of date: EBPF_RUN_BLESS=1 cargo test --lib schema");
    }

    #[test]
    fn the_walker_knows_every_keyword_that_the_schema_uses() {
        const KNOWN: &[&str] = &[
            "$schema",
            "$defs",
            "$ref",
            "title",
            "description",
            "default",
            "examples",
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "minItems",
            "minProperties",
            "maxProperties",
            "enum",
            "const",
            "oneOf",
            "anyOf",
            "format",
            "minimum",
            "maximum",
        ];
        fn walk(schema: &Json, names: bool) {
            match schema {
                Json::Object(map) => {
                    for (key, value) in map {
                        assert!(names || KNOWN.contains(&key.as_str()), "the walker ignores `{key}`");
                        if !["default", "examples", "enum", "const"].contains(&key.as_str()) {
                            walk(value, !names && ["properties", "$defs"].contains(&key.as_str()));
                        }
                    }
                }
                Json::Array(items) => items.iter().for_each(|item| walk(item, false)),
                _ => {}
            }
        }
        walk(&serde_json::from_str(SCHEMA).expect("JSON"), false);
    }

    #[test]
    fn a_property_taken_out_of_the_schema_is_refused() {
        let mut schema: Json = serde_json::from_str(SCHEMA).expect("JSON");
        let root = super::super::yaml::parse(
            "version: 1\nlabels: {a: b}\nprobes: [{program: x}]\nsinks: {s: {type: jsonl}}\n",
        )
        .expect("YAML");
        assert_eq!(check_against(&schema, &root), []);
        schema.pointer_mut("/properties").and_then(Json::as_object_mut).expect("there").remove("labels");
        let problems = check_against(&schema, &root);
        assert!(problems[0].message.contains("unknown key `labels`"), "{problems:?}");
    }
}
