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
mod tests;
