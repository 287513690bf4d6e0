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
