//! What a program sees and what it does not: for people, as JSON, and as the tables of `docs/explanation/accuracy.md`.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use crate::catalog::Accuracy;

/// One list of phrases for each aspect.
pub(super) fn json(accuracy: &Accuracy) -> Json {
    let lists = accuracy.aspects().map(|aspect| (aspect.name.to_owned(), aspect.phrases.to_vec().into()));
    Json::Object(lists.collect::<Map<_, _>>())
}

/// A line for each phrase, the aspect before its first one.
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
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/explanation/accuracy.md");
    const MARKER: &str = "<!-- tables -->\n";

    /// A section with a table for each program.
    fn page(catalog: &Catalog) -> String {
        let mut page = String::new();
        for name in catalog.names() {
            let program = catalog.program(name).expect("it is listed").expect("it is sound");
            write!(page, "\n## `{name}`\n\n| | {} |\n|---|---|\n", program.doc()).expect("a String takes all");
            for (label, phrase) in lines(&program.accuracy) {
                writeln!(page, "| {label} | {phrase} |").expect("a String takes all");
            }
        }
        page
    }

    #[test]
    fn the_accuracy_page_is_what_the_programs_say() {
        let committed = std::fs::read_to_string(PATH).expect("the page is there");
        let (head, _) = committed.split_once(MARKER).expect("the page has the line before its tables");
        let page = format!("{head}{MARKER}{}", page(&Catalog::embedded()));
        if std::env::var_os("EBPF_RUN_BLESS").is_some() {
            std::fs::write(PATH, &page).expect("the page can be written");
        }
        let committed = std::fs::read_to_string(PATH).expect("the page is there");
        assert!(
            committed == page,
            "docs/explanation/accuracy.md is out of date: EBPF_RUN_BLESS=1 cargo test --lib accuracy"
        );
    }

    #[test]
    fn a_program_without_a_description_reports_that() {
        let accuracy = Accuracy::default();
        assert_eq!(text(&accuracy), "  not described\n");
        assert_eq!(json(&accuracy)["sees"], Json::Array(Vec::new()));
    }
}
