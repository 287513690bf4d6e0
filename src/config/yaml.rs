//! The config's text as a tree in which every key and value knows its place.
//!
//! serde_yaml reads the values later; it can't say where a value stood once it has been read, and stops at the first
//! problem. Both parsers see the same document: what they could understand differently is refused here.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::{Code, Diagnostic, Place};
use super::syntax::{QUOTE, end, not_yaml, unquoted};
use super::{deceptive_characters, yaml_dialects};

/// A config is a page or two; more nodes than this is an alias bomb.
const MAX_NODES: usize = 100_000;
/// No config needs a quarter of it, and the loader takes no more than 128.
pub(super) const MAX_DEPTH: usize = 64;

/// A value with its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands.
    pub place: Place,
}

/// The kinds of values.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text, a number, true, false or null.
    Scalar {
        /// As it is after unquoting.
        text: String,
        /// Whether it stood there without quotes, so that it may be something else than text.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(MapKey, Node)>),
    /// What has a problem of its own already, so that nobody says more about it.
    Broken,
}

/// A mapping's key with its place.
#[derive(Debug, Clone)]
pub struct MapKey {
    /// The key.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

/// One step of a path into the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeStep<'a> {
    /// Into a mapping.
    Key(&'a str),
    /// Into a sequence.
    Index(usize),
}

impl Node {
    /// The value of `name` in a mapping.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entry(name).map(|(_, node)| node)
    }

    fn entry(&self, name: &str) -> Option<&(MapKey, Node)> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.name == name),
            _ => None,
        }
    }

    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[(MapKey, Node)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// Calls `visit` with it and all that is below.
    pub(super) fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Node)) {
        visit(self);
        match &self.value {
            Value::Scalar { .. } | Value::Broken => {}
            Value::List(items) => items.iter().for_each(|item| item.walk(visit)),
            Value::Map(entries) => entries.iter().for_each(|(_, node)| node.walk(visit)),
        }
    }

    /// Moves every place of it.
    pub(super) fn relocate(&mut self, to: &impl Fn(Place) -> Place) {
        self.place = to(self.place);
        match &mut self.value {
            Value::Scalar { .. } | Value::Broken => {}
            Value::List(items) => items.iter_mut().for_each(|item| item.relocate(to)),
            Value::Map(entries) => {
                for (key, node) in entries {
                    key.place = to(key.place);
                    node.relocate(to);
                }
            }
        }
    }

    /// The node at `path`, or the last one on the way that is there.
    pub fn at(&self, path: &[TreeStep<'_>]) -> &Node {
        let mut node = self;
        for step in path {
            let next = match (step, &node.value) {
                (TreeStep::Key(name), _) => node.get(name),
                (TreeStep::Index(index), Value::List(items)) => items.get(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// Whether nothing was written where a value could be.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if text.is_empty() )
    }

    /// How many values it consists of, itself among them.
    pub fn count(&self) -> usize {
        measure(self).0
    }

    /// The place of the last key of `path`.
    pub fn key_at(&self, path: &[TreeStep<'_>]) -> Place {
        match path.split_last() {
            Some((TreeStep::Key(name), parents)) => {
                let parent = self.at(parents);
                parent.entry(name).map_or(parent.place, |(key, _)| key.place)
            }
            _ => self.at(path).place,
        }
    }
}

/// Reads `text` as far as it can be read: the tree, if there is one, and every problem.
pub fn parse(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
    let problems = deceptive_characters::check(text);
    if !problems.is_empty() {
        return (None, problems);
    }
    if let Some(problem) = yaml_dialects::directive(text) {
        return (None, vec![problem]);
    }
    let mut builder = TreeBuilder::default();
    let last = builder.read(text);
    let spaces = deceptive_characters::spaces(text, &builder.quoted, last);
    if !spaces.is_empty() {
        return (None, spaces);
    }
    if last.is_some() {
        return (None, builder.problems);
    }
    if builder.root.as_ref().is_none_or(Node::is_nothing) && builder.problems.is_empty() {
        let start = Place::new(1, 1, 1);
        let what = "the file is empty: a config begins with `version: 1`";
        return (None, vec![Diagnostic::new(Code::Empty, start, what)]);
    }
    if builder.problems.is_empty()
        && let Some(problem) = builder.root.as_ref().and_then(|root| yaml_dialects::with_libyaml(text, root))
    {
        return (None, vec![problem]);
    }
    (builder.root, builder.problems)
}

/// A mapping or sequence that is still open.
enum OpenNode {
    List(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<(MapKey, Node)>,
    /// The line of each key.
    lines: HashMap<String, usize>,
    /// What the next node belongs to.
    next: ExpectedNext,
    /// Something that makes the mapping as a whole unfit to be looked at.
    broken: bool,
}

#[derive(Default)]
enum ExpectedNext {
    #[default]
    Key,
    Value(MapKey),
    /// The value of a key that was refused.
    Nothing,
}

#[derive(Default)]
struct TreeBuilder {
    open: Vec<(OpenNode, Place, usize)>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// Where the scalars are that are not plain: line and column of their beginning, and those behind their end.
    quoted: Vec<[(usize, usize); 2]>,
    problems: Vec<Diagnostic>,
}

impl TreeBuilder {
    /// Reads `text`; line and column where there is no sense in going on, if that is before its end.
    fn read(&mut self, text: &str) -> Option<(usize, usize)> {
        let end = end(text);
        let mut parser = Parser::new_from_str(text);
        // By its events, because the parser's own loop calls itself for each level
        while let Some(event) = parser.next_event() {
            match event {
                Ok((event, span)) => {
                    let place = place(&span);
                    if matches!(&event, Event::Scalar(_, style, ..) if *style != ScalarStyle::Plain) {
                        self.quoted.push([span.start, span.end].map(|at| (at.line(), at.col() + 1)));
                    }
                    if !self.event(event, if place.line > end.line { end } else { place }) {
                        return Some((place.line, place.column));
                    }
                }
                Err(error) => {
                    let at = error.marker();
                    let problem = not_yaml(text, at.line(), at.col() + 1, error.info());
                    // Braces that have been looked at as a mapping first may be what the parser stumbles over then
                    let near = |line: usize| line == problem.place.line || line + 1 == problem.place.line;
                    let told = |other: &Diagnostic| other.code == Code::Unquoted && near(other.place.line);
                    if !self.problems.iter().any(told) {
                        self.problems.push(problem);
                    }
                    return Some((at.line(), at.col() + 1));
                }
            }
        }
        for problem in self.problems.iter_mut().filter(|problem| problem.code == Code::Unquoted) {
            let line = text.lines().nth(problem.place.line - 1).and_then(unquoted);
            if let Some((_, width)) = line.filter(|(column, _)| *column == problem.place.column) {
                problem.place.width = width;
            }
        }
        None
    }

    fn refuse(&mut self, code: Code, place: Place, message: impl Into<String>) {
        self.problems.push(Diagnostic::new(code, place, message));
    }

    /// Whether there is sense in going on.
    fn event(&mut self, event: Event<'_>, place: Place) -> bool {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let what = "a second document begins here: a config is one, so put this into a file of its own";
                    self.refuse(Code::Documents, place, what);
                    return false;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = match tag {
                    Some(tag) => self.tagged(place, &tag.suffix),
                    None => {
                        let plain = style == ScalarStyle::Plain;
                        Node { value: Value::Scalar { text: text.into_owned(), plain }, place }
                    }
                };
                let node = if self.is_key() { node } else { self.agreed(node) };
                self.put(node, anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                tag.inspect(|tag| drop(self.tagged(place, &tag.suffix)));
                self.open.push((OpenNode::List(Vec::new()), place, anchor));
            }
            Event::MappingStart(anchor, tag) => {
                tag.inspect(|tag| drop(self.tagged(place, &tag.suffix)));
                self.open.push((OpenNode::Map(OpenMap::default()), place, anchor));
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => return self.alias(id, place),
            _ => {}
        }
        if self.open.len() > MAX_DEPTH {
            self.refuse(Code::TooDeep, place, format!("more than {MAX_DEPTH} levels deep: no config is"));
            return false;
        }
        true
    }

    fn tagged(&mut self, place: Place, tag: &str) -> Node {
        self.refuse(Code::Tag, place, format!("`!{tag}` is a tag, and a config has none: leave it out"));
        Node { value: Value::Broken, place }
    }

    /// Whether the next node is a key.
    fn is_key(&self) -> bool {
        matches!(self.open.last(), Some((OpenNode::Map(OpenMap { next: ExpectedNext::Key, .. }), ..)))
    }

    /// A value that every reader takes for the same; any other is refused.
    fn agreed(&mut self, node: Node) -> Node {
        let Value::Scalar { text, plain: true } = &node.value else { return node };
        let Some(what) = yaml_dialects::scalar(text) else { return node };
        self.refuse(Code::Ambiguous, node.place, what);
        Node { value: Value::Broken, place: node.place }
    }

    fn alias(&mut self, id: usize, place: Place) -> bool {
        let Some(node) = self.anchors.get(&id) else {
            self.refuse(Code::Alias, place, "an alias inside of what it stands for: write out what is meant");
            self.put(Node { value: Value::Broken, place }, 0);
            return true;
        };
        let (count, depth) = measure(node);
        if self.nodes + count > MAX_NODES || self.open.len() + depth > MAX_DEPTH {
            let what = "the aliases of this file multiply beyond all measure: write out what is meant";
            self.refuse(Code::Alias, place, what);
            return false;
        }
        self.nodes += count;
        let node = Node { value: node.value.clone(), place };
        self.put(node, 0);
        true
    }

    fn put(&mut self, node: Node, anchor: usize) {
        self.nodes += 1;
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((OpenNode::List(items), ..)) => items.push(node),
            Some((OpenNode::Map(map), ..)) => match std::mem::take(&mut map.next) {
                ExpectedNext::Value(key) => {
                    // A value that is not there is seen at its key
                    let place = if node.is_nothing() { key.place } else { node.place };
                    map.entries.push((key, Node { place, ..node }));
                }
                ExpectedNext::Key => self.key(node),
                ExpectedNext::Nothing => {}
            },
        }
    }

    fn key(&mut self, node: Node) {
        let place = node.place;
        let Some((OpenNode::Map(map), ..)) = self.open.last_mut() else { return };
        map.next = ExpectedNext::Nothing;
        let name = match node.value {
            Value::Scalar { text, plain } if text != "<<" => {
                if let Some(what) = plain.then(|| yaml_dialects::key(&text)).flatten() {
                    map.broken = true;
                    return self.refuse(Code::Ambiguous, place, what);
                }
                text
            }
            Value::Scalar { .. } => {
                map.broken = true; // what it would have brought along is not there
                return self.refuse(
                    Code::MergeKey,
                    place,
                    "merge keys (`<<`) are not part of a config: repeat the keys",
                );
            }
            Value::Broken => return map.broken = true,
            Value::Map(_) => {
                map.broken = true;
                let place = Place { column: place.column.saturating_sub(1).max(1), width: place.width + 1, ..place };
                return self.refuse(Code::Unquoted, place, QUOTE);
            }
            Value::List(_) => {
                map.broken = true;
                return self.refuse(
                    Code::WrongType,
                    place,
                    "a list can't be a key: a key is a word with `:` behind it",
                );
            }
        };
        match map.lines.get(&name) {
            Some(line) => {
                let what = format!("`{name}` is here twice, first on line {line}: leave one of them");
                self.refuse(Code::KeyTwice, place, what);
            }
            None => {
                map.lines.insert(name.clone(), place.line);
                map.next = ExpectedNext::Value(MapKey { name, place });
            }
        }
    }

    fn close(&mut self) {
        let Some((open, place, anchor)) = self.open.pop() else { return };
        let value = match open {
            OpenNode::List(items) => Value::List(items),
            OpenNode::Map(map) if map.broken => Value::Broken,
            OpenNode::Map(map) => Value::Map(map.entries),
        };
        self.put(Node { value, place }, anchor);
    }
}

fn place(span: &Span) -> Place {
    let width = if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Place::new(span.start.line().max(1), span.start.col() + 1, width.max(1))
}

/// How many nodes, and how many levels.
fn measure(node: &Node) -> (usize, usize) {
    let sum = |(count, depth), child| {
        let (more, below) = measure(child);
        (count + more, std::cmp::max(depth, below + 1))
    };
    match &node.value {
        Value::Scalar { .. } | Value::Broken => (1, 0),
        Value::List(items) => items.iter().fold((1, 1), sum),
        Value::Map(entries) => entries.iter().map(|(_, node)| node).fold((1, 1), sum),
    }
}

#[cfg(test)]
mod tests;
