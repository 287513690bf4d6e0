//! `docs/reference/report.md` and `docs/reference/config-keys.md`: a section for each object of a schema.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::{code, compare, table};
use crate::config::model::Config;

/// An object, and its path in the document.
struct SchemaSection<'a> {
    path: String,
    object: &'a Json,
}

struct SchemaPage<'a> {
    schema: &'a Json,
    sections: Vec<SchemaSection<'a>>,
    /// The objects that have a section or will have one, each with its path.
    known: Vec<(&'a Json, String)>,
}

fn description(schema: &Json) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

impl<'a> SchemaPage<'a> {
    fn resolve(&self, of: &'a Json) -> &'a Json {
        of["$ref"].as_str().map_or(of, |path| {
            let target = self.schema.pointer(path.trim_start_matches('#')).expect("it exists");
            self.resolve(target)
        })
    }

    /// The choices of a value, without null.
    fn choices(&self, of: &'a Json) -> Vec<&'a Json> {
        let of = self.resolve(of);
        let choices = of.get("oneOf").or_else(|| of.get("anyOf")).and_then(Json::as_array);
        let Some(choices) = choices else { return vec![of] };
        choices.iter().filter(|choice| choice["type"] != "null").flat_map(|choice| self.choices(choice)).collect()
    }

    /// The type of a value, in the words of a table; an object below `path` gets a section.
    fn kind(&mut self, of: &'a Json, path: &str) -> String {
        let mut kinds: Vec<String> = Vec::new();
        for choice in self.choices(of) {
            let kind = self.kind_of_one(choice, path);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let nullable = self.resolve(of)["type"].as_array().is_some_and(|types| types.contains(&"null".into()))
            || of["anyOf"].as_array().is_some_and(|choices| choices.iter().any(|choice| choice["type"] == "null"));
        let (constants, mut others): (Vec<String>, Vec<String>) =
            kinds.into_iter().partition(|kind| kind.starts_with('`'));
        if !constants.is_empty() {
            others.insert(0, constants.join(" "));
        }
        let kinds = others.join(" or ");
        if nullable && self.schema["title"] == "ebpf-run report" { format!("{kinds} or null") } else { kinds }
    }

    fn kind_of_one(&mut self, one: &'a Json, path: &str) -> String {
        if let Some(constant) = one.get("const") {
            return code(constant.as_str().map_or(constant.to_string(), str::to_owned).as_str());
        }
        if let Some(values) = one["enum"].as_array() {
            return values.iter().filter_map(Json::as_str).map(code).collect::<Vec<_>>().join(" ");
        }
        let types = one["type"].as_array().and_then(|types| types.iter().find(|name| *name != "null"));
        match types.unwrap_or(&one["type"]).as_str() {
            Some("string") => match (one["format"].as_str(), one["examples"][0].as_str()) {
                (Some(format), Some(example)) => format!("{} ({})", format.replace('-', " "), code(example)),
                _ => "text".to_owned(),
            },
            Some("array") => format!("list of {}", self.kind(&one["items"], &format!("{path}[]"))),
            Some("object") if one.get("properties").is_some() => {
                if let Some((_, same)) = self.known.iter().find(|(known, _)| std::ptr::eq(*known, one)) {
                    return if same == path { "object".to_owned() } else { format!("object, as {}", code(same)) };
                }
                self.known.push((one, path.to_owned()));
                self.sections.push(SchemaSection { path: path.to_owned(), object: one });
                "object".to_owned()
            }
            Some("object") if one["additionalProperties"].is_object() => {
                format!("map of {}", self.kind(&one["additionalProperties"], &format!("{path}.NAME")))
            }
            Some("boolean") => "true or false".to_owned(),
            Some(other) => other.to_owned(),
            None => "any".to_owned(),
        }
    }

    fn section(&mut self, SchemaSection { path, object }: SchemaSection<'a>) -> String {
        let mut out = String::new();
        // Of several objects that may be there, each has another constant
        let constant = object["properties"].as_object().into_iter().flatten();
        let constant = constant
            .filter(|_| !path.is_empty())
            .find_map(|(key, property)| property["const"].as_str().map(|value| format!(": `{key}: {value}`")));
        if !path.is_empty() {
            writeln!(out, "## `{path}`{}\n", constant.unwrap_or_default()).expect("a String takes all");
        }
        let required: Vec<&str> =
            object["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let is_report = self.schema["title"] == "ebpf-run report";
        let rows: Vec<[String; 3]> = object["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, property)| {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let mut kind = self.kind(property, &inner);
                if !is_report && required.contains(&key.as_str()) {
                    kind += ", required";
                }
                let doc = description(property);
                let doc = if doc.is_empty() { description(self.resolve(property)) } else { doc };
                [code(key), kind, doc.to_owned() + &self.meanings(property)]
            })
            .collect();
        writeln!(out, "{}\n\n{}", description(object), table(["key", "type", "meaning"], rows)).expect("fits");
        out
    }

    /// What each of several constants means.
    fn meanings(&self, property: &'a Json) -> String {
        let constants = self.choices(property).into_iter().filter(|one| !description(one).is_empty());
        let constants = constants.filter_map(|one| Some((one.get("const")?.as_str()?, description(one))));
        constants.fold(String::new(), |out, (name, doc)| out + &format!(" `{name}`: {doc}"))
    }
}

fn page(schema: &Json) -> String {
    let mut page =
        SchemaPage { schema, sections: vec![SchemaSection { path: String::new(), object: schema }], known: Vec::new() };
    let mut out = String::new();
    while !page.sections.is_empty() {
        let section = page.sections.remove(0);
        out += &page.section(section);
        out += "\n";
    }
    out
}

#[test]
fn the_page_of_the_report_has_every_key() {
    compare("reference/report.md", |_| page(&crate::schema::report()));
}

#[test]
fn the_page_of_the_config_has_every_key() {
    let schema = serde_json::to_value(schemars::schema_for!(Config)).expect("a schema is JSON");
    compare("reference/config-keys.md", |_| page(&schema));
}
