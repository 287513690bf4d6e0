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
use diagnostic::{Code, Diagnostic, Place, Text, TextKind, render};
use model::Config;
use shorthand::Output;
use yaml::{Node, TreeStep};

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

/// What a config gets from outside of its files.
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
/// It may have problems: what has one is left out of `root` and `config`, so that the rest can be looked at too.
/// [`plan`](crate::plan::plan) makes an error of them.
#[derive(Debug)]
pub struct Source {
    /// The name that the capture has unless the config says otherwise.
    pub stem: String,
    /// The file itself, then the files that it includes, then the arguments of the command line.
    pub texts: Vec<Text>,
    /// All of them as one tree with places, and each probe with what the defaults say.
    pub root: Node,
    /// The same as types.
    pub config: Config,
    /// The problems of its structure.
    pub problems: Vec<Diagnostic>,
    /// The tree with all that was left out, if something was.
    written: Option<Node>,
    /// What probes have from `defaults`.
    default_keys: merge::DefaultKeys,
    /// Which values came from the environment.
    environment: environment::EnvRefs,
}

/// A file that nothing more can be said about than its problems.
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

fn read_text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(error.to_string()),
        Ok(size) if size as u64 > MAX_BYTES => Err(format!("it is larger than {MAX_BYTES} bytes, and no config is")),
        Ok(_) => decode(bytes),
    }
}

/// The text of a file. Some editors begin it with a byte order mark, which says nothing in UTF-8.
///
/// # Errors
/// The encoding that it seems to have, or where it is not UTF-8.
fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let other = match bytes.as_slice() {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ => None,
    };
    if let Some(encoding) = other {
        return Err(format!("it is {encoding}, and a config is UTF-8: save it as UTF-8"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let (good, rest) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
            let good = String::from_utf8_lossy(good);
            let (line, column) = (good.matches('\n').count() + 1, syntax::end(&good).column);
            let byte = rest.first().copied().unwrap_or_default();
            Err(format!("it is not UTF-8: byte 0x{byte:02x} in line {line}, column {column}; save it as UTF-8"))
        }
    }
}

impl Source {
    /// Reads the file `path` and what it includes.
    ///
    /// # Errors
    /// If it can't be read, or not so that more could be said about it.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        Source::read_with(path, Overlay::NOTHING)
    }

    /// As [`read`](Source::read), with what comes from outside.
    ///
    /// # Errors
    /// If it can't be read, or not so that more could be said about it.
    pub fn read_with(path: &Path, outside: Overlay<'_>) -> Result<Self, LoadError> {
        match read_text(path).and_then(|text| include::may_be_shown(path, &text).map(|()| text)) {
            Ok(text) => {
                let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
                let main = Text::new(TextKind::Config, shown(path), text);
                build(main, stem, Some(path), outside)
            }
            Err(what) => {
                let place = Place::new(1, 1, 1);
                let problems = vec![Diagnostic::new(Code::Unreadable, place, format!("it can't be read: {what}"))];
                Err(LoadError { texts: vec![Text::new(TextKind::Config, shown(path), "")], problems })
            }
        }
    }

    /// Parses `text`, which messages call `path`. It can't include anything.
    ///
    /// # Errors
    /// If it is no YAML, or so little of a config that no more can be said.
    pub fn parse(path: String, stem: String, text: String) -> Result<Self, LoadError> {
        Source::parse_with(path, stem, text, Overlay::NOTHING)
    }

    /// As [`parse`](Source::parse), with what comes from outside.
    ///
    /// # Errors
    /// If it is no YAML, or so little of a config that no more can be said.
    pub fn parse_with(path: String, stem: String, text: String, outside: Overlay<'_>) -> Result<Self, LoadError> {
        build(Text::new(TextKind::Config, path, text), stem, None, outside)
    }

    /// The file as messages name it.
    pub fn path(&self) -> &str {
        &self.texts[0].name
    }

    /// Whether something was left out at `path` of the file, or below it: what seems to be missing there may be there.
    /// (Entries of lists are counted as they are written.)
    pub fn is_whole(&self, path: &[TreeStep<'_>]) -> bool {
        self.written.as_ref().is_none_or(|written| written.at(path).count() == self.root.at(path).count())
    }

    /// How many probes the file has, those with problems too.
    pub fn written_probes(&self) -> usize {
        match self.written().get("probes").map(|probes| &probes.value) {
            Some(yaml::Value::List(probes)) => probes.len(),
            _ => 0,
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
    let incomplete = !included.problems.is_empty();
    problems.extend(included.problems);
    let mut layers = included.roots.into_iter().chain([root]);
    let mut root = layers.next().expect("the file itself is one");
    for layer in layers {
        root = merge::under(root, layer, &texts, &mut problems);
    }
    problems.extend(apply(outside.arguments, &mut root, &mut texts));
    let (environment, unset) = environment::expand(&mut root, &texts, outside.environment);
    problems.extend(unset);

    let mut written = root.clone();
    let (more, rest) = structure::check(root);
    // What seems to be missing may be in the file that could not be included
    problems.extend(more.into_iter().filter(|problem| !incomplete || problem.code != Code::MissingKey));
    let Some(mut root) = rest.filter(|_| !incomplete) else { return Err(LoadError { texts, problems }) };
    let both = merge::apply_defaults(&mut root).and_then(|keys| merge::apply_defaults(&mut written).map(|_| keys));
    let default_keys = match both {
        Ok(keys) => keys,
        Err(problem) => {
            problems.push(problem);
            return Err(LoadError { texts, problems });
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
            Ok(Source { stem, texts, root, config, problems, written, default_keys, environment })
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
