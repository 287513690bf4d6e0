//! What the schema says of single values: types, choices, bounds and formats.

use std::ptr;

use serde_json::Value as Json;

use super::super::diagnostic::{Code, suggest};
use super::super::files::parse_mode;
use super::super::quantity::{parse_duration, parse_percent, parse_size};
use super::super::schedule::parse_time_of_day;
use super::super::typed::plain;
use super::super::yaml::{Node, Value};
use super::SchemaChecker;

/// JSON's type of a YAML value, as serde_yaml reads it too (YAML 1.2 core schema).
pub(super) fn json_type(node: &Node) -> &'static str {
    match &node.value {
        Value::Broken => "broken",
        Value::List(_) => "array",
        Value::Map(_) => "object",
        Value::Scalar { plain: false, .. } => "string",
        Value::Scalar { text, .. } => match plain(text) {
            serde_yaml::Value::Null => "null",
            serde_yaml::Value::Bool(_) => "boolean",
            serde_yaml::Value::Number(n) if n.is_f64() => "number",
            serde_yaml::Value::Number(_) => "integer",
            _ => "string",
        },
    }
}

/// Why `text`, a scalar without quotes, is no number that fits into 64 bits; `None` if it is none at all, or fits.
pub(super) fn too_large(text: &str) -> Option<String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let fits = matches!(plain(text), serde_yaml::Value::Number(number) if !number.is_f64());
    (is_whole && !fits).then(|| format!("{text} does not fit into 64 bits"))
}

/// A type in words.
pub(super) fn name_of(json_type: &str) -> &str {
    match json_type {
        "array" => "a list",
        "object" => "a mapping",
        "string" => "text",
        "null" => "null",
        "boolean" => "true or false",
        "integer" => "a whole number",
        other => other,
    }
}

impl SchemaChecker<'_> {
    /// Whether the value has a type that the schema takes; if not, that has been told.
    pub(super) fn check_type(&mut self, node: &Node, schema: &Json, what: &str) -> bool {
        let allowed: Vec<&str> = match schema.get("type") {
            Some(Json::String(one)) => vec![one.as_str()],
            Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
            _ => return true,
        };
        let plain_text = match &node.value {
            Value::Scalar { text, plain: true } => text.as_str(),
            _ => "",
        };
        let digits = plain_text.strip_prefix(['-', '+']).unwrap_or(plain_text);
        let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // One of more than 64 bits is text for the loader, and a number for other readers
        let actual = if is_whole { "integer" } else { json_type(node) };
        let fits = !is_whole || json_type(node) == "integer";
        if fits && (allowed.contains(&actual) || (actual == "integer" && allowed.contains(&"number"))) {
            return true;
        }
        if let (Some(format), Value::Scalar { text, .. }) = (schema.get("format").and_then(Json::as_str), &node.value)
            && let Err((code, message)) = check_format(format, text)
        {
            self.say(code, node, format!("{what}: {message}"));
            return false;
        }
        // Then that has been told, and is the reason
        if let Value::List(items) = &node.value
            && items.iter().any(|item| matches!(item.value, Value::Broken))
        {
            self.invalid.insert(ptr::from_ref(node));
            return false;
        }
        if let Some(only) = schema.get("const").filter(|_| actual == "number") {
            self.say(Code::WrongType, node, format!("{what} must be {only}, not {plain_text}"));
            return false;
        }
        if is_whole && allowed.contains(&"integer") {
            self.say(Code::OutOfRange, node, format!("{what}: {plain_text} does not fit into 64 bits"));
            return false;
        }
        let expected = allowed.iter().filter(|t| **t != "null").map(|t| name_of(t)).collect::<Vec<_>>().join(" or ");
        let quotes = match &node.value {
            Value::Scalar { text, plain: true } if allowed.contains(&"string") && actual != "null" => {
                format!(": put quotes around it: \"{text}\"")
            }
            Value::Scalar { text, plain: false } if allowed.contains(&"integer") && text.parse::<i64>().is_ok() => {
                ": remove the quotes".into()
            }
            _ => String::new(),
        };
        self.say(Code::WrongType, node, format!("{what} must be {expected}, not {}{quotes}", name_of(actual)));
        false
    }

    pub(super) fn check_scalar(&mut self, node: &Node, text: &str, schema: &Json, what: &str) {
        if let Some(allowed) = schema.get("enum").and_then(Json::as_array) {
            let allowed: Vec<&str> = allowed.iter().filter_map(Json::as_str).collect();
            if !allowed.contains(&text) {
                self.say(
                    Code::NotPossible,
                    node,
                    format!("`{text}` is not a value of {what}{}", suggest(text, allowed)),
                );
            }
        }
        if let Some(only) = schema.get("const") {
            let only = only.as_str().map_or_else(|| only.to_string(), str::to_owned);
            if text != only {
                self.say(Code::NotPossible, node, format!("{what} must be {only}, not {text}"));
            }
        }
        let format = schema.get("format").and_then(Json::as_str);
        if let Some(Err((code, message))) = format.map(|format| check_format(format, text)) {
            self.say(code, node, format!("{what}: {message}"));
        }
        let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
        let (min, max) = (bound("minimum"), bound("maximum"));
        // As the loader reads it: hexadecimal is a number too
        let number = (min.is_some() || max.is_some()).then(|| plain(text)).and_then(|value| match value {
            serde_yaml::Value::Number(number) => number.as_f64(),
            _ => text.parse().ok(),
        });
        if let Some(number) = number {
            let range = match (min, max) {
                (Some(min), _) if number < min => Some(format!("at least {min}")),
                (_, Some(max)) if number > max => Some(format!("at most {max}")),
                _ => None,
            };
            if let Some(range) = range {
                self.say(Code::OutOfRange, node, format!("{what} must be {range}, not {text}"));
            }
        }
    }
}

fn check_format(format: &str, text: &str) -> Result<(), (Code, String)> {
    let quantity = |message| (Code::Quantity, message);
    match format {
        "time-span" => parse_duration(text).map(drop).map_err(quantity),
        "size" => parse_size(text).map(drop).map_err(quantity),
        "percent" => parse_percent(text).map(drop).map_err(quantity),
        "mode" => parse_mode(text).map(drop).map_err(|message| (Code::Mode, message)),
        "time-of-day" => parse_time_of_day(text).map(drop).map_err(quantity),
        _ => Ok(()), // number formats such as uint32: the bounds say it
    }
}
