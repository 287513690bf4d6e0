//! What was tried and measured of a program: read from the tables of the documents, which the tests and benchmarks that
//! make them keep right. So nothing is written down twice.

/// Made by `make test-kernels`.
const KERNELS: &str = include_str!("../../docs/reference/kernels.md");
const PERFORMANCE: &str = include_str!("../../docs/explanation/performance.md");
/// The section of the second with what a program costs in the kernel.
const COST_SECTION: &str = "## What the kernel's side costs";

/// What became of a program on one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// The series, or `newest`.
    pub kernel: &'static str,
    /// A verdict of the report, or `tests fail`.
    pub verdict: &'static str,
    /// Why it is not `ok`.
    pub reason: Option<&'static str>,
}

impl Tested {
    /// Whether it ran there.
    pub fn ran(&self) -> bool {
        matches!(self.verdict, "ok" | "fallback")
    }
}

/// One measurement of what a program costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// How it was set, if not by its defaults.
    pub with: Option<&'static str>,
    /// What it was measured on.
    pub load: &'static str,
    /// What the kernel's side takes for each event, all hooks together.
    pub nanoseconds: u64,
}

/// What is known of the cost of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredCosts {
    /// Never empty.
    pub costs: Vec<Cost>,
    /// Rounds, kernel and date.
    pub how: &'static str,
    /// What repeats it.
    pub command: &'static str,
}

/// The kernels that `program` was tried on, the oldest first.
pub fn tested(program: &str) -> Vec<Tested> {
    tested_in(KERNELS, program)
}

/// What `program` was measured to cost; `None`: it was not measured.
pub fn costs(program: &str) -> Option<MeasuredCosts> {
    costs_in(PERFORMANCE, program)
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// The text of a cell of code.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.split('`').next()
}

/// The lines of the first table of `section`; others compare other things.
fn first_table(section: &'static str) -> impl Iterator<Item = &'static str> {
    section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'))
}

fn tested_in(document: &'static str, program: &str) -> Vec<Tested> {
    let inside = document.split("<!-- table -->").nth(1).and_then(|rest| rest.split("<!-- end of table -->").next());
    let Some(table) = inside else { return Vec::new() };
    let mut rows = table.lines().filter_map(cells);
    let Some(header) = rows.next() else { return Vec::new() };
    let Some(row) = rows.find(|row| row.get(1).and_then(|cell| code(cell)) == Some(program)) else { return Vec::new() };
    let note = |number: &str| table.lines().find_map(|line| line.strip_prefix(number)?.strip_prefix(". "));
    let kernels = header.into_iter().zip(row).skip(2);
    kernels
        .map(|(kernel, cell)| match cell.strip_suffix(')').and_then(|cell| cell.rsplit_once(" (")) {
            Some((verdict, number)) => Tested { kernel, verdict, reason: note(number) },
            None => Tested { kernel, verdict: cell, reason: None },
        })
        .collect()
}

fn costs_in(document: &'static str, program: &str) -> Option<MeasuredCosts> {
    let section = document.split(COST_SECTION).nth(1)?.split("\n## ").next()?;
    let command = section.lines().find_map(|line| line.strip_prefix("    "))?.split('#').next()?.trim();
    // The paragraph above the table
    let before = section.split("\n|").next()?.trim_end();
    let how = before.rsplit("\n\n").next()?.split(". ").next()?.trim();
    let mut rows = first_table(section).filter_map(cells);
    let header = rows.next()?;
    let column = |name: &str| header.iter().position(|cell| *cell == name);
    let (load, number) = (column("load")?, column("ns an event")?);
    let cost = |row: Vec<&'static str>| {
        let first = *row.first()?;
        let (name, with) = first.split_once(", ").map_or((first, None), |(name, with)| (name, Some(with)));
        let nanoseconds = row.get(number)?.replace(',', "").parse().ok()?;
        (code(name) == Some(program)).then_some(())?;
        Some(Cost { with, load: row.get(load)?, nanoseconds })
    };
    let costs: Vec<Cost> = rows.filter_map(cost).collect();
    (!costs.is_empty()).then_some(MeasuredCosts { costs, how, command })
}

#[cfg(test)]
mod tests {
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
                assert_eq!(
                    tested.reason.is_none(),
                    matches!(tested.verdict, "ok" | "tests fail"),
                    "{name}: {tested:?}"
                );
            }
        }
        assert_eq!(tested("biosnoop").len(), 4);
        let measured = costs("opensnoop").expect("it is in docs/explanation/performance.md");
        assert!(measured.how.contains("kernel 6.") && measured.how.contains("20"), "{}", measured.how);
        assert!(measured.command.starts_with("sudo -E cargo bench"), "{}", measured.command);
        let all = catalog.names().filter_map(costs).map(|measured| measured.costs.len()).sum::<usize>();
        let section = PERFORMANCE.split(COST_SECTION).nth(1).expect("a section");
        assert_eq!(
            all,
            first_table(section).filter(|line| line.starts_with("| `")).count(),
            "every row is of a program"
        );
    }
}
