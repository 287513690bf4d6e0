//! Checks config files and writes their problems for terminals, scripts and GitHub. Loads no program and does not ask the kernel.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::catalog::Catalog;
use crate::config::diagnostic::{Code, Diagnostic, Place, Text, TextKind, render, sorted};
use crate::config::{Overlay, Source, shown};
use crate::error::{Error, Kind, Result};
use crate::event::text::safe_json;
use crate::plan::{Overrides, examine};

/// Endings of the files that are looked for in folders.
const ENDINGS: &[&str] = &["yaml", "yml"];

/// How problems are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a terminal: file:line:column, the line, a caret under the culprit
    Human,
    /// One JSON object a line for each problem
    Json,
    /// Annotations of a GitHub workflow
    Github,
}

/// A file with problems.
#[derive(Debug)]
pub struct InvalidFile {
    /// Its text, as far as it could be read, and what belongs to it.
    pub texts: Vec<Text>,
    /// What is wrong.
    pub problems: Vec<Diagnostic>,
}

/// The files that `paths` stand for: a file for itself, a folder for every `*.yaml` and `*.yml` in it and below. What is
/// hidden or no file is left out, and links to folders are not followed.
///
/// # Errors
/// [`Kind::Config`] if a folder has none or can't be read: a check of nothing must not pass.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone()); // if it is not there, reading it says so
            continue;
        }
        let before = files.len();
        within(path, &mut files)?;
        if files.len() == before {
            let what = format!("no *.yaml or *.yml in {} or below it", shown(path));
            return Err(Error::new(Kind::Config, what));
        }
    }
    let mut seen = HashSet::new();
    files.retain(|path| seen.insert(path.clone()));
    Ok(files)
}

fn within(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |error| Error::new(Kind::Config, format!("can't read {}: {error}", shown(folder)));
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() {
            if !hidden && !path.is_symlink() {
                within(&path, files)?;
            }
        } else if !hidden && path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
            // A broken link is reported; opening a pipe would block
            if path.is_file() || !path.exists() {
                files.push(path);
            }
        }
    }
    Ok(())
}

/// Everything that is wrong with the file `path`; `None` if nothing is.
///
/// # Errors
/// If an embedded program is broken.
pub fn check(path: &Path, catalog: &Catalog, outside: Overlay<'_>) -> Result<Option<InvalidFile>> {
    judge(Source::read_with(path, outside), catalog)
}

/// As [`check`], of a text that messages call `path`.
///
/// # Errors
/// If an embedded program is broken.
pub fn check_text(path: &str, text: &str, catalog: &Catalog, outside: Overlay<'_>) -> Result<Option<InvalidFile>> {
    judge(Source::parse_with(path.into(), path.into(), text.into(), outside), catalog)
}

fn judge(source: Result<Source, crate::config::LoadError>, catalog: &Catalog) -> Result<Option<InvalidFile>> {
    let faulty = match source {
        Ok(source) => {
            let (_, problems) = examine(&source, catalog, &Overrides::default())?;
            InvalidFile { texts: source.texts, problems }
        }
        Err(file) => InvalidFile { texts: file.texts, problems: file.problems },
    };
    Ok(Some(faulty).filter(|file| !file.problems.is_empty()))
}

impl InvalidFile {
    /// The problems in the order of the file, with a line's end behind each.
    pub fn written(&self, format: Format) -> String {
        match format {
            Format::Human if self.problems.is_empty() => String::new(),
            Format::Human => render(&self.texts, &self.problems) + "\n",
            Format::Json => self.each(|problem, file, line, out| {
                let Diagnostic { code, place, message } = problem;
                let object = json!({
                    "file": file, "line": place.line, "column": place.column, "end_column": end(problem, line),
                    "code": code.as_str(), "title": code.title(), "message": message, "source": line,
                });
                out.push_str(&safe_json(&object.to_string()));
            }),
            Format::Github => self.each(|problem, file, line, out| {
                let Diagnostic { code, place, message } = problem;
                let (file, title) = (property(file), property(&format!("{code} {}", code.title())));
                let (at, to) = (place.column, end(problem, line));
                write!(out, "::error file={file},line={},col={at},endColumn={to},title={title}::", place.line)
                    .expect("a String takes all");
                out.push_str(&escaped(message));
            }),
        }
    }

    /// Removes the problems of included files that are in `reported`, and adds the others to it.
    pub fn leave_out(&mut self, reported: &mut HashSet<(String, Diagnostic)>) {
        let texts = &self.texts;
        self.problems.retain(|problem| {
            let text = &texts[problem.place.text];
            let place = Place { text: 0, ..problem.place };
            text.kind == TextKind::Argument
                || reported.insert((text.name.clone(), Diagnostic { place, ..problem.clone() }))
        });
    }

    /// Adds the config's name to the name of each argument of the command line.
    pub fn name_arguments(&mut self) {
        let config = self.texts[0].name.clone();
        for text in self.texts.iter_mut().filter(|text| text.kind == TextKind::Argument) {
            text.name = format!("{} on {config}", text.name);
        }
    }

    fn each(&self, push: impl Fn(&Diagnostic, &str, &str, &mut String)) -> String {
        let mut out = String::new();
        for problem in sorted(&self.problems) {
            let text = &self.texts[problem.place.text];
            let line = text.content.lines().nth(problem.place.line.wrapping_sub(1)).unwrap_or_default();
            push(problem, &text.name, line, &mut out);
            out.push('\n');
        }
        out
    }

    /// Whether it is not a file that can be read at all.
    pub fn is_unreadable(&self) -> bool {
        self.problems.iter().any(|problem| problem.code == Code::Unreadable)
    }
}

/// The column behind the last one of a problem, on its line.
fn end(problem: &Diagnostic, line: &str) -> usize {
    let (from, width) = (problem.place.column, problem.place.width.max(1));
    (from + width).min((line.chars().count() + 1).max(from + 1))
}

/// A workflow command's message ends with the line.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// … and its properties at `,`, their names at `:`.
fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

/// `3 problems in 2 of 14 files`, or that there are none.
pub fn summary(problems: usize, faulty: usize, files: usize) -> String {
    let files = format!("{files} file{}", if files == 1 { "" } else { "s" });
    match problems {
        0 => format!("no problems in {files}"),
        1 => format!("1 problem in {faulty} of {files}"),
        _ => format!("{problems} problems in {faulty} of {files}"),
    }
}

#[cfg(test)]
mod tests;
