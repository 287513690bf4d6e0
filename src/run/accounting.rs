//! The accounting of a run: the counts of kernel and userspace, combined into the report.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::warmup::Baseline;
use crate::catalog::MapSpec;
use crate::error::Error;
use crate::files::finalize::FinalizeFailure;
use crate::kernel::{Counters, Host, Verdict};
use crate::pipeline::loss_tracker::LossTracker;
use crate::pipeline::queue::Received;
use crate::pipeline::writer::{SinkFailure, WriterOutcome};
use crate::plan::{Plan, ProbePlan, SinkPlan};
use crate::report::{self, Account, End, MapAccount, Report};
use crate::symbols::SymbolCounts;

/// The counts of both sides, one entry per probe.
pub(super) struct RunCounts {
    pub kernel: Vec<Counters>,
    /// One entry per stream, as in the writer's outcome.
    pub received: Vec<Received>,
    pub losses: Vec<LossTracker>,
    pub hooks: Vec<Vec<String>>,
    pub verdicts: Vec<(Verdict, Option<String>)>,
    pub variants: Vec<BTreeMap<String, String>>,
    pub perf_buffers: Vec<PerfBufferCounts>,
    /// Events in the aggregate; `None` if its counters do not count events.
    pub counted: Vec<Option<u64>>,
    /// Resolved and unresolved frames of each probe's stacks.
    pub names: Vec<SymbolCounts>,
    /// CPUs that each probe's perf events do not run on.
    pub cpus_not_sampled: Vec<Vec<u32>>,
    /// Failed inserts of each map of the program.
    pub refused: Vec<Vec<u64>>,
    /// Entries of each map of the program whose end no hook saw.
    pub unseen: Vec<Vec<u64>>,
    /// Entries of each map of the program that are still in flight at the end.
    pub under_way: Vec<Vec<Option<u64>>>,
    pub missed: Vec<u64>,
    /// The counts before the window.
    pub baseline: Baseline,
}

/// The counts of a perf buffer's reader.
#[derive(Debug, Default)]
pub(super) struct PerfBufferCounts {
    pub peak: Option<u64>,
    pub lost: Option<u64>,
}

pub(super) fn make_report(
    plan: &Plan,
    counts: &RunCounts,
    end: End,
    (start, elapsed): (report::ClockInstant, Duration),
    outcome: WriterOutcome,
) -> Report {
    let sink = |index: usize| plan.sinks[index].name.as_str();
    let end = if outcome.is_closed() { End::Closed } else { end };
    let mut accounts = Vec::new();
    let mut stream = 0;
    for (index, probe) in plan.probes.iter().enumerate() {
        let before = &counts.baseline.counters[index];
        let kernel = counts.kernel[index].since(before);
        let streams = stream..stream + probe.streams.len();
        stream = streams.end;
        let user = counts.received[streams.clone()].iter().fold(Received::default(), |sum, one| sum.plus(one));
        let sum = |of: &[u64]| of[streams.clone()].iter().fold(0, |sum: u64, one| sum.saturating_add(*one));
        let written = sum(&outcome.written);
        let lost_other = sum(&outcome.failed).saturating_add(user.malformed);
        // An aggregate that does not count events contains the events that the kernel has seen
        let (all, earlier) = (&counts.kernel[index], counts.baseline.counted[index]);
        let counted = |total: Option<u64>, seen: &Counters| total.unwrap_or(seen.seen.saturating_sub(seen.lost()));
        let warmup =
            probe.aggregate.as_ref().map_or(user.warmup, |_| user.warmup.saturating_add(counted(earlier, before)));
        let warmup = warmup.saturating_add(before.lost());
        // If every record has reached the sinks, records that were no longer wanted are counted one by one: a
        // difference would count any missing record as one of them
        let discarded = if outcome.broken.is_some() || outcome.abandoned {
            user.records.saturating_sub(written.saturating_add(lost_other).saturating_add(user.lost_queue_full))
        } else {
            sum(&outcome.discarded)
        };
        let counted = probe
            .aggregate
            .as_ref()
            .map(|_| counted(counts.counted[index], all).saturating_sub(counted(earlier, before)));
        accounts.push(Account {
            probe: probe.name.clone(),
            program: probe.program.name.to_owned(),
            hooks: counts.hooks[index].clone(),
            verdict: counts.verdicts[index].0,
            reason: counts.verdicts[index].1.clone(),
            variants: counts.variants[index].clone(),
            kernel,
            received: user.records,
            counted,
            written,
            warmup,
            warmup_lost: before.lost_buffer_full,
            after_window: user.after_end,
            lost_queue_full: user.lost_queue_full,
            lost_other,
            out_of_order: sum(&outcome.late),
            peak_unread: counts.perf_buffers[index].peak.unwrap_or(kernel.peak_unread),
            perf_lost: counts.perf_buffers[index].lost,
            discarded,
            recursion_misses: counts.missed[index].saturating_sub(counts.baseline.missed[index]),
            maps: maps(probe, counts, index),
            memory: probe.buffer_memory(Host::possible_cpus()),
            buffer: probe.buffer.clone(),
            symbols: counts.names[index].clone(),
            cpus_not_sampled: counts.cpus_not_sampled[index].clone(),
            suggested_size: counts.losses[index].suggested_size(&probe.buffer, user, kernel),
        });
    }
    let template_failure =
        outcome.first_failure.as_ref().map(|(index, words)| format!("sink `{}`: {words}", sink(*index)));
    let failure = match (outcome.broken, outcome.unfinished) {
        (Some((_, SinkFailure::File(error))), unfinished) if error.kind() == ErrorKind::BrokenPipe => {
            unfinished.map(unfinished_file)
        }
        (Some((index, SinkFailure::File(error))), _) => {
            Some(sink_failed(&plan.sinks[index], outcome.broken_file.as_deref(), &error))
        }
        (Some((_, SinkFailure::NextFile(error))), _) => Some(error),
        (None, unfinished) => unfinished.map(unfinished_file),
    };
    Report {
        end,
        start,
        elapsed,
        accounts,
        skipped: Vec::new(),
        max_loss: plan.max_loss,
        capabilities: None,
        clock_steps: Vec::new(),
        cgroups: Vec::new(),
        unknown_time_zone: None,
        symbol_helpers_replaced: 0,
        files: outcome.files,
        template_failure,
        failure,
    }
}

fn maps(probe: &ProbePlan, counts: &RunCounts, index: usize) -> Vec<MapAccount> {
    let since = |all: &[Vec<u64>], before: &[Vec<u64>], at: usize| all[index][at].saturating_sub(before[index][at]);
    let account = |(at, map): (usize, &MapSpec)| MapAccount {
        name: map.name.clone(),
        max_entries: probe.entries(map),
        insert_failures: since(&counts.refused, &counts.baseline.refused, at),
        unseen: since(&counts.unseen, &counts.baseline.unseen, at),
        in_flight: map.in_flight.clone().zip(counts.under_way[index][at]),
    };
    probe.program.maps.iter().enumerate().map(account).collect()
}

/// An error that names the path: of the incomplete file, or as in the config.
fn sink_failed(sink: &SinkPlan, file: Option<&Path>, error: &std::io::Error) -> Error {
    let path = match file {
        Some(path) => path.display().to_string(),
        None if sink.path == "-" => "standard output".into(),
        None => sink.path.clone(),
    };
    let words = Error::failed(format!("sink `{}` can't write to {path}: {error}", sink.name));
    match error.kind() {
        ErrorKind::StorageFull => {
            words.hint("everything written before the error is kept; free disk space and run again")
        }
        _ => words.hint("everything written before the error is kept"),
    }
}

fn unfinished_file(FinalizeFailure { sink, path, what, error }: FinalizeFailure) -> Error {
    Error::failed(format!("sink `{sink}`: {} can't be {what}: {error}", path.display()))
        .hint("everything written is kept, in a file that the summary names")
}

#[cfg(test)]
mod tests;
