//! The report of a run: what was seen, what was written, what is missing and why.

mod account;
pub mod format;
mod json;
mod step;
mod sum;
mod words;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::quantity::Bytes;
use crate::error::{Error, Kind};

pub use account::{Account, CgroupAccount, FileAccount, MapAccount, Skipped};
pub use json::Circumstances;
pub use step::{ClockStep, Jump};
pub use sum::ReportSum;

/// Why a window ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// `duration` was reached.
    Duration,
    /// `max_events` was reached.
    MaxEvents,
    /// `max_bytes` was reached.
    MaxBytes,
    /// Free disk space fell below `min_free` of a sink.
    MinFree,
    /// SIGINT, SIGTERM or SIGHUP.
    Interrupted,
    /// The reader of a stream closed it.
    Closed,
    /// A sink failed.
    SinkFailed,
}

impl End {
    /// As the report has it.
    pub fn key(self) -> &'static str {
        match self {
            End::Duration => "duration",
            End::MaxEvents => "max_events",
            End::MaxBytes => "max_bytes",
            End::MinFree => "min_free",
            End::Interrupted => "interrupted",
            End::Closed => "closed",
            End::SinkFailed => "sink_failed",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Duration => "duration reached",
            End::MaxEvents => "max_events reached",
            End::MaxBytes => "max_bytes reached",
            End::MinFree => "free disk space fell below min_free",
            End::Interrupted => "interrupted",
            End::Closed => "the reader closed the output",
            End::SinkFailed => "a sink failed",
        })
    }
}

/// A moment on both clocks, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockInstant {
    /// Since 1970.
    pub wall: i64,
    /// The clock of event timestamps.
    pub monotonic: u64,
}

/// The report of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Why the window ended.
    pub end: End,
    /// When every probe was attached.
    pub start: ClockInstant,
    /// From then to the end of the window.
    pub elapsed: Duration,
    /// A probe each.
    pub accounts: Vec<Account>,
    /// Probes that were skipped.
    pub skipped: Vec<Skipped>,
    /// Share of the events that may be lost.
    pub max_loss: f64,
    /// Capabilities that the run did not give up once everything was attached; `None` if it gave up none.
    pub capabilities: Option<Vec<String>>,
    /// Jumps of the wall clock.
    pub clock_steps: Vec<ClockStep>,
    /// Cgroups that filters name.
    pub cgroups: Vec<CgroupAccount>,
    /// The time zone that this machine is set to and does not have, if local times were written in UTC for that.
    pub unknown_time_zone: Option<String>,
    /// How often the process that resolves symbols crashed or did not answer, and was replaced.
    pub symbol_helpers_replaced: u64,
    /// What became of the files.
    pub files: Vec<FileAccount>,
    /// The first words of a template that failed on a record.
    pub template_failure: Option<String>,
    /// Why a sink failed, if one did.
    pub failure: Option<Error>,
}

impl Report {
    /// The run's error, if it did not go as the config wants it.
    pub fn verdict(&self) -> Option<Error> {
        if self.failure.is_some() {
            return self.failure.clone();
        }
        let loss = self.loss();
        let unbalanced = self.accounts.iter().filter_map(|account| Some((&account.probe, account.discrepancy()?)));
        let unbalanced: Vec<String> = unbalanced.map(|(probe, what)| format!("probe `{probe}`: {what}")).collect();
        if unbalanced.is_empty() {
            return loss;
        }
        // What is lost is counted; what is missing here is not, and the count of the losses is no longer certain either
        let mut what = format!("the counts of kernel and userspace do not reconcile: {}", unbalanced.join("; "));
        if let Some(loss) = &loss {
            what += &format!("; besides, {}", loss.message);
        }
        let hint = "records may be missing that no count shows: do not rely on this capture, run it again, and report it \
                    with its `--report` if it happens again";
        Some(Error::new(Kind::Unreconciled, what).hint(hint))
    }

    /// The error if more is lost, or may be missing, than `max_loss` allows.
    fn loss(&self) -> Option<Error> {
        let sum = |of: fn(&Account) -> u64| self.accounts.iter().map(of).fold(0, u64::saturating_add);
        let (seen, lost) = (sum(|a| a.kernel.seen.saturating_sub(a.warmup)), sum(Account::lost));
        let (skipped, unseen) = (sum(|a| a.recursion_misses), sum(Account::unseen));
        let missed = skipped.saturating_add(unseen);
        let incomplete = sum(Account::incomplete);
        let missing = lost.saturating_add(missed).saturating_add(incomplete);
        let of = seen.saturating_add(missed);
        if missing == 0 || is_within(missing, of, self.max_loss) {
            return None;
        }
        let share = 100.0 * missing as f64 / of.max(missing) as f64;
        let share = format!("{share:.2}%; max_loss is {}%", (1e8 * self.max_loss).round() / 1e6);
        let mut what = match (lost, missed) {
            (0, 0) => format!("{incomplete} of {seen} events lack a stack or a time ({share})"),
            (_, 0) => format!("{lost} of {seen} events were lost ({share})"),
            (0, _) => {
                let why = match (skipped, unseen) {
                    (_, 0) => format!("the kernel skipped a program {skipped} times"),
                    (0, _) => format!("no hook saw the end of {unseen}"),
                    _ => format!("the kernel skipped a program {skipped} times, and no hook saw the end of {unseen}"),
                };
                format!("up to {missed} of {of} events may be missing ({share}): {why}")
            }
            _ => format!("{lost} of {seen} events were lost, and up to {missed} more may be missing ({share})"),
        };
        if incomplete > 0 && (lost, missed) != (0, 0) {
            what += &format!("; {incomplete} lack a stack or a time");
        }
        Some(Error::new(Kind::Loss, what).hint(self.advice(lost, skipped, unseen)))
    }

    /// What helps against the losses.
    fn advice(&self, lost: u64, missed: u64, unseen: u64) -> String {
        let mut sizes = Vec::new();
        for account in &self.accounts {
            let tries = |what: String| format!("for {}, try {what}", account.probe);
            sizes.extend(account.suggested_size.map(|size| tries(format!("buffer.size: {}", Bytes(size)))));
            let full = account.maps.iter().filter(|map| map.insert_failures > 0);
            let full: Vec<_> = full.map(|map| format!("{}: {}", map.name, map.larger())).collect();
            sizes.extend((!full.is_empty()).then(|| tries(format!("maps: {{{}}}", full.join(", ")))));
        }
        let mut advice = sizes.join("; ");
        if !sizes.is_empty() {
            advice += "; or use filters that drop more events";
        } else if self.accounts.iter().any(|account| account.lost_queue_full > 0) {
            advice += "the sinks are too slow: use a faster disk, fewer fields, or filters that drop more events";
        } else if lost > 0 {
            advice += "the summary above names the template that failed";
        }
        if missed > 0 {
            advice += if advice.is_empty() { "" } else { "; " };
            advice += "kernels from 7.0 on skip a program for all tasks of a CPU while one of them is preempted in it; how many \
                       of these calls were events is unknown, so the number is an upper bound: set max_loss to the share \
                       that is acceptable, or capture on a kernel up to 6.18";
        }
        if unseen > 0 {
            advice += if advice.is_empty() { "" } else { "; " };
            advice += "this host hides the end of some requests from tracing programs; set max_loss to the share that is \
                       acceptable";
        }
        advice
    }
}

/// Whether `missing` is no larger a part of `of` than `share`. A share such as 0.7% is no binary fraction: seven of a thousand
/// are within it, although the product of its nearest one is a little less.
fn is_within(missing: u64, of: u64, share: f64) -> bool {
    missing as f64 <= share * of as f64 * (1.0 + 4.0 * f64::EPSILON)
}

#[cfg(test)]
mod tests;
