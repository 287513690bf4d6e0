//! The books of a run: what kernel and userspace counted, put together into the report.

use std::collections::BTreeMap;
use std::time::Duration;

use super::batch::Received;
use super::losses::Losses;
use super::writer::Outcome;
use crate::catalog::MapSpec;
use crate::error::Error;
use crate::kernel::{Counters, Host, Verdict};
use crate::plan::{Plan, ProbePlan, SinkPlan};
use crate::report::{self, Account, End, MapAccount, Report};

/// What the two sides counted, a probe each.
pub(super) struct Books {
    pub kernel: Vec<Counters>,
    /// A stream each, as what the writer did.
    pub received: Vec<Received>,
    pub losses: Vec<Losses>,
    pub hooks: Vec<Vec<String>>,
    pub verdicts: Vec<(Verdict, Option<String>)>,
    pub variants: Vec<BTreeMap<String, String>>,
    pub told: Vec<Told>,
    /// Events in the aggregate, where it tells.
    pub counted: Vec<Option<u64>>,
    /// Inserts that each map of the program refused.
    pub refused: Vec<Vec<u64>>,
    pub missed: Vec<u64>,
}

/// What a perf buffer tells of itself.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub peak: Option<u64>,
    pub lost: Option<u64>,
}

pub(super) fn make_report(
    plan: &Plan,
    books: &Books,
    end: End,
    (start, elapsed): (report::Instant, Duration),
    outcome: Outcome,
) -> Report {
    let sink = |index: usize| plan.sinks[index].name.as_str();
    let end = if outcome.is_closed() { End::Closed } else { end };
    let mut accounts = Vec::new();
    let mut stream = 0;
    for (index, probe) in plan.probes.iter().enumerate() {
        let kernel = books.kernel[index];
        let streams = stream..stream + probe.streams.len();
        stream = streams.end;
        let user = books.received[streams.clone()].iter().fold(Received::default(), |sum, one| sum.plus(one));
        let sum = |of: &[u64]| of[streams.clone()].iter().sum::<u64>();
        let written = sum(&outcome.written);
        let lost_other = sum(&outcome.failed) + user.malformed;
        let counted = probe.aggregate.as_ref().map(|_| books.counted[index].unwrap_or(kernel.seen - kernel.lost()));
        accounts.push(Account {
            probe: probe.name.clone(),
            program: probe.program.name.to_owned(),
            hooks: books.hooks[index].clone(),
            verdict: books.verdicts[index].0,
            reason: books.verdicts[index].1.clone(),
            variants: books.variants[index].clone(),
            kernel,
            received: user.records,
            counted,
            written,
            after_end: user.after_end,
            lost_queue_full: user.lost_queue_full,
            lost_other,
            late: sum(&outcome.late),
            peak_unread: books.told[index].peak.unwrap_or(kernel.peak_unread),
            lost_told: books.told[index].lost,
            unwritten: user.records.saturating_sub(written + lost_other + user.lost_queue_full),
            missed: books.missed[index],
            maps: maps(probe, &books.refused[index]),
            memory: probe.buffer_memory(Host::possible_cpus()),
            buffer: probe.buffer.clone(),
            would_have_held: books.losses[index].would_have_held(&probe.buffer, user, kernel),
        });
    }
    let template_failure =
        outcome.first_failure.as_ref().map(|(index, words)| format!("sink `{}`: {words}", sink(*index)));
    let failure = outcome.broken.filter(|(_, error)| error.kind() != std::io::ErrorKind::BrokenPipe);
    let failure = failure.map(|(index, error)| sink_failed(&plan.sinks[index], &error));
    Report { end, start, elapsed, accounts, skipped: Vec::new(), max_loss: plan.max_loss, template_failure, failure }
}

fn maps(probe: &ProbePlan, refused: &[u64]) -> Vec<MapAccount> {
    let account = |(map, refused): (&MapSpec, &u64)| MapAccount {
        name: map.name.clone(),
        max_entries: probe.entries(map),
        refused: *refused,
    };
    probe.program.maps.iter().zip(refused).map(account).collect()
}

fn sink_failed(sink: &SinkPlan, error: &std::io::Error) -> Error {
    let path = if sink.path == "-" { "standard output" } else { sink.path.as_str() };
    let words = Error::failed(format!("sink `{}` can't write to {path}: {error}", sink.name));
    match error.kind() {
        std::io::ErrorKind::StorageFull => words.hint("what was written until then is there; make room and run again"),
        _ => words.hint("what was written until then is there"),
    }
}
