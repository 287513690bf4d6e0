//! The config: YAML in, checked and typed values out. Knows nothing of BPF.

pub mod code;
pub mod diagnostic;
pub mod files;
pub mod model;
pub mod quantity;
pub mod structure;
mod syntax;
pub mod window;
pub mod yaml;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::event::text::push_shown;
use diagnostic::{Code, Diagnostic, Place, render};
use model::Config;
use yaml::{Node, Step};

/// More than any config that a person would review.
const MAX_BYTES: u64 = 1 << 20;

/// A config as it was written, with its text and the place of each of its values.
///
/// It may have problems: what has one is left out of `root` and `config`, so that the rest can be looked at too.
/// [`plan`](crate::plan::plan) makes an error of them.
#[derive(Debug)]
pub struct Source {
    /// The file as messages name it.
    pub path: String,
    /// The name that the capture has unless the config says otherwise.
    pub stem: String,
    /// The whole text.
    pub text: String,
    /// The text as a tree with places.
    pub root: Node,
    /// The text as types.
    pub config: Config,
    /// The problems of its structure.
    pub problems: Vec<Diagnostic>,
    /// The tree with all that was left out, if something was.
    written: Option<Node>,
}

/// A file that nothing more can be said about than its problems.
#[derive(Debug)]
pub struct Unusable {
    /// The file as messages name it.
    pub path: String,
    /// The text, as far as it could be read.
    pub text: String,
    /// What is wrong.
    pub problems: Vec<Diagnostic>,
}

impl From<Unusable> for Error {
    fn from(file: Unusable) -> Self {
        Error::new(Kind::Config, render(&file.path, &file.text, &file.problems))
    }
}

/// A path on one line, whatever the file is called.
pub fn shown(path: &Path) -> String {
    let mut shown = String::new();
    push_shown(path.as_os_str().as_encoded_bytes(), &mut shown);
    shown
}

fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(error.to_string()),
        Ok(size) if size as u64 > MAX_BYTES => Err(format!("it is larger than {MAX_BYTES} bytes, and no config is")),
        Ok(_) => Ok(text),
    }
}

impl Source {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// If it can't be read, or not so that more could be said about it.
    pub fn read(path: &Path) -> Result<Self, Unusable> {
        match read_text(path) {
            Ok(text) => {
                let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
                Source::parse(shown(path), stem, text)
            }
            Err(what) => {
                let place = Place { line: 1, column: 1, width: 1 };
                let problems = vec![Diagnostic::new(Code::Unreadable, place, format!("it can't be read: {what}"))];
                Err(Unusable { path: shown(path), text: String::new(), problems })
            }
        }
    }

    /// Parses `text`, which messages call `path`.
    ///
    /// # Errors
    /// If it is no YAML, or so little of a config that no more can be said.
    pub fn parse(path: String, stem: String, text: String) -> Result<Self, Unusable> {
        let (root, mut problems) = yaml::parse(&text);
        let written = root.clone();
        let root = root.and_then(|root| {
            let (more, rest) = structure::check(root);
            problems.extend(more);
            rest
        });
        let loaded = match &root {
            Some(_) if problems.is_empty() => serde_yaml::from_str(&text),
            Some(root) => serde_yaml::from_value(root.to_yaml()),
            None => return Err(Unusable { path, text, problems }),
        };
        match loaded {
            Ok(config) => {
                let written = written.filter(|_| !problems.is_empty());
                Ok(Source { path, stem, text, root: root.expect("it was loaded"), config, problems, written })
            }
            Err(error) => {
                if problems.is_empty() {
                    problems.extend(syntax::refused_by_loader(&text));
                }
                if problems.is_empty() {
                    // The schema let it pass: a test keeps schema and types together
                    let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
                    let place = Place { line, column, width: 1 };
                    problems.push(Diagnostic::new(Code::Disagreement, place, error.to_string()));
                }
                Err(Unusable { path, text, problems })
            }
        }
    }

    /// Whether something was left out at `path` of the file, or below it: what seems to be missing there may be there.
    /// (Entries of lists are counted as they are written.)
    pub fn is_whole(&self, path: &[Step<'_>]) -> bool {
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
        Error::new(Kind::Config, render(&self.path, &self.text, problems))
    }
}

#[cfg(test)]
mod tests;
