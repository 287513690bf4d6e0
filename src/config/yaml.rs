//! The config's text as a tree in which every key and value knows its place.
//!
//! serde_yaml reads the values later; it can't say where a value stood once it has been read, and stops at the first
//! problem. Both parsers see the same document: what they could understand differently is refused here.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::{Code, Diagnostic, Place};

/// A config is a page or two; more nodes than this is an alias bomb.
const MAX_NODES: usize = 100_000;
/// No config needs a quarter of it, and the loader takes no more than 128.
const MAX_DEPTH: usize = 64;

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
    /// What has a problem of its own already, so that nobody says more about it.
    Broken,
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

    /// Whether nothing was written where a value could be.
    fn is_nothing(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if text.is_empty() )
    }

    /// How many values it consists of, itself among them.
    pub fn count(&self) -> usize {
        measure(self).0
    }

    /// As serde_yaml reads it.
    pub fn to_yaml(&self) -> serde_yaml::Value {
        use serde_yaml::Value as Yaml;
        match &self.value {
            Value::Scalar { text, plain: true } => match serde_yaml::from_str(text) {
                Ok(value @ (Yaml::Null | Yaml::Bool(_) | Yaml::Number(_))) => value,
                _ => Yaml::String(text.clone()),
            },
            Value::Scalar { text, .. } => Yaml::String(text.clone()),
            Value::List(items) => Yaml::Sequence(items.iter().map(Node::to_yaml).collect()),
            Value::Map(entries) => {
                Yaml::Mapping(entries.iter().map(|(key, node)| (key.name.clone().into(), node.to_yaml())).collect())
            }
            Value::Broken => Yaml::Null,
        }
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

/// Reads `text` as far as it can be read: the tree, if there is one, and every problem.
pub fn parse(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
    if let Some(place) = lone_return(text) {
        let what = "a carriage return without a line feed: some tools take it for a line's end, and some do not";
        return (None, vec![Diagnostic::new(Code::NotYaml, place, what)]);
    }
    let end = end(text);
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    // By its events, because the parser's own loop calls itself for each level
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                let place = place(&span);
                if !builder.event(event, if place.line > end.line { end } else { place }) {
                    return (None, builder.problems);
                }
            }
            Err(error) => {
                let at = error.marker();
                let problem = not_yaml(text, at.line(), at.col() + 1, error.info());
                // Braces that have been looked at as a mapping first may be what the parser stumbles over then
                let near = |line: usize| line == problem.place.line || line + 1 == problem.place.line;
                let told = |other: &Diagnostic| other.code == Code::Unquoted && near(other.place.line);
                if !builder.problems.iter().any(told) {
                    builder.problems.push(problem);
                }
                return (None, builder.problems);
            }
        }
    }
    for problem in builder.problems.iter_mut().filter(|problem| problem.code == Code::Unquoted) {
        let line = text.lines().nth(problem.place.line - 1).and_then(unquoted);
        if let Some((_, width)) = line.filter(|(column, _)| *column == problem.place.column) {
            problem.place.width = width;
        }
    }
    if builder.root.as_ref().is_none_or(Node::is_nothing) && builder.problems.is_empty() {
        let start = Place { line: 1, column: 1, width: 1 };
        let what = "the file is empty: a config begins with `version: 1`";
        return (None, vec![Diagnostic::new(Code::Empty, start, what)]);
    }
    (builder.root, builder.problems)
}

/// Behind the last character. The parser sees a line's end there, whether there is one or not.
fn end(text: &str) -> Place {
    let last = text.rsplit('\n').next().unwrap_or_default();
    Place { line: text.matches('\n').count() + 1, column: last.chars().count() + 1, width: 1 }
}

fn lone_return(text: &str) -> Option<Place> {
    let at = text.match_indices('\r').map(|(at, _)| at).find(|at| !text[at + 1..].starts_with('\n'))?;
    let before = text[..at].rsplit('\n').next().unwrap_or_default();
    let line = text[..at].matches('\n').count() + 1;
    Some(Place { line, column: before.chars().count() + 1, width: 1 })
}

/// What the loader's own parser finds wrong with a text that passed here.
pub(super) fn refused_by_loader(text: &str) -> Option<Diagnostic> {
    let error = serde_yaml::from_str::<serde_yaml::Value>(text).err()?;
    let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
    let words = error.to_string();
    Some(not_yaml(text, line, column, words.split(" at line ").next().unwrap_or_default()))
}

fn not_yaml(text: &str, line: usize, column: usize, info: &str) -> Diagnostic {
    let found = |number: usize| {
        let place = text.lines().nth(number.wrapping_sub(1)).and_then(unquoted);
        place.map(|(column, width)| Place { line: number, column, width })
    };
    // The parser may go on to the next line before it sees that something is wrong
    if let Some(place) = found(line).or_else(|| found(line.wrapping_sub(1))) {
        return Diagnostic::new(Code::Unquoted, place, QUOTE);
    }
    let mut place = Place { line: line.max(1), column, width: 1 };
    let lines: Vec<&str> = text.split('\n').collect();
    if place.line > lines.len() {
        place = end(text); // what is missing at the end is missing behind the last line
    }
    let length = lines[place.line - 1].chars().count();
    place.column = place.column.clamp(1, length + 1);
    if info.contains("recursion limit") {
        return Diagnostic::new(Code::TooDeep, place, format!("more than {MAX_DEPTH} levels deep: no config is"));
    }
    let blanks = |line: &str| line.find(|c| c != ' ').filter(|at| line[*at..].starts_with('\t'));
    let mut hint = "";
    if let Some(tab) = blanks(lines[place.line - 1]) {
        (place.column, hint) = (tab + 1, ": indent with blanks, not with tabs");
    }
    Diagnostic::new(Code::NotYaml, place, format!("this is not YAML: {info}{hint}"))
}

const QUOTE: &str = "a value that begins with `{{` needs quotes around it: \"{{ … }}\"";

/// Column and width of a `{{` that begins a value.
fn unquoted(line: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = line[from..].find("{{").map(|at| at + from) {
        let before = line[..at].trim_end();
        let begins = before.ends_with('[') || before.len() < at && before.ends_with([':', '-', ',']);
        if begins && !before.contains(" #") {
            let end = line.rfind("}}").map_or(at + 2, |end| end + 2).max(at + 2);
            return Some((line[..at].chars().count() + 1, line[at..end].chars().count()));
        }
        from = at + 2;
    }
    None
}

/// A mapping or sequence that is still open.
enum Open {
    List(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<(Key, Node)>,
    /// The line of each key.
    lines: HashMap<String, usize>,
    /// What the next node belongs to.
    next: Next,
    /// Something that makes the mapping as a whole unfit to be looked at.
    broken: bool,
}

#[derive(Default)]
enum Next {
    #[default]
    Key,
    Value(Key),
    /// The value of a key that was refused.
    Nothing,
}

#[derive(Default)]
struct Builder {
    open: Vec<(Open, Place, usize)>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    problems: Vec<Diagnostic>,
}

impl Builder {
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
                self.put(node, anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                tag.inspect(|tag| drop(self.tagged(place, &tag.suffix)));
                self.open.push((Open::List(Vec::new()), place, anchor));
            }
            Event::MappingStart(anchor, tag) => {
                tag.inspect(|tag| drop(self.tagged(place, &tag.suffix)));
                self.open.push((Open::Map(OpenMap::default()), place, anchor));
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
            Some((Open::List(items), ..)) => items.push(node),
            Some((Open::Map(map), ..)) => match std::mem::take(&mut map.next) {
                Next::Value(key) => {
                    // A value that is not there is seen at its key
                    let place = if node.is_nothing() { key.place } else { node.place };
                    map.entries.push((key, Node { place, ..node }));
                }
                Next::Key => self.key(node),
                Next::Nothing => {}
            },
        }
    }

    fn key(&mut self, node: Node) {
        let place = node.place;
        let Some((Open::Map(map), ..)) = self.open.last_mut() else { return };
        map.next = Next::Nothing;
        let name = match node.value {
            Value::Scalar { text, .. } if text != "<<" => text,
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
                map.next = Next::Value(Key { name, place });
            }
        }
    }

    fn close(&mut self) {
        let Some((open, place, anchor)) = self.open.pop() else { return };
        let value = match open {
            Open::List(items) => Value::List(items),
            Open::Map(map) if map.broken => Value::Broken,
            Open::Map(map) => Value::Map(map.entries),
        };
        self.put(Node { value, place }, anchor);
    }
}

fn place(span: &Span) -> Place {
    let width = if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Place { line: span.start.line().max(1), column: span.start.col() + 1, width: width.max(1) }
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
mod tests {
    use super::*;

    #[track_caller]
    fn problem(text: &str, code: Code) -> (usize, usize, String) {
        let (_, problems) = parse(text);
        let [Diagnostic { code: found, place, message }] = problems.as_slice() else { panic!("one: {problems:?}") };
        assert_eq!(*found, code, "{message}");
        (place.line, place.column, message.clone())
    }

    fn good(text: &str) -> Node {
        let (root, problems) = parse(text);
        assert_eq!(problems, []);
        root.expect("it is YAML")
    }

    #[test]
    fn keys_and_values_know_their_places() {
        let root = good("a: 1\nb:\n  - x\n  - {c: 'd'}\n");
        let path = [Step::Key("b"), Step::Index(1), Step::Key("c")];
        assert_eq!(root.at(&path).place, Place { line: 4, column: 9, width: 3 });
        assert_eq!(root.key_at(&path), Place { line: 4, column: 6, width: 1 });
        assert_eq!(root.at(&[Step::Key("b"), Step::Index(7)]).place.line, 3, "what is not there: its parent");
    }

    #[test]
    fn what_the_two_parsers_could_read_differently_is_refused() {
        let twice = problem("a: 1\nb: 2\na: 3\n", Code::KeyTwice);
        assert_eq!((twice.0, twice.1), (3, 1));
        assert!(twice.2.starts_with("`a` is here twice, first on line 1"), "{}", twice.2);
        assert!(problem("a: 1\n---\nb: 2\n", Code::Documents).2.contains("second document"));
        assert!(problem("x: &x {a: 1}\ny:\n  <<: *x\n", Code::MergeKey).2.contains("merge keys"));
        assert_eq!(problem("t: {{ ts }}\n", Code::Unquoted).1, 4);
        assert_eq!(problem("t: {{ ts }} x\n", Code::Unquoted).1, 4);
        assert_eq!(problem("a: [{{ ts }} x]\n", Code::Unquoted).1, 5);
        assert_eq!(problem("a: !!str 1\n", Code::Tag).0, 1);
        assert_eq!(problem("[a]: 1\n", Code::WrongType).0, 1);
        assert!(problem("", Code::Empty).2.contains("empty"));
        assert!(problem("---\n", Code::Empty).2.contains("empty"));
    }

    #[test]
    fn anchors_work_and_bombs_do_not() {
        let root = good("x: &x [1, 2]\ny: *x\n");
        assert!(matches!(&root.get("y").unwrap().value, Value::List(items) if items.len() == 2));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb += &format!("a{i}: &a{i} [{list}]\n");
        }
        assert!(problem(&bomb, Code::Alias).2.contains("multiply"));
        assert_eq!(problem("a: &a [*a]\n", Code::Alias).1, 8);
    }

    #[test]
    fn what_is_nested_without_end_is_refused_at_once() {
        for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", "")] {
            let text = open.repeat(100_000) + &close.repeat(100_000);
            problem(&text, Code::TooDeep);
        }
        let mut chain = format!("a0: &a0 {}x{}\n", "[".repeat(40), "]".repeat(40));
        chain += "a1: [[[[[[[[[[[[[[[[[[[[[[[[[[*a0]]]]]]]]]]]]]]]]]]]]]]]]]]\n";
        problem(&chain, Code::Alias);
    }

    #[test]
    fn all_that_can_be_told_at_once_is_told() {
        let (root, problems) = parse("a: 1\na: 2\nb: {<<: x}\nc: {{ x }}\nd: !x y\n");
        let codes: Vec<Code> = problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, [Code::KeyTwice, Code::MergeKey, Code::Unquoted, Code::Tag]);
        assert!(root.is_some());
    }
}
