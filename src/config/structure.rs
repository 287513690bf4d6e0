//! Checks a config's structure against the published JSON Schema, `schemas/ebpf-run.schema.json`: the schema decides.
//!
//! A small walker rather than a validator from elsewhere, because it works on the tree that knows its places, tells
//! what to write instead, and needs just the keywords that our schema uses. A keyword that it does not know is an error
//! in a test, not a rule that is silently left out. What the schema says of single programs (`allOf`) is not looked at here:
//! the plan knows it from the programs themselves.

use std::collections::{HashMap, HashSet};
use std::ptr;
use std::sync::OnceLock;

use serde_json::Value as Json;

use super::diagnostic::{Code, Diagnostic, Place, nearest, suggest};
use super::environment::alternatives;
use super::yaml::{MapKey, Node, Value};
use super::yaml_dialects;

mod scalar;

use scalar::{json_type, name_of, too_large};

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

/// The one problem of a mapping that has no key of a config, instead of one for each of its keys.
pub fn foreign(root: &Node) -> Option<Diagnostic> {
    let Value::Map(entries) = &root.value else { return None };
    let known = schema().get("properties").and_then(Json::as_object)?;
    let what = "this is not an ebpf-run config: it has no `version`, `probes` or `sinks`";
    let is_foreign = !entries.is_empty()
        && !root.has_unreadable_key()
        && !entries.iter().any(|(key, _)| known.contains_key(&key.name));
    is_foreign.then(|| Diagnostic::new(Code::MissingKey, root.place, what))
}

/// All problems of `root`'s structure, and the tree without the values that have problems. Required keys that are missing then
/// have a stand-in, so that the rest can be checked. `None` if `root` is no mapping.
pub fn check(root: Node) -> (Vec<Diagnostic>, Option<Node>) {
    check_against(schema(), root)
}

fn check_against(schema: &Json, root: Node) -> (Vec<Diagnostic>, Option<Node>) {
    let Walked { problems, mut invalid, stand_ins } = walk(schema, &root);
    if !matches!(root.value, Value::Map(_)) {
        return (problems, None);
    }
    if problems.is_empty() && !needs_pruning(&root) {
        return (problems, Some(root));
    }
    // A value without an invalid part may be invalid as well, and so on
    let mut root = root;
    loop {
        invalid.remove(&ptr::from_ref(&root));
        let Some(rest) = prune(&root, &invalid) else { return (problems, None) };
        root = completed(schema, rest, &stand_ins);
        invalid = walk(schema, &root).invalid;
        if invalid.is_empty() && !needs_pruning(&root) {
            return (problems, Some(root));
        }
    }
}

type InvalidNodes = HashSet<*const Node>;

/// What a sink without a valid type and a probe without a program are checked with, by the place of the sink or probe.
type StandIns = HashMap<Place, Node>;

struct Walked {
    problems: Vec<Diagnostic>,
    invalid: InvalidNodes,
    stand_ins: StandIns,
}

fn walk(schema: &Json, root: &Node) -> Walked {
    let mut walker =
        SchemaChecker { schema, problems: Vec::new(), invalid: InvalidNodes::new(), stand_ins: StandIns::new() };
    walker.check(root, schema, "the config");
    Walked { problems: walker.problems, invalid: walker.invalid, stand_ins: walker.stand_ins }
}

/// Whether a value is broken, or a mapping has two entries of one name.
fn needs_pruning(node: &Node) -> bool {
    match &node.value {
        Value::Broken => true,
        Value::Scalar { .. } => false,
        Value::List(items) => items.iter().any(needs_pruning),
        Value::Map(entries) => {
            let mut names = HashSet::new();
            entries.iter().any(|(key, node)| !names.insert(&key.name) || needs_pruning(node))
        }
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
            let mut names = HashSet::new();
            let first = entries.iter().filter(|(key, _)| names.insert(&key.name));
            Value::Map(first.filter_map(|(key, value)| Some((key.clone(), prune(value, bad)?))).collect())
        }
    };
    Some(Node { value, place: node.place })
}

/// `root` with a stand-in for each required key that is missing: the one value that it can have, what a sink or probe
/// is checked with, or a program without a name.
fn completed(schema: &Json, mut root: Node, stand_ins: &StandIns) -> Node {
    let scalar = |text: &str, plain, place| Node { value: Value::Scalar { text: text.to_owned(), plain }, place };
    let key = |name: &str, place| MapKey { name: name.to_owned(), place };
    let place = root.place;
    let Value::Map(entries) = &mut root.value else { return root };
    for (name, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        if let Some(only) = property.get("const")
            && required(schema).any(|needed| needed == name)
            && !entries.iter().any(|(key, _)| key.name == *name)
        {
            entries.push((key(name, place), scalar(&only.to_string(), true, place)));
        }
    }
    for (name, node) in entries {
        let below: Vec<&mut Node> = match &mut node.value {
            Value::List(items) if name.name == "probes" => items.iter_mut().collect(),
            Value::Map(sinks) if name.name == "sinks" => sinks.iter_mut().map(|(_, sink)| sink).collect(),
            _ => continue,
        };
        for node in below {
            let missing = if name.name == "probes" { "program" } else { "type" };
            let known = stand_ins.get(&node.place).cloned();
            let value = known.or_else(|| (missing == "program").then(|| scalar("", false, node.place)));
            if node.get(missing).is_none()
                && let Some(value) = value
                && let Value::Map(entries) = &mut node.value
            {
                entries.push((key(missing, value.place), value));
            }
        }
    }
    root
}

struct SchemaChecker<'a> {
    schema: &'a Json,
    problems: Vec<Diagnostic>,
    /// The nodes that have problems.
    invalid: InvalidNodes,
    stand_ins: StandIns,
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
        if matches!(node.value, Value::Broken) || self.invalid.contains(&ptr::from_ref(node)) {
            return;
        }
        // A value that was forgotten; `null` can be written
        if matches!(&node.value, Value::Scalar { text, plain: true } if text.is_empty()) {
            return self.say(Code::WrongType, node, format!("{what} has no value: write one, or remove the key"));
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
                self.check_keys(node, entries, schema, what, "");
            }
            Value::List(items) => {
                let min = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
                if (items.len() as u64) < min {
                    self.say(Code::Count, node, format!("{what} is empty: add at least one entry"));
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
                found.extend(yaml_dialects::word(text).map(|what| (node, Code::Ambiguous, what)));
                found.extend(too_large(text).map(|what| (node, Code::OutOfRange, what)));
            }
        });
        for (node, code, what) in found {
            self.say(code, node, what);
        }
    }

    /// `reported` is a required key whose absence has been reported.
    fn check_keys(&mut self, node: &Node, entries: &[(MapKey, Node)], schema: &'a Json, what: &str, reported: &str) {
        let known = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties");
        let mut typos = Vec::new();
        for (key, value) in entries {
            if self.invalid.contains(&ptr::from_ref(value)) || key.is_unreadable(value) {
                continue;
            }
            match (known.and_then(|known| known.get(&key.name)), others) {
                (Some(property), _) => self.check(value, property, &format!("`{}`", key.name)),
                (None, Some(Json::Bool(false))) => {
                    let names = known.into_iter().flatten().map(|(name, _)| name.as_str());
                    let near = nearest(&key.name, names.clone());
                    typos.extend(near);
                    if let (Some("program"), Value::Scalar { text, .. }) = (near, &value.value) {
                        // As text, whatever it looks like, so that it is valid itself
                        let value = Value::Scalar { text: text.clone(), plain: false };
                        self.stand_ins.insert(node.place, Node { value, place: key.place });
                    }
                    let parent = near.is_none().then(|| self.parent_of(&key.name)).flatten();
                    let hint = match parent {
                        Some(parent) => format!(": it is a key of {parent}"),
                        None => suggest(&key.name, names),
                    };
                    let what = format!("unknown key `{}` in {what}{hint}", key.name);
                    self.say_at(Code::UnknownKey, value, key.place, what);
                }
                (None, Some(property)) => self.check(value, property, &format!("`{}`", key.name)),
                (None, None) => {}
            }
        }
        // A key that can't be read may be the one that is missing
        if node.has_unreadable_key() {
            return;
        }
        let then = schema.get("if").filter(|condition| self.holds(condition, entries)).and(schema.get("then"));
        for name in required(schema).chain(then.into_iter().flat_map(required)) {
            let is_there = entries.iter().any(|(key, _)| key.name == name);
            if !is_there && name != reported && !typos.contains(&name) {
                let what = format!("missing key in {what}: add `{name}`");
                self.problems.push(Diagnostic::new(Code::MissingKey, node.place, what));
            }
        }
        let count = entries.len() as u64;
        if schema.get("minProperties").and_then(Json::as_u64).is_some_and(|min| count < min) {
            self.say(Code::Count, node, format!("{what} is empty: add at least one entry"));
        }
        if schema.get("maxProperties").and_then(Json::as_u64).is_some_and(|max| count > max) {
            let hint = match known {
                Some(known) => {
                    format!("use one of {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
                }
                None => "begin a list entry (`-`) for each".into(),
            };
            self.say(Code::Count, node, format!("{what} has more than one key: {hint}"));
        }
    }

    /// The mapping that has a key called `name`, for messages: `` `window` ``, `a probe`.
    fn parent_of(&self, name: &str) -> Option<String> {
        let definitions = self.schema.get("$defs").and_then(Json::as_object)?;
        let has = |schema: &Json| schema.pointer("/properties").and_then(|all| all.get(name)).is_some();
        if has(self.schema) {
            return Some("the top of the file".into());
        }
        if has(definitions.get("Probe")?) {
            return Some("a probe".into());
        }
        let properties = |schema: &'a Json| schema.get("properties").and_then(Json::as_object).into_iter().flatten();
        let nested = |schema: &'a Json| {
            let inner = properties(schema).find(|(_, property)| {
                let mut all = Vec::new();
                alternatives(self.schema, property, &mut all);
                all.into_iter().any(has)
            });
            inner.map(|(parent, _)| format!("`{parent}`"))
        };
        let sinks: Vec<&Json> = definitions.get("Sink")?.get("oneOf")?.as_array()?.iter().collect();
        let in_sink = || sinks.iter().any(|sink| has(sink)).then(|| "a sink".to_owned());
        let is_filter = || {
            let conditions = definitions.get("Probe")?.get("allOf")?.as_array()?;
            let has = |one: &Json| one.pointer("/then/properties/filters").is_some_and(has);
            conditions.iter().any(has).then(|| "`filters`".to_owned())
        };
        nested(self.schema)
            .or_else(|| nested(definitions.get("Probe")?))
            .or_else(in_sink)
            .or_else(|| sinks.iter().find_map(|sink| nested(sink)))
            .or_else(is_filter)
    }

    /// Mappings told apart by the one value that their `type` may have; or plain constants with a doc each.
    fn check_variants(&mut self, node: &Node, variants: &'a [Json], what: &str) {
        if variants.iter().all(|variant| tag(variant).is_none()) {
            let known: Vec<&str> =
                variants.iter().filter_map(|variant| variant.get("const").and_then(Json::as_str)).collect();
            match &node.value {
                Value::Scalar { text, .. } if known.contains(&text.as_str()) => {}
                Value::Scalar { text, .. } => {
                    let words = format!("`{text}` is not a value of {what}{}", suggest(text, known));
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
        let known = || variants.iter().filter_map(tag);
        let list = || known().collect::<Vec<_>>().join(", ");
        let (kind, found) = match node.get("type") {
            Some(kind) => (Some(kind), true),
            None => {
                let typo = entries.iter().find(|(key, _)| nearest(&key.name, ["type"]).is_some());
                match typo {
                    Some((key, value)) => {
                        let words = format!("unknown key `{}` in {what}, did you mean `type`?", key.name);
                        self.say_at(Code::UnknownKey, value, key.place, words);
                    }
                    None if node.has_unreadable_key() => {}
                    None => {
                        let words = format!("missing key in {what}: add `type` ({})", list());
                        self.problems.push(Diagnostic::new(Code::MissingKey, node.place, words));
                    }
                }
                (typo.map(|(_, value)| value), false)
            }
        };
        let kind_node = kind;
        let text = match kind.map(|kind| &kind.value) {
            Some(Value::Scalar { text, .. }) => Some(text.as_str()),
            _ => None,
        };
        if let Some(variant) = variants.iter().find(|variant| found && text.is_some() && tag(variant) == text) {
            return self.check(node, variant, what);
        }
        if let Some(kind) = kind.filter(|kind| found && !matches!(kind.value, Value::Broken)) {
            let (code, words) = match text {
                Some(text) => (Code::NotPossible, format!("`{text}` is not a sink type{}", suggest(text, known()))),
                None => (Code::WrongType, format!("`type` must be one of {}", list())),
            };
            self.say(code, kind, words);
        }
        let variant = likely(entries, text, variants);
        let stand_in = |kind: &str| Node {
            value: Value::Scalar { text: kind.to_owned(), plain: false },
            place: kind_node.map_or(node.place, |kind| kind.place),
        };
        self.stand_ins.extend(tag(variant).map(|kind| (node.place, stand_in(kind))));
        self.check_keys(node, entries, variant, what, "type");
    }

    /// Whether a mapping is as the condition says: which keys it has is all that our schema asks.
    fn holds(&self, condition: &Json, entries: &[(MapKey, Node)]) -> bool {
        let any = |list: &Json| list.as_array().is_some_and(|list| list.iter().any(|one| self.holds(one, entries)));
        let has = |name: &str| {
            let is_valid = |value: &Node| !self.invalid.contains(&ptr::from_ref(value));
            entries.iter().any(|(key, value)| key.name == name && is_valid(value))
        };
        condition.get("not").is_none_or(|not| !self.holds(not, entries))
            && condition.get("anyOf").is_none_or(any)
            // Includes are followed by now: what they have is here, and what is missing is missing
            && required(condition).all(|name| name != "include" && has(name))
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

/// The one value that the `type` of a variant may have.
fn tag(variant: &Json) -> Option<&str> {
    variant.pointer("/properties/type/const").and_then(Json::as_str)
}

/// The variant that a mapping without a valid `type` is checked as: the one with the name that is nearest to its `kind`; the one
/// that alone has one of its keys; else the last, which requires nothing more.
fn likely<'a>(entries: &[(MapKey, Node)], kind: Option<&str>, variants: &'a [Json]) -> &'a Json {
    let near = kind.and_then(|kind| nearest(kind, variants.iter().filter_map(tag)));
    let has = |variant: &Json, name: &str| variant.pointer("/properties").is_some_and(|all| all.get(name).is_some());
    let alone = |variant: &&Json| {
        let only = |name: &str| variants.iter().filter(|other| has(other, name)).count() == 1 && has(variant, name);
        entries.iter().any(|(key, _)| only(&key.name))
    };
    let named = variants.iter().find(|variant| near.is_some() && tag(variant) == near);
    named.or_else(|| variants.iter().find(alone)).or(variants.last()).expect("a choice has variants")
}

/// The keys that a schema asks for.
fn required(schema: &Json) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}

#[cfg(test)]
mod tests;
