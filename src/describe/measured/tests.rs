use super::*;
use crate::catalog::Catalog;

const TABLE: &str = "x\n<!-- table -->\n| config | program | 5.10 | newest |\n|---|---|---|---|\n\
                     | `a-b` | `a` | unsupported (2) | ok |\n\n1. one\n2. no counter (ENOENT)\n<!-- end of table -->\n";

#[test]
fn kernels_and_reasons_are_read_from_the_table() {
    let found = tested_in(TABLE, "a");
    let first = Tested { kernel: "5.10", verdict: "unsupported", reason: Some("no counter (ENOENT)") };
    assert_eq!(found, [first, Tested { kernel: "newest", verdict: "ok", reason: None }]);
    assert_eq!(found.iter().map(Tested::ran).collect::<Vec<_>>(), [false, true]);
    assert_eq!(tested_in(TABLE, "a-b"), []);
    assert_eq!(tested_in("no table", "a"), []);
}

#[test]
fn costs_are_read_with_how_they_were_taken() {
    let document = "## Other\n\n    no\n\n## What the kernel's side costs\n\nWords.\n\n    make it     # all\n\n\
                    Three rounds, kernel 6.18. More.\n\n| program | load | ns an event |\n|---|---|---|\n\
                    | `a` | many | 1,954 |\n| `b` | few | 7 |\n| `a`, `x: 1` | some | 12 |\n\nrest\n\n\
                    | program | load | ns an event |\n|---|---|---|\n| `a` | other | 3 |\n";
    let found = costs_in(document, "a").expect("it is there");
    assert_eq!((found.how, found.command), ("Three rounds, kernel 6.18", "make it"));
    let cost = |with, load, nanoseconds| Cost { with, load, nanoseconds };
    assert_eq!(found.costs, [cost(None, "many", 1954), cost(Some("`x: 1`"), "some", 12)]);
    assert_eq!(costs_in(document, "c"), None);
}

#[test]
fn the_documents_have_what_is_read_from_them() {
    let catalog = Catalog::embedded();
    for name in catalog.names() {
        // A new program is not in the table before `make test-kernels` has run
        assert!(tested(name).first().is_none_or(|tested| tested.kernel == "5.10"), "{name}");
        for tested in tested(name) {
            let known = ["ok", "fallback", "unsupported", "tests fail"];
            assert!(known.contains(&tested.verdict), "{name}: {tested:?}");
            assert_eq!(tested.reason.is_none(), matches!(tested.verdict, "ok" | "tests fail"), "{name}: {tested:?}");
        }
    }
    assert_eq!(tested("biosnoop").len(), 4);
    let measured = costs("opensnoop").expect("it is in docs/explanation/performance.md");
    assert!(measured.how.contains("kernel 6.") && measured.how.contains("20"), "{}", measured.how);
    assert!(measured.command.starts_with("sudo -E cargo bench"), "{}", measured.command);
    let all = catalog.names().filter_map(costs).map(|measured| measured.costs.len()).sum::<usize>();
    let section = PERFORMANCE.split(COST_SECTION).nth(1).expect("a section");
    assert_eq!(all, first_table(section).filter(|line| line.starts_with("| `")).count(), "every row is of a program");
}
