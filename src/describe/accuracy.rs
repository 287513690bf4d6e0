//! What a program sees and what it does not: as text, as JSON, and as the tables of `docs/explanation/accuracy.md`.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use crate::catalog::Accuracy;

/// One list of phrases for each aspect.
pub(super) fn json(accuracy: &Accuracy) -> Json {
    let lists = accuracy.aspects().map(|aspect| (aspect.name.to_owned(), aspect.phrases.to_vec().into()));
    Json::Object(lists.collect::<Map<_, _>>())
}

/// One line for each phrase; the first phrase of an aspect has its label.
pub(super) fn text(accuracy: &Accuracy) -> String {
    let mut out = String::new();
    for (label, phrase) in lines(accuracy) {
        writeln!(out, "  {label:<16} {phrase}").expect("a String takes all");
    }
    if out.is_empty() { "  not described\n".into() } else { out }
}

/// The phrases with the label of their aspect, which is empty for all but the first one.
fn lines(accuracy: &Accuracy) -> impl Iterator<Item = (&'static str, &str)> {
    accuracy.aspects().flat_map(|aspect| {
        let labels = std::iter::once(aspect.label).chain(std::iter::repeat(""));
        labels.zip(aspect.phrases.iter().map(String::as_str))
    })
}

#[cfg(test)]
mod tests;
