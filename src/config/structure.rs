//! Checks a config's structure against the published JSON Schema, `schemas/ebpf-run.schema.json`: the schema decides.
//!
//! A small walker rather than a validator from elsewhere, because it works on the tree that knows its places, tells
//! what to write instead, and needs just the keywords that our schema uses. A keyword that it does not know is an error
//! in a test, not a rule that is silently left out. What the schema says of single programs (`allOf`) is not looked at here:
//! the plan knows it from the programs themselves.

use std::collections::HashSet;
use std::ptr;
use std::sync::OnceLock;

use serde_json::Value as Json;

use super::diagnostic::{Code, Diagnostic, Place, nearest, suggest};
use super::yaml::{Node, Value};
use super::yaml_dialects;

mod scalar;

use scalar::{json_type, name_of};

static SCHEMA: &str = include_str!("../../schemas/ebpf-run.schema.json");

/// The published schema as text.
pub fn schema_text() -> &'static str {
    SCHEMA
}

/// The published schema.
pub(crate) fn schema() -> &'static Json {
    static PARSED: OnceLock<Json> = OnceLock::new();
    PARSED.get_or_init(|| serde_json::from_str(SCHEMA).expect("the committed schema is JSON; a test sees to it"))
}

/// What is to be said of a mapping that has no key of a config: one thing, not one of each of its keys.
pub fn foreign(root: &Node) -> Option<Diagnostic> {
    let Value::Map(entries) = &root.value else { return None };
    let known = schema().get("properties").and_then(Json::as_object)?;
    let what = "none of a config's keys is here (`version`, `probes`, `sinks`): is this another program's file?";
    let is_foreign = !entries.is_empty() && !entries.iter().any(|(key, _)| known.contains_key(&key.name));
    is_foreign.then(|| Diagnostic::new(Code::MissingKey, root.place, what))
}

/// All problems of `root`'s structure, and what is left of it without what has problems. `None` for the rest if that is
/// too little to say more about.
pub fn check(root: Node) -> (Vec<Diagnostic>, Option<Node>) {
    check_against(schema(), root)
}

fn check_against(schema: &Json, root: Node) -> (Vec<Diagnostic>, Option<Node>) {
    let (problems, mut bad) = walk(schema, &root);
    let mut root = root;
    // What is taken out may be missing then, so that what it was taken out of goes too, and so on
    while !bad.is_empty() || holds_broken(&root) {
        let Some(rest) = prune(&root, &bad) else { return (problems, None) };
        root = with_constants(schema, rest);
        (_, bad) = walk(schema, &root);
    }
    (problems, Some(root))
}

type InvalidNodes = HashSet<*const Node>;

fn walk(schema: &Json, root: &Node) -> (Vec<Diagnostic>, InvalidNodes) {
    let mut walker = SchemaChecker { schema, problems: Vec::new(), invalid: InvalidNodes::new() };
    walker.check(root, schema, "the config");
    (walker.problems, walker.invalid)
}

fn holds_broken(node: &Node) -> bool {
    match &node.value {
        Value::Broken => true,
        Value::Scalar { .. } => false,
        Value::List(items) => items.iter().any(holds_broken),
        Value::Map(entries) => entries.iter().any(|(_, node)| holds_broken(node)),
    }
}

fn prune(node: &Node, bad: &InvalidNodes) -> Option<Node> {
    if bad.contains(&ptr::from_ref(node)) {
        return None;
    }
    let value = match &node.value {
        Value::Broken => return None,
        Value::Scalar { .. } => node.value.clone(),
        Value::List(items) => {
            let rest: Vec<Node> = items.iter().filter_map(|item| prune(item, bad)).collect();
            // That nothing is left is no problem of its own
            if rest.is_empty() && !items.is_empty() {
                return None;
            }
            Value::List(rest)
        }
        Value::Map(entries) => {
            Value::Map(entries.iter().filter_map(|(key, value)| Some((key.clone(), prune(value, bad)?))).collect())
        }
    };
    Some(Node { value, place: node.place })
}

/// A key of the top level that is needed and can have one value only has it, whatever the file says.
fn with_constants(schema: &Json, mut root: Node) -> Node {
    let place = root.place;
    let Value::Map(entries) = &mut root.value else { return root };
    for (name, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        if let Some(only) = property.get("const")
            && required(schema).any(|needed| needed == name)
            && !entries.iter().any(|(key, _)| key.name == *name)
        {
            let value = Value::Scalar { text: only.to_string(), plain: true };
            entries.push((super::yaml::MapKey { name: name.clone(), place }, Node { value, place }));
        }
    }
    root
}

struct SchemaChecker<'a> {
    schema: &'a Json,
    problems: Vec<Diagnostic>,
    /// The nodes that have problems.
    invalid: InvalidNodes,
}

impl<'a> SchemaChecker<'a> {
    /// `node` is what is wrong, `place` where that is seen.
    fn say_at(&mut self, code: Code, node: &Node, place: Place, message: impl Into<String>) {
        self.invalid.insert(ptr::from_ref(node));
        self.problems.push(Diagnostic::new(code, place, message));
    }

    fn say(&mut self, code: Code, node: &Node, message: impl Into<String>) {
        self.say_at(code, node, node.place, message);
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        match schema.get("$ref").and_then(Json::as_str) {
            Some(path) => self.schema.pointer(path.trim_start_matches('#')).expect("references of the schema hold"),
            None => schema,
        }
    }

    /// `what` names the value in messages: `probes`, `a probe`.
    fn check(&mut self, node: &Node, schema: &'a Json, what: &str) {
        if matches!(node.value, Value::Broken) {
            return;
        }
        // Who leaves a value out has forgotten it; who means none can say so
        if matches!(&node.value, Value::Scalar { text, plain: true } if text.is_empty()) {
            let what = format!("{what} has no value: write one, `null` for none, or leave the key out");
            return self.say(Code::WrongType, node, what);
        }
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
        if ["type", "const", "enum"].iter().all(|key| schema.get(key).is_none()) {
            return self.check_words(node);
        }
        match &node.value {
            Value::Map(entries) => {
                self.check_keys(node, entries, schema, what);
            }
            Value::List(items) => {
                let min = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
                if (items.len() as u64) < min {
                    self.say(Code::Count, node, format!("{what} is empty: at least one entry is needed"));
                }
                if let Some(item) = schema.get("items") {
                    let what = format!("an entry of {what}");
                    items.iter().for_each(|node| self.check(node, item, &what));
                }
            }
            Value::Scalar { text, .. } => self.check_scalar(node, text, schema, what),
            Value::Broken => {}
        }
    }

    /// A value that may be of any type.
    fn check_words(&mut self, node: &Node) {
        let mut found = Vec::new();
        node.walk(&mut |node| {
            if let Value::Scalar { text, plain: true } = &node.value {
                found.extend(yaml_dialects::word(text).map(|what| (node, what)));
            }
        });
        for (node, what) in found {
            self.say(Code::Ambiguous, node, what);
        }
    }

    fn check_keys(&mut self, node: &Node, entries: &[(super::yaml::MapKey, Node)], schema: &'a Json, what: &str) {
        let known = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties");
        let mut typos = Vec::new();
        for (key, value) in entries {
            match (known.and_then(|known| known.get(&key.name)), others) {
                (Some(property), _) => self.check(value, property, &format!("`{}`", key.name)),
                (None, Some(Json::Bool(false))) => {
                    let names = known.into_iter().flatten().map(|(name, _)| name.as_str());
                    typos.extend(nearest(&key.name, names.clone()));
                    let what = format!("unknown key `{}` in {what}{}", key.name, suggest(&key.name, names));
                    self.say_at(Code::UnknownKey, value, key.place, what);
                }
                (None, Some(property)) => self.check(value, property, &format!("`{}`", key.name)),
                (None, None) => {}
            }
        }
        let then = schema.get("if").filter(|condition| holds(condition, entries)).and(schema.get("then"));
        for name in required(schema).chain(then.into_iter().flat_map(required)) {
            if entries.iter().any(|(key, _)| key.name == name) {
                continue;
            }
            self.invalid.insert(ptr::from_ref(node));
            if !typos.contains(&name) {
                self.say(Code::MissingKey, node, format!("{what} needs `{name}`"));
            }
        }
        let count = entries.len() as u64;
        if schema.get("minProperties").and_then(Json::as_u64).is_some_and(|min| count < min) {
            self.say(Code::Count, node, format!("{what} is empty: at least one entry is needed"));
        }
        if schema.get("maxProperties").and_then(Json::as_u64).is_some_and(|max| count > max) {
            let hint = match known {
                Some(known) => {
                    format!("take one of {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
                }
                None => "begin a new `-` for each".into(),
            };
            self.say(Code::Count, node, format!("{what} has more than one key: {hint}"));
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
                    let words = format!("`{text}` is not possible for {what}{}", suggest(text, known));
                    self.say(Code::NotPossible, node, words);
                }
                _ => self.say(Code::WrongType, node, format!("{what} must be one of {}", known.join(", "))),
            }
            return;
        }
        let Value::Map(entries) = &node.value else {
            let words = format!("{what} must be a mapping, not {}", name_of(json_type(node)));
            return self.say(Code::WrongType, node, words);
        };
        let Some(kind) = node.get("type") else {
            let known = variants.iter().filter_map(tag).collect::<Vec<_>>().join(", ");
            let typo = entries.iter().find(|(key, _)| nearest(&key.name, ["type"]).is_some());
            return match typo {
                Some((key, _)) => {
                    let words = format!("unknown key `{}` in {what}, did you mean `type`?", key.name);
                    self.say_at(Code::UnknownKey, node, key.place, words);
                }
                None => self.say(Code::MissingKey, node, format!("{what} needs `type` ({known})")),
            };
        };
        let known = variants.iter().filter_map(tag);
        let Value::Scalar { text, .. } = &kind.value else {
            if !matches!(kind.value, Value::Broken) {
                let words = format!("`type` must be one of {}", known.collect::<Vec<_>>().join(", "));
                self.say_at(Code::WrongType, node, kind.place, words);
            }
            return;
        };
        match variants.iter().find(|variant| tag(variant) == Some(text)) {
            Some(variant) => self.check(node, variant, what),
            None => {
                let words = format!("`{text}` is no type of sink{}", suggest(text, known));
                self.say_at(Code::NotPossible, node, kind.place, words);
            }
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

/// The keys that a schema asks for.
fn required(schema: &Json) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}

/// Whether a mapping is as the condition says: which keys it has is all that our schema asks.
fn holds(condition: &Json, entries: &[(super::yaml::MapKey, Node)]) -> bool {
    let any = |list: &Json| list.as_array().is_some_and(|list| list.iter().any(|one| holds(one, entries)));
    condition.get("not").is_none_or(|not| !holds(not, entries))
        && condition.get("anyOf").is_none_or(any)
        // Includes are followed by now: what they have is here, and what is missing is missing
        && required(condition).all(|name| name != "include" && entries.iter().any(|(key, _)| key.name == name))
}

#[cfg(test)]
mod tests;
