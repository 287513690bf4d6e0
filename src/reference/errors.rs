//! The table of `docs/reference/errors.md`.

use super::{code, compare, table};
use crate::config::diagnostic::Code;

#[test]
fn the_table_of_errors_has_every_code() {
    let row = |kind: &Code| [code(kind.as_str()), kind.title().to_owned(), kind.advice().to_owned()];
    compare("reference/errors.md", |_| table(["code", "fault", "what to do"], Code::ALL.iter().map(row)));
}

#[test]
fn every_code_has_an_advice() {
    for kind in Code::ALL {
        assert!(kind.advice().len() > 8 && kind.advice().ends_with('.'), "{kind}: what to do?");
    }
}
