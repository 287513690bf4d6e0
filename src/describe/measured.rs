//! What was tried and measured of a program: `data/kernels.json` and `data/cost.json`. The tables of the documents are
//! generated from these (`src/reference`), so nothing is written twice.

use serde::Deserialize;

/// Written by `scripts/test-kernels --write`.
const KERNELS: &str = include_str!("../../data/kernels.json");
/// The numbers of `cargo bench --bench cost`.
const COST: &str = include_str!("../../data/cost.json");

/// A config, and how its program runs on each kernel that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestedConfig {
    /// Its name.
    pub config: String,
    /// The program of its probe.
    pub program: String,
    /// The kernels, the oldest first.
    pub kernels: Vec<Tested>,
}

/// How a program runs on one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tested {
    /// The series, or `newest`.
    pub kernel: String,
    /// A verdict of the report, or `tests fail`.
    pub verdict: String,
    /// Why it is not `ok`.
    pub reason: Option<String>,
}

impl Tested {
    /// Whether it ran there.
    pub fn ran(&self) -> bool {
        matches!(self.verdict.as_str(), "ok" | "fallback")
    }
}

/// One measurement of what a program costs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// The program.
    pub program: String,
    /// How it was set, if not by its defaults; Markdown.
    pub with: Option<String>,
    /// What it was measured on.
    pub load: String,
    /// Time in the kernel for each event, all hooks together.
    pub nanoseconds: u64,
    /// The same of the tool that it is compared with, as text.
    pub peer: Option<String>,
    /// Of the two, as text.
    pub ratio: Option<String>,
}

/// What is known of the cost of programs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredCosts {
    /// Rounds, kernel and date.
    pub how: String,
    /// What repeats it.
    pub command: String,
    /// The measurements.
    pub costs: Vec<Cost>,
}

/// All configs that were tried.
pub fn all_tested() -> Vec<TestedConfig> {
    serde_json::from_str(KERNELS).expect("a test reads data/kernels.json")
}

/// All measurements.
pub fn all_costs() -> MeasuredCosts {
    serde_json::from_str(COST).expect("a test reads data/cost.json")
}

/// The kernels on which `program` was tested, the oldest first.
pub fn tested(program: &str) -> Vec<Tested> {
    all_tested().into_iter().find(|config| config.program == program).map(|config| config.kernels).unwrap_or_default()
}

/// The measured costs of `program`; `None`: not measured.
pub fn costs(program: &str) -> Option<MeasuredCosts> {
    let mut measured = all_costs();
    measured.costs.retain(|cost| cost.program == program);
    (!measured.costs.is_empty()).then_some(measured)
}

#[cfg(test)]
mod tests;
