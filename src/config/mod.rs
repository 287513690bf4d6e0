//! The config: YAML in, checked and typed values out. Knows nothing of BPF.

pub mod code;
pub(crate) mod deceptive_characters;
pub mod defaults;
pub mod diagnostic;
mod environment;
pub mod files;
mod include;
mod merge;
pub mod model;
pub mod origin;
pub mod quantity;
pub mod schedule;
mod set;
pub mod shorthand;
pub mod structure;
mod syntax;
pub mod typed;
pub mod window;
pub mod yaml;
mod yaml_dialects;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::event::text::push_shown;
use diagnostic::{Code, Diagnostic, Place, Text, TextKind, nearest, render};
use model::Config;
use shorthand::Output;
use yaml::{Node, TreeStep, Value};

/// More than any config that a person would review.
const MAX_BYTES: u64 = 1 << 20;

/// What the command line says over a config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// The arguments of `--filter`, `NAME=VALUE` each.
    pub filters: Vec<String>,
    /// `--output` or `--json`.
    pub output: Option<Output>,
    /// The arguments of `--set`, `PATH=VALUE` each; they override the others.
    pub sets: Vec<String>,
}

impl Arguments {
    /// None.
    pub const NONE: Arguments = Arguments { filters: Vec::new(), output: None, sets: Vec::new() };
}

/// Values from outside of the config's files.
#[derive(Clone, Copy)]
pub struct Overlay<'a> {
    /// The arguments of the command line.
    pub arguments: &'a Arguments,
    /// The value of a variable of the environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Overlay<'_> {
    /// Nothing.
    pub const NOTHING: Overlay<'static> = Overlay { arguments: &Arguments::NONE, environment: &|_| None };
}

impl fmt::Debug for Overlay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

/// A config as it was written, with its texts and the place of each of its values.
///
/// It may have problems: values that have one are not in `root` and `config`, so that the rest can be checked too.
/// [`plan`](crate::plan::plan) makes an error of them.
#[derive(Debug)]
pub struct Source {
    /// The name that the capture has unless the config says otherwise.
    pub stem: String,
    /// The file itself, then the files that it includes, then the arguments of the command line.
    pub texts: Vec<Text>,
    /// All of them as one tree with places; each probe has its defaults.
    pub root: Node,
    /// The same as types.
    pub config: Config,
    /// The problems of its structure.
    pub problems: Vec<Diagnostic>,
    /// The tree with the values that have problems, if there are some.
    written: Option<Node>,
    /// Whether a file that it includes could not be read.
    incomplete: bool,
    /// What probes have from `defaults`.
    default_keys: merge::DefaultKeys,
    /// Which values came from the environment.
    environment: environment::EnvRefs,
}

/// A file of which nothing more is known than its problems.
#[derive(Debug)]
pub struct LoadError {
    /// The file, as far as it could be read, and what belongs to it.
    pub texts: Vec<Text>,
    /// What is wrong.
    pub problems: Vec<Diagnostic>,
}

impl From<LoadError> for Error {
    fn from(file: LoadError) -> Self {
        Error::new(Kind::Config, render(&file.texts, &file.problems))
    }
}

/// A path on one line, whatever the file is called.
pub fn shown(path: &Path) -> String {
    let mut shown = String::new();
    push_shown(path.as_os_str().as_encoded_bytes(), &mut shown);
    shown
}

/// Why a file can't be read, and its text and the place if it is known where.
struct ReadFailure {
    what: String,
    at: Option<(String, Place)>,
}

impl From<String> for ReadFailure {
    fn from(what: String) -> Self {
        ReadFailure { what, at: None }
    }
}

fn read_text(path: &Path) -> Result<String, ReadFailure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(error.to_string().into()),
        Ok(size) if size as u64 > MAX_BYTES => Err(format!("the file is larger than {MAX_BYTES} bytes").into()),
        Ok(_) => decode(bytes),
    }
}

/// The text of a file. Some editors begin it with a byte order mark, which has no meaning in UTF-8.
///
/// # Errors
/// The encoding that it seems to have, or where it is not UTF-8.
fn decode(bytes: Vec<u8>) -> Result<String, ReadFailure> {
    let other = match bytes.as_slice() {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ => None,
    };
    if let Some(encoding) = other {
        return Err(format!("the file is {encoding}: save it as UTF-8").into());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let (good, rest) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
            let good = String::from_utf8_lossy(good);
            let (line, column) = (good.matches('\n').count() + 1, syntax::end(&good).column);
            let byte = rest.first().copied().unwrap_or_default();
            let what = format!("it is not UTF-8: byte 0x{byte:02x} in line {line}, column {column}; save it as UTF-8");
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Err(ReadFailure { what, at: Some((text, Place::new(line, column, 1))) })
        }
    }
}

impl Source {
    /// Reads the file `path` and what it includes.
    ///
    /// # Errors
    /// If it can't be read, or is not a mapping.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        Source::read_with(path, Overlay::NOTHING)
    }

    /// As [`read`](Source::read), with values from outside.
    ///
    /// # Errors
    /// If it can't be read, or is not a mapping.
    pub fn read_with(path: &Path, outside: Overlay<'_>) -> Result<Self, LoadError> {
        match read_text(path).and_then(|text| Ok(include::may_be_shown(path, &text).map(|()| text)?)) {
            Ok(text) => {
                let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
                let main = Text::new(TextKind::Config, shown(path), text);
                build(main, stem, Some(path), outside)
            }
            Err(ReadFailure { what, at }) => {
                let at = at.filter(|(text, _)| include::may_be_shown(path, text).is_ok());
                let (text, place) = at.unwrap_or((String::new(), Place::new(1, 1, 1)));
                let problems = vec![Diagnostic::new(Code::Unreadable, place, format!("can't read the file: {what}"))];
                Err(LoadError { texts: vec![Text::new(TextKind::Config, shown(path), text)], problems })
            }
        }
    }

    /// Parses `text`, called `path` in messages. It can't include files.
    ///
    /// # Errors
    /// If it is not YAML, or not a mapping.
    pub fn parse(path: String, stem: String, text: String) -> Result<Self, LoadError> {
        Source::parse_with(path, stem, text, Overlay::NOTHING)
    }

    /// As [`parse`](Source::parse), with values from outside.
    ///
    /// # Errors
    /// If it is not YAML, or not a mapping.
    pub fn parse_with(path: String, stem: String, text: String, outside: Overlay<'_>) -> Result<Self, LoadError> {
        build(Text::new(TextKind::Config, path, text), stem, None, outside)
    }

    /// The file as messages name it.
    pub fn path(&self) -> &str {
        &self.texts[0].name
    }

    /// Whether the value of `key` in the mapping at `path` is not known: it has a problem, or may be meant by a key that has one.
    pub fn is_lost(&self, path: &[TreeStep<'_>], key: &str) -> bool {
        let Some(mut node) = self.written.as_ref() else { return false };
        for (depth, step) in path.iter().enumerate() {
            let next = match (step, &node.value) {
                (TreeStep::Key(name), _) => node.get(name),
                // Entries that have problems are not counted in `path`
                (TreeStep::Index(_), Value::List(items)) => {
                    let place = self.root.at(&path[..=depth]).place;
                    items.iter().find(|item| item.place == place)
                }
                _ => None,
            };
            match (next, step) {
                (Some(next), _) => node = next,
                (None, TreeStep::Key(name)) => return self.is_lost(&path[..depth], name),
                (None, TreeStep::Index(_)) => return true,
            }
        }
        let Value::Map(written) = &node.value else { return true };
        let here = self.root.at(path);
        let count = |node: Option<&Node>| node.map_or(0, Node::count);
        let text = |node: Option<&Node>| match node.map(|node| &node.value) {
            Some(Value::Scalar { text, .. }) => Some(text.clone()),
            _ => None,
        };
        let is_left = |name: &str| here.get(name).is_some();
        count(node.get(key)) != count(here.get(key))
            || text(node.get(key)) != text(here.get(key))
            || written.iter().any(|(other, value)| {
                other.is_unreadable(value) || !is_left(&other.name) && nearest(&other.name, [key]).is_some()
            })
    }

    /// The probes of the file, those with problems too.
    pub fn written_probes(&self) -> usize {
        match self.written().get("probes").map(|probes| &probes.value) {
            Some(Value::List(probes)) => probes.len(),
            _ => 0,
        }
    }

    /// The names in the mapping `key` of the file, those with problems too; `None` if there may be more.
    pub fn written_names(&self, key: &str) -> Option<Vec<&str>> {
        match self.written().get(key) {
            Some(node) if matches!(node.value, Value::Map(_)) && !node.has_unreadable_key() => {
                Some(node.entries().iter().map(|(key, _)| key.name.as_str()).collect())
            }
            Some(_) => None,
            None if self.is_partial() || self.is_lost(&[], key) => None,
            None => Some(Vec::new()),
        }
    }

    /// The tree of the whole file.
    pub fn written(&self) -> &Node {
        self.written.as_ref().unwrap_or(&self.root)
    }

    /// The error that consists of `problems`.
    pub fn error(&self, problems: &[Diagnostic]) -> Error {
        Error::new(Kind::Config, render(&self.texts, problems))
    }
}

/// Puts a config together: includes under the file, the command line over both, the environment into them; then the
/// structure of all that, and the defaults into each probe.
fn build(main: Text, stem: String, path: Option<&Path>, outside: Overlay<'_>) -> Result<Source, LoadError> {
    let mut texts = vec![main];
    let (root, mut problems) = yaml::parse(&texts[0].content);
    let Some(root) = root else { return Err(LoadError { texts, problems }) };
    if let Some(problem) = structure::foreign(&root) {
        problems.push(problem);
        return Err(LoadError { texts, problems });
    }
    let included = include::follow(path, &root, &mut texts);
    let mut incomplete = included.incomplete;
    problems.extend(included.problems);
    let mut layers = included.roots.into_iter().chain([root]);
    let mut root = layers.next().expect("the file itself is one");
    for layer in layers {
        root = merge::under(root, layer, &texts, &mut problems);
    }
    problems.extend(apply(outside.arguments, &mut root, &mut texts));
    let (environment, unset) = environment::expand(&mut root, &texts, outside.environment);
    problems.extend(unset);

    let (mut written, place) = (root.clone(), root.place);
    let (more, rest) = structure::check(root);
    // A key that seems to be missing may be in the file that could not be included
    let elsewhere = |problem: &Diagnostic| incomplete && problem.code == Code::MissingKey && problem.place == place;
    problems.extend(more.into_iter().filter(|problem| !elsewhere(problem)));
    let Some(mut root) = rest else { return Err(LoadError { texts, problems }) };
    let both = merge::apply_defaults(&mut root).and_then(|keys| merge::apply_defaults(&mut written).map(|_| keys));
    let default_keys = match both {
        Ok(keys) => keys,
        Err(problem) => {
            problems.push(problem);
            incomplete = true;
            merge::DefaultKeys::new()
        }
    };
    let plain = texts.len() == 1 && default_keys.is_empty() && environment.is_empty() && problems.is_empty();
    let loaded = if plain && !texts[0].content.contains("${") {
        serde_yaml::from_str(&texts[0].content)
    } else {
        serde_yaml::from_value(root.to_yaml())
    };
    match loaded {
        Ok(config) => {
            let written = Some(written).filter(|_| !problems.is_empty());
            Ok(Source { stem, texts, root, config, problems, written, incomplete, default_keys, environment })
        }
        Err(error) => {
            if problems.is_empty() {
                problems.extend(syntax::refused_by_loader(&texts[0].content));
            }
            if problems.is_empty() {
                // The schema let it pass: a test keeps schema and types together
                let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
                let place = Place::new(line, column, 1);
                problems.push(Diagnostic::new(Code::Disagreement, place, error.to_string()));
            }
            Err(LoadError { texts, problems })
        }
    }
}

/// Puts what the command line says into `root`; each argument is one more text.
fn apply(arguments: &Arguments, root: &mut Node, texts: &mut Vec<Text>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut add = |name: String, content: &str| {
        texts.push(Text::new(TextKind::Argument, name, content));
        (texts.len() - 1, texts.last().cloned().expect("one was added"))
    };
    if let Some(output) = &arguments.output {
        let (number, text) = add(output.option().to_owned(), output.argument());
        problems.extend(shorthand::output(root, number, output, &text));
    }
    let mut filters = Vec::new();
    for (nth, argument) in (1..).zip(&arguments.filters) {
        let (number, text) = add(format!("--filter #{nth}"), argument);
        problems.extend(shorthand::filter(root, number, &text, &mut filters));
    }
    for (nth, argument) in (1..).zip(&arguments.sets) {
        let (number, text) = add(format!("--set #{nth}"), argument);
        problems.extend(set::apply(root, number, &text));
    }
    problems
}

#[cfg(test)]
mod tests;
