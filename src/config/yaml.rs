//! The config's text as a tree in which every key and value knows its place.
//!
//! serde_yaml reads the values later; it can't say where a value stood once it has been read, and stops at the first
//! problem. Both parsers see the same document: what they could understand differently is refused here.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, SpannedEventReceiver};

use super::diagnostic::{Diagnostic, Place};

/// A config is a page or two; more nodes than this is an alias bomb.
const MAX_NODES: usize = 100_000;

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
    Map(Vec<(Key, Node)>),
}

/// A mapping's key with its place.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

/// One step of a path into the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
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

    fn entry(&self, name: &str) -> Option<&(Key, Node)> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.name == name),
            _ => None,
        }
    }

    /// The node at `path`, or the last one on the way that is there.
    pub fn at(&self, path: &[Step<'_>]) -> &Node {
        let mut node = self;
        for step in path {
            let next = match (step, &node.value) {
                (Step::Key(name), _) => node.get(name),
                (Step::Index(index), Value::List(items)) => items.get(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// The place of the last key of `path`.
    pub fn key_at(&self, path: &[Step<'_>]) -> Place {
        match path.split_last() {
            Some((Step::Key(name), parents)) => {
                let parent = self.at(parents);
                parent.entry(name).map_or(parent.place, |(key, _)| key.place)
            }
            _ => self.at(path).place,
        }
    }
}

/// Parses `text`.
///
/// # Errors
/// The first place that is not YAML, or YAML that a config must not use.
pub fn parse(text: &str) -> Result<Node, Diagnostic> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    if let Err(error) = parser.load(&mut builder, true) {
        let place = Place { line: error.marker().line(), column: error.marker().col() + 1, width: 1 };
        let hint = if text.lines().nth(place.line.saturating_sub(1)).is_some_and(|line| line.contains("{{")) {
            "; a value with {{ }} needs quotes around it"
        } else {
            ""
        };
        return Err(Diagnostic { place, message: format!("this is not YAML: {}{hint}", error.info()) });
    }
    if let Some(problem) = builder.problem {
        return Err(problem);
    }
    let start = Place { line: 1, column: 1, width: 1 };
    builder.root.ok_or_else(|| Diagnostic { place: start, message: "the file is empty".into() })
}

/// A mapping or sequence that is still open.
enum Open {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

#[derive(Default)]
struct Builder {
    open: Vec<(Open, Place, usize)>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    problem: Option<Diagnostic>,
}

impl Builder {
    /// The first problem is kept.
    fn refuse(&mut self, place: Place, message: impl Into<String>) {
        self.problem.get_or_insert(Diagnostic { place, message: message.into() });
    }

    fn put(&mut self, node: Node, anchor: usize) {
        self.nodes += 1;
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None if self.root.is_none() => self.root = Some(node),
            None => self.refuse(node.place, "a second document: a config is one document, without `---` in between"),
            Some((Open::List(items), ..)) => items.push(node),
            Some((Open::Map(entries, key), ..)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => self.key(node),
            },
        }
    }

    fn key(&mut self, node: Node) {
        let place = node.place;
        let Value::Scalar { text: name, .. } = node.value else {
            let hint = "a mapping as a key: if this is a template, put quotes around it";
            return self.refuse(place, hint);
        };
        if name == "<<" {
            return self.refuse(place, "merge keys (`<<`) are not part of a config: repeat the keys");
        }
        let Some((Open::Map(entries, key), ..)) = self.open.last_mut() else { return };
        let twice = entries.iter().find(|(known, _)| known.name == name).map(|(known, _)| known.place.line);
        *key = Some(Key { name: name.clone(), place });
        if let Some(line) = twice {
            self.refuse(place, format!("`{name}` is here twice, first on line {line}"));
        }
    }

    fn close(&mut self) {
        let Some((open, place, anchor)) = self.open.pop() else { return };
        let value = match open {
            Open::List(items) => Value::List(items),
            Open::Map(entries, _) => Value::Map(entries),
        };
        self.put(Node { value, place }, anchor);
    }
}

fn place(span: &Span) -> Place {
    let width = if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Place { line: span.start.line(), column: span.start.col() + 1, width: width.max(1) }
}

impl<'i> SpannedEventReceiver<'i> for Builder {
    fn on_event(&mut self, event: Event<'i>, span: Span) {
        if self.problem.is_some() {
            return;
        }
        let place = place(&span);
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let value = Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.put(Node { value, place }, anchor);
            }
            Event::SequenceStart(anchor, _) => self.open.push((Open::List(Vec::new()), place, anchor)),
            Event::MappingStart(anchor, _) => self.open.push((Open::Map(Vec::new(), None), place, anchor)),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => match self.anchors.get(&id) {
                Some(node) => {
                    self.nodes += count(node);
                    if self.nodes > MAX_NODES {
                        return self.refuse(place, "the aliases of this file multiply beyond all measure");
                    }
                    let node = Node { value: self.anchors[&id].value.clone(), place };
                    self.put(node, 0);
                }
                None => self.refuse(place, "an alias inside of what it stands for"),
            },
            _ => {}
        }
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar { .. } => 0,
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| count(node)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> (usize, usize, String) {
        let Diagnostic { place, message } = parse(text).expect_err("it is wrong");
        (place.line, place.column, message)
    }

    #[test]
    fn keys_and_values_know_their_places() {
        let root = parse("a: 1\nb:\n  - x\n  - {c: 'd'}\n").expect("it is YAML");
        let path = [Step::Key("b"), Step::Index(1), Step::Key("c")];
        assert_eq!(root.at(&path).place, Place { line: 4, column: 9, width: 3 });
        assert_eq!(root.key_at(&path), Place { line: 4, column: 6, width: 1 });
        assert_eq!(root.at(&[Step::Key("b"), Step::Index(7)]).place.line, 3, "what is not there: its parent");
    }

    #[test]
    fn what_the_two_parsers_could_read_differently_is_refused() {
        assert_eq!(problem("a: 1\nb: 2\na: 3\n"), (3, 1, "`a` is here twice, first on line 1".into()));
        assert!(problem("a: 1\n---\nb: 2\n").2.contains("second document"));
        assert!(problem("x: &x {a: 1}\ny:\n  <<: *x\n").2.contains("merge keys"));
        assert!(problem("t: {{ ts }}\n").2.contains("quotes"));
        assert!(problem("t: {{ ts }} x\n").2.contains("needs quotes"));
        assert!(problem("").2.contains("empty"));
    }

    #[test]
    fn anchors_work_and_bombs_do_not() {
        let root = parse("x: &x [1, 2]\ny: *x\n").expect("it is YAML");
        assert!(matches!(&root.get("y").unwrap().value, Value::List(items) if items.len() == 2));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb += &format!("a{i}: &a{i} [{list}]\n");
        }
        assert!(problem(&bomb).2.contains("multiply"));
    }
}
