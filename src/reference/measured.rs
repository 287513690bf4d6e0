//! The tables of `docs/reference/kernels.md` and `docs/explanation/performance.md`, from `data/`.

use std::fmt::Write as _;

use super::{code, compare, table};
use crate::describe::measured::{Cost, TestedConfig, all_costs, all_tested};

/// A number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits"));
    groups.collect::<Vec<_>>().join(",")
}

#[test]
fn the_table_of_kernels_has_what_was_tried() {
    let configs = all_tested();
    let mut reasons: Vec<&str> = Vec::new();
    for reason in configs.iter().flat_map(|config| &config.kernels).filter_map(|tested| tested.reason.as_deref()) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let row = |config: &TestedConfig| {
        let cells = config.kernels.iter().map(|tested| match &tested.reason {
            None => tested.verdict.clone(),
            Some(reason) => {
                let at = reasons.iter().position(|known| known == reason).expect("it is listed");
                format!("{} ({})", tested.verdict, at + 1)
            }
        });
        let [oldest, second, third, newest] = cells.collect::<Vec<_>>().try_into().expect("four kernels");
        [code(&config.config), code(&config.program), oldest, second, third, newest]
    };
    let kernels: Vec<&str> = configs[0].kernels.iter().map(|tested| tested.kernel.as_str()).collect();
    let head = ["config", "program", kernels[0], kernels[1], kernels[2], kernels[3]];
    let mut out = table(head, configs.iter().map(row)) + "\n";
    for (index, reason) in reasons.iter().enumerate() {
        writeln!(out, "{}. {reason}", index + 1).expect("a String takes all");
    }
    compare("reference/kernels.md", |_| out);
}

#[test]
fn the_table_of_costs_has_what_was_measured() {
    let measured = all_costs();
    let row = |cost: &Cost| {
        let with = cost.with.as_ref().map(|with| format!(", {with}")).unwrap_or_default();
        [
            code(&cost.program) + &with,
            cost.load.clone(),
            grouped(cost.nanoseconds),
            cost.peer.clone().unwrap_or_default(),
            cost.ratio.clone().unwrap_or_default(),
        ]
    };
    let head = ["program", "load", "ns an event", "libbpf-tools, ns", "ratio"];
    let out = format!("{}:\n\n{}", measured.how, table(head, measured.costs.iter().map(row)));
    compare("explanation/performance.md", |_| out);
}
