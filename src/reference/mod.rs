//! Makes the generated parts of `docs`: from the programs, the codes of errors, the command line, the types of the config and
//! of the report, and the results in `data`. Tests compare, and `EBPF_RUN_BLESS=1 cargo test --lib reference` writes the pages anew.

mod command_line;
mod errors;
mod measured;
mod programs;
mod schemas;

use std::fmt::Write as _;
use std::path::Path;

const BEGIN: &str = "<!-- generated: EBPF_RUN_BLESS=1 cargo test --lib reference -->\n";
const END: &str = "<!-- end of generated -->\n";

/// The part of the page `name` between the two markers has to be what `generate` makes of that part.
fn compare(name: &str, generate: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let committed = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (before, rest) = committed.split_once(BEGIN).unwrap_or_else(|| panic!("{name} lacks {BEGIN}"));
    let (part, after) = rest.split_once(END).unwrap_or_else(|| panic!("{name} lacks {END}"));
    let page = format!("{before}{BEGIN}\n{}\n\n{END}{after}", without_gaps(&generate(part)));
    if std::env::var_os("EBPF_RUN_BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
        return;
    }
    assert!(committed == page, "{name} is out of date: EBPF_RUN_BLESS=1 cargo test --lib reference");
}

/// Paragraphs with one empty line between them.
fn without_gaps(text: &str) -> String {
    let mut lines: Vec<&str> = text.trim().lines().collect();
    lines.dedup_by(|line, before| line.is_empty() && before.is_empty());
    lines.join("\n")
}

/// A table; nothing if it has no rows.
fn table<const COLUMNS: usize>(head: [&str; COLUMNS], rows: impl IntoIterator<Item = [String; COLUMNS]>) -> String {
    let mut out = String::new();
    for row in rows {
        if out.is_empty() {
            writeln!(out, "| {} |\n|{}", head.join(" | "), "---|".repeat(COLUMNS)).expect("a String takes all");
        }
        writeln!(out, "| {} |", row.map(|cell| in_cell(&cell)).join(" | ")).expect("a String takes all");
    }
    out
}

/// Text on one line, in which `|` does not end the cell.
fn in_cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}
