//! The config: YAML in, checked and typed values out. Knows nothing of BPF.

pub mod diagnostic;
pub mod files;
pub mod model;
pub mod quantity;
mod structure;
pub mod window;
pub mod yaml;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::event::text::push_shown;
use diagnostic::{Diagnostic, render};
use model::Config;
use yaml::Node;

/// More than any config that a person would review.
const MAX_BYTES: u64 = 1 << 20;

/// A config as it was written, with its text and the place of each of its values.
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
}

impl Source {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// [`Kind::Config`] if it can't be read or its structure is wrong, with every problem of it.
    pub fn read(path: &Path) -> Result<Self> {
        let mut shown = String::new(); // on one line, whatever the file is called
        push_shown(path.as_os_str().as_encoded_bytes(), &mut shown);
        let unreadable = |what: String| Error::new(Kind::Config, format!("{shown} can't be read: {what}"));
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
        match read {
            Err(error) => return Err(unreadable(error.to_string())),
            Ok(size) if size as u64 > MAX_BYTES => {
                return Err(unreadable(format!("it is larger than {MAX_BYTES} bytes, and no config is")));
            }
            Ok(_) => {}
        }
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Source::parse(shown, stem, text)
    }

    /// Parses `text`, which messages call `path`.
    ///
    /// # Errors
    /// [`Kind::Config`] with every problem of its structure.
    pub fn parse(path: String, stem: String, text: String) -> Result<Self> {
        let wrong = |problems: &[Diagnostic]| Error::new(Kind::Config, render(&path, &text, problems));
        let root = yaml::parse(&text).map_err(|problem| wrong(&[problem]))?;
        let problems = structure::check(&root);
        if !problems.is_empty() {
            return Err(wrong(&problems));
        }
        // The schema let it pass, so this fails only where schema and types disagree; a test keeps them together
        let config = serde_yaml::from_str(&text).map_err(|error| {
            let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            let place = diagnostic::Place { line, column, width: 1 };
            wrong(&[Diagnostic { place, message: error.to_string() }])
        })?;
        Ok(Source { path, stem, text, root, config })
    }

    /// The error that consists of `problems`.
    pub fn error(&self, problems: &[Diagnostic]) -> Error {
        Error::new(Kind::Config, render(&self.path, &self.text, problems))
    }
}

#[cfg(test)]
mod tests;
