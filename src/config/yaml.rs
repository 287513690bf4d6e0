//! The config's text as a tree in which every key and value knows its place.
//!
//! serde_yaml loads the values later: it keeps no places, and stops at the first problem. Text that the two parsers could read
//! differently is refused here.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::{Code, Diagnostic, Place};
use super::syntax::{QUOTE, end, masking, not_yaml, unquoted};
use super::{deceptive_characters, yaml_dialects};

/// A config has a few hundred values; more than this is an alias bomb.
const MAX_NODES: usize = 100_000;
/// No config needs a quarter of it, and the loader takes no more than 128.
pub(super) const MAX_DEPTH: usize = 64;
const TOO_DEEP: &str = "more than 64 levels of lists and mappings: remove some";
/// Levels below these that are skipped; a text that has more is not read to its end.
const MAX_SKIPPED: usize = 1_000;
/// Values that are masked so that reading can go on behind them.
const MAX_MASKED: usize = 20;
/// The name of a key that can't be read; its value is [`Value::Broken`].
const UNREADABLE: &str = "\u{fdd0}";

/// A value with its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it is.
    pub place: Place,
}

/// The kinds of values.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text, a number, true, false or null.
    Scalar {
        /// As it is after unquoting.
        text: String,
        /// Whether it has no quotes, so that it may be something else than text.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(MapKey, Node)>),
    /// A value with a problem that has been reported.
    Broken,
}

/// A mapping's key with its place.
#[derive(Debug, Clone)]
pub struct MapKey {
    /// The key.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

impl MapKey {
    /// Whether it is a key that can't be read, and `value` stands for its value.
    pub(super) fn is_unreadable(&self, value: &Node) -> bool {
        self.name == UNREADABLE && matches!(value.value, Value::Broken)
    }
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

    /// Whether it is a mapping with a key that can't be read: a key that seems to be missing may be there.
    pub fn has_unreadable_key(&self) -> bool {
        self.entries().iter().any(|(key, node)| key.is_unreadable(node))
    }

    /// A mapping of which nothing is known.
    pub(super) fn unreadable(place: Place) -> Self {
        let key = MapKey { name: UNREADABLE.to_owned(), place };
        Node { value: Value::Map(vec![(key, Node { value: Value::Broken, place })]), place }
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
    let mut problems = deceptive_characters::check(text);
    if problems.len() == deceptive_characters::MAX_LINES {
        return (None, problems); // a binary file
    }
    let mut read = read(text, &problems);
    problems.extend(yaml_dialects::directive(text));
    problems.append(&mut read.problems);
    if read.root.as_ref().is_none_or(Node::is_nothing) && problems.is_empty() {
        let start = Place::new(1, 1, 1);
        let what = "the file is empty: begin it with `version: 1`";
        return (None, vec![Diagnostic::new(Code::Empty, start, what)]);
    }
    if let Some(root) = &mut read.root {
        problems.extend(yaml_dialects::with_libyaml(&read.text, root, problems.is_empty()));
    }
    (read.root, problems)
}

/// What was read of a text.
struct ReadText {
    /// The tree, if the text could be read to its end.
    root: Option<Node>,
    problems: Vec<Diagnostic>,
    /// What was read in the place of the text, where the text itself has a problem that hides what is behind it.
    text: String,
}

/// Reads the text `original`, whose characters have the problems `odd`. A value that can't be read is masked if it is known where it ends, so
/// that it hides no other problem.
fn read(original: &str, odd: &[Diagnostic]) -> ReadText {
    let has_odd = !odd.is_empty();
    let start = |masked| TreeBuilder { masked, ..TreeBuilder::default() };
    let mut text = if has_odd { deceptive_characters::masked(original, false) } else { original.to_owned() };
    let mut builder = start(has_odd);
    let mut last = builder.read(&text);
    if last.is_some() && has_odd {
        // Some reader ends a line where this one does not
        let blank = deceptive_characters::masked(original, true);
        let mut other = start(true);
        if other.read(&blank).is_none() {
            (text, builder, last) = (blank, other, None);
        }
    }
    let (mut problems, mut lines) = (Vec::new(), odd.iter().map(|problem| problem.place.line).collect::<Vec<_>>());
    for _ in 0..MAX_MASKED {
        let spaces = deceptive_characters::spaces(&text, &builder.quoted, last.or(builder.end));
        if !spaces.is_empty() {
            let found: Vec<usize> = spaces.iter().map(|problem| problem.place.line).collect();
            text = deceptive_characters::with_plain_spaces(&text, &builder.quoted, &found);
            lines.extend(found);
            problems.extend(spaces);
        } else if let Some(place) = last.and_then(|_| masking(&text, builder.problems.last()?)) {
            problems.extend(builder.problems.pop());
            text = mask(&text, place);
        } else {
            break;
        }
        let done = problems.last().map_or(0, |problem| problem.place.line);
        builder = start(builder.masked || !problems.is_empty());
        last = builder.read(&text);
        // What the mask did not help against has been reported
        if last.is_some() && builder.problems.last().is_some_and(|problem| problem.place.line <= done) {
            builder.problems.pop();
            break;
        }
    }
    // A character that can't be there is the reason of what the parser reports near it
    let near = |line: usize| lines.iter().any(|odd| line == *odd || line == odd + 1);
    builder.problems.retain(|problem| problem.code != Code::NotYaml || !near(problem.place.line));
    problems.append(&mut builder.problems);
    ReadText { root: builder.root.filter(|_| last.is_none()), problems, text }
}

/// `text` with a mask for each character at `place`.
fn mask(text: &str, place: Place) -> String {
    let columns = place.column..place.column + place.width;
    let lines = (1..).zip(text.split_inclusive('\n')).map(|(line, content)| -> String {
        let hidden = |column: usize, c: char| line == place.line && columns.contains(&column) && c != '\n';
        let shown = |(column, c)| if hidden(column, c) { deceptive_characters::MASK } else { c };
        (1..).zip(content.chars()).map(shown).collect()
    });
    lines.collect()
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
    /// Whether it is no mapping but a template without quotes.
    is_template: bool,
}

#[derive(Default)]
enum ExpectedNext {
    #[default]
    Key,
    Value(MapKey),
    /// The value of a key that can't be read, which is here.
    Unreadable(Place),
}

#[derive(Default)]
struct TreeBuilder {
    open: Vec<(OpenNode, Place, usize)>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// Whether parts of the text are masked.
    masked: bool,
    /// Levels below the deepest that is read.
    skipped: usize,
    /// Where a second document begins.
    end: Option<(usize, usize)>,
    /// Whether the aliases have been reported.
    too_many: bool,
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
                        // The first document is whole
                        let at = (place.line, place.column);
                        return Some(at).filter(|_| self.end.is_none());
                    }
                }
                Err(error) => {
                    let at = error.marker();
                    let problem = not_yaml(text, at.line(), at.col() + 1, error.info());
                    // Braces that were read as a mapping may be what the parser stops at
                    let near = |line: usize| line == problem.place.line || line + 1 == problem.place.line;
                    let known = |other: &Diagnostic| other.code == Code::Unquoted && near(other.place.line);
                    match self.problems.iter().position(known) {
                        Some(known) => {
                            let known = self.problems.remove(known);
                            self.problems.push(known);
                        }
                        None => self.problems.push(problem),
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
        if self.skipped > 0 {
            return self.skip(&event, place);
        }
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let what =
                        "a second document begins here: a config is one YAML document, so move it to a file of its own";
                    self.refuse(Code::Documents, place, what);
                    self.end = Some((place.line, place.column));
                    return false;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = match tag {
                    Some(tag) => self.tagged(place, &tag.suffix),
                    None if self.masked && text.contains(deceptive_characters::MASK) => {
                        Node { value: Value::Broken, place }
                    }
                    None => {
                        let plain = style == ScalarStyle::Plain;
                        Node { value: Value::Scalar { text: text.into_owned(), plain }, place }
                    }
                };
                let node = if self.is_key() { node } else { self.agreed(node) };
                self.put(node, anchor);
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if self.open.len() == MAX_DEPTH => {
                if !self.problems.iter().any(|problem| problem.code == Code::TooDeep) {
                    self.refuse(Code::TooDeep, place, TOO_DEEP);
                }
                self.skipped = 1;
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
            Event::Alias(id) => self.alias(id, place),
            _ => {}
        }
        true
    }

    /// Skips what is nested too deeply.
    fn skip(&mut self, event: &Event<'_>, place: Place) -> bool {
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => self.skipped += 1,
            Event::SequenceEnd | Event::MappingEnd => self.skipped -= 1,
            _ => {}
        }
        if self.skipped == 0 {
            self.put(Node { value: Value::Broken, place }, 0);
        }
        self.skipped < MAX_SKIPPED
    }

    fn tagged(&mut self, place: Place, tag: &str) -> Node {
        self.refuse(Code::Tag, place, format!("YAML tags are not supported: remove `!{tag}`"));
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

    fn alias(&mut self, id: usize, place: Place) {
        let value = match self.anchors.get(&id) {
            None => {
                self.refuse(Code::Alias, place, "this alias refers to the value that it is in: write the value out");
                Value::Broken
            }
            Some(node) => {
                let (count, depth) = measure(node);
                if self.nodes + count <= MAX_NODES && self.open.len() + depth <= MAX_DEPTH {
                    self.nodes += count;
                    node.value.clone()
                } else {
                    if !std::mem::replace(&mut self.too_many, true) {
                        let what = format!(
                            "YAML aliases expand to more than {MAX_NODES} values or {MAX_DEPTH} levels: write the values out"
                        );
                        self.refuse(Code::Alias, place, what);
                    }
                    Value::Broken
                }
            }
        };
        self.put(Node { value, place }, 0);
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
                ExpectedNext::Unreadable(place) => {
                    let key = MapKey { name: UNREADABLE.to_owned(), place };
                    map.entries.push((key, Node { value: Value::Broken, place: node.place }));
                }
            },
        }
    }

    fn key(&mut self, node: Node) {
        let place = node.place;
        let found = match node.value {
            Value::Scalar { text, plain } if text != "<<" => match plain.then(|| yaml_dialects::key(&text)).flatten() {
                Some(what) => Err(Some((Code::Ambiguous, place, what))),
                None => Ok(text),
            },
            Value::Scalar { .. } => {
                let what = "merge keys (`<<`) are not supported: repeat the keys, or use `defaults`";
                Err(Some((Code::MergeKey, place, what.into())))
            }
            Value::Broken => Err(None),
            Value::Map(_) => {
                if let Some((OpenNode::Map(map), ..)) = self.open.last_mut() {
                    map.is_template = true;
                }
                let place = Place { column: place.column.saturating_sub(1).max(1), width: place.width + 1, ..place };
                Err(Some((Code::Unquoted, place, QUOTE.into())))
            }
            Value::List(_) => Err(Some((Code::WrongType, place, "a list can't be a key: write a word and `:`".into()))),
        };
        let next = match found {
            Ok(name) => {
                // Of two of one name the second is checked too; the first has the value
                let Some((OpenNode::Map(map), ..)) = self.open.last_mut() else { return };
                if let Some(line) = map.lines.get(&name) {
                    let what = format!("`{name}` is here twice, first on line {line}: remove one of them");
                    self.refuse(Code::KeyTwice, place, what);
                } else {
                    map.lines.insert(name.clone(), place.line);
                }
                ExpectedNext::Value(MapKey { name, place })
            }
            Err(problem) => {
                problem.into_iter().for_each(|(code, place, what)| self.refuse(code, place, what));
                ExpectedNext::Unreadable(place)
            }
        };
        if let Some((OpenNode::Map(map), ..)) = self.open.last_mut() {
            map.next = next;
        }
    }

    fn close(&mut self) {
        let Some((open, place, anchor)) = self.open.pop() else { return };
        let value = match open {
            OpenNode::List(items) => Value::List(items),
            OpenNode::Map(map) if map.is_template => Value::Broken,
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
