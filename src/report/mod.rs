//! The account of a run: what was seen, what was written, what is missing and why.

mod account;
mod json;
mod step;
mod sum;
mod words;

use std::fmt;
use std::time::Duration;

use crate::config::quantity::Bytes;
use crate::error::{Error, Kind};

pub use account::{Account, FileAccount, MapAccount, Skipped};
pub use json::Circumstances;
pub use step::{ClockStep, Jump};
pub use sum::Sum;

/// Why a window ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `duration` was over.
    Duration,
    /// `max_events` were there.
    MaxEvents,
    /// `max_bytes` were written.
    MaxBytes,
    /// The file system of a sink had less room than `min_free`.
    MinFree,
    /// SIGINT, SIGTERM or SIGHUP.
    Interrupted,
    /// The reader of standard output went away.
    Closed,
    /// A sink took no more.
    SinkFailed,
}

impl End {
    /// For machines.
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
            End::Duration => "the time is over",
            End::MaxEvents => "all events that were asked for are there",
            End::MaxBytes => "as many bytes as were asked for are written",
            End::MinFree => "the disk has no more room than min_free leaves",
            End::Interrupted => "interrupted",
            End::Closed => "nobody reads the output any more",
            End::SinkFailed => "a sink failed",
        })
    }
}

/// A moment on both clocks, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// Since 1970.
    pub wall: i64,
    /// The clock of event timestamps.
    pub monotonic: u64,
}

/// The account of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Why the window ended.
    pub end: End,
    /// When every probe was attached.
    pub start: Instant,
    /// From then to the end of the window.
    pub elapsed: Duration,
    /// A probe each.
    pub accounts: Vec<Account>,
    /// Probes that were left out.
    pub skipped: Vec<Skipped>,
    /// Share of the events that may be lost.
    pub max_loss: f64,
    /// Capabilities that the run did not give up once everything was attached; `None` if it gave up none.
    pub capabilities: Option<Vec<String>>,
    /// Jumps of the wall clock.
    pub clock_steps: Vec<ClockStep>,
    /// How often the process that looks up symbols crashed or did not answer, and was replaced.
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
        let sum = |of: fn(&Account) -> u64| self.accounts.iter().map(of).sum::<u64>();
        let (seen, lost, missed) = (sum(|a| a.kernel.seen - a.warmup), sum(Account::lost), sum(|a| a.missed));
        let (missing, of) = (lost + missed, seen + missed);
        if missing == 0 || missing as f64 <= self.max_loss * of as f64 {
            return None;
        }
        let share =
            format!("{:.2}%; max_loss is {}%", 100.0 * missing as f64 / of.max(1) as f64, 100.0 * self.max_loss);
        let what = match (lost, missed) {
            (_, 0) => format!("{lost} of {seen} events were lost ({share})"),
            (0, _) => {
                format!("up to {missed} of {of} events may be missing ({share}): so often the kernel left a hook out")
            }
            _ => format!("{lost} of {seen} events were lost, and up to {missed} more may be missing ({share})"),
        };
        Some(Error::new(Kind::Loss, what).hint(self.advice(lost, missed)))
    }

    /// What helps against the losses, the worst first.
    fn advice(&self, lost: u64, missed: u64) -> String {
        let mut sizes = Vec::new();
        for account in &self.accounts {
            let tries = |what: String| format!("for {}, try {what}", account.probe);
            sizes.extend(account.would_have_held.map(|size| tries(format!("buffer.size: {}", Bytes(size)))));
            let full = account.maps.iter().filter(|map| map.refused > 0);
            sizes.extend(full.map(|map| tries(format!("maps: {{{}: {}}}", map.name, map.larger()))));
        }
        let mut advice = sizes.join("; ");
        if !sizes.is_empty() {
            advice += "; or use filters that let less through";
        } else if self.accounts.iter().any(|account| account.lost_queue_full > 0) {
            advice +=
                "the sinks are too slow: write to a faster disk, fewer fields, or use filters that let less through";
        } else if lost > 0 {
            advice += "the lines above say which template failed";
        }
        if missed > 0 {
            advice += if advice.is_empty() { "" } else { "; " };
            advice += "kernels from 7.0 on leave a hook out for all tasks of a CPU while one of them is preempted in it; how \
                       many of these calls were events is not known, so it is an upper bound: set max_loss to what you can \
                       bear, or capture on a kernel up to 6.18";
        }
        advice
    }
}

#[cfg(test)]
mod tests;
