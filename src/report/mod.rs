//! The account of a run: what was seen, what was written, what is missing and why.

mod json;
mod step;
mod sum;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::quantity::Bytes;
use crate::error::{Error, Kind};
use crate::kernel::{Counters, Verdict};
use crate::plan::BufferPlan;

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

/// The books of one probe. Kernel and userspace count independently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The probe's name.
    pub probe: String,
    /// The program's name.
    pub program: String,
    /// The hooks that were attached.
    pub hooks: Vec<String>,
    /// What became of it on this kernel.
    pub verdict: Verdict,
    /// Why it is not its first choice.
    pub reason: Option<String>,
    /// Group and variant of the alternatives that were attached.
    pub variants: BTreeMap<String, String>,
    /// The kernel's counters.
    pub kernel: Counters,
    /// Records taken out of the buffer within the window.
    pub received: u64,
    /// For an aggregate, whose records are rows: the events that are in them.
    pub counted: Option<u64>,
    /// Records that reached all of their sinks.
    pub written: u64,
    /// Events before the window began, in its warm-up. Nobody recorded them, and what was lost of them is not lost.
    pub warmup: u64,
    /// Of these, what the kernel lost.
    pub warmup_lost: u64,
    /// Records that came after the window had all that it wanted.
    pub after_end: u64,
    /// Records that the sinks were too slow for.
    pub lost_queue_full: u64,
    /// Records that could not be formatted or were none.
    pub lost_other: u64,
    /// Records that were received, but not written any more, because the output ended.
    pub unwritten: u64,
    /// Records that came too late to be sorted; they are written.
    pub late: u64,
    /// The most bytes of the buffer that were unread: of the ring, or of the fullest of the perf buffers.
    pub peak_unread: u64,
    /// Records that the kernel itself told of losing (perf buffers): another count of `lost_buffer_full`.
    pub lost_told: Option<u64>,
    /// How often the kernel left a hook out, for whatever task and before any filter: so many events may be missing at
    /// the most, besides those that are lost. Not in the books, because nobody knows how many of them were events.
    pub missed: u64,
    /// The program's maps.
    pub maps: Vec<MapAccount>,
    /// The buffer.
    pub buffer: BufferPlan,
    /// Bytes that the buffer takes on this machine.
    pub memory: u64,
    /// After a loss: the size that would have been enough, bytes.
    pub would_have_held: Option<u64>,
}

impl Account {
    /// Events that the probe wanted and that are not in the output, by whatever cause. Not among them is what nobody
    /// wanted any more: the window was full, or the output's reader had gone.
    pub fn lost(&self) -> u64 {
        self.kernel.lost() + self.lost_queue_full + self.lost_other
    }

    /// Whether what the kernel counted is what userspace got and what is known to be lost.
    pub fn balances(&self) -> bool {
        let arrived = self.counted.unwrap_or(self.received + self.after_end);
        let kernel = self.warmup + arrived + self.kernel.lost();
        let user = self.written + self.lost_queue_full + self.lost_other + self.unwritten;
        // The kernel tells of a loss with the next record that has room: the last ones it may still owe
        let told = self.lost_told.is_none_or(|told| told <= self.kernel.lost_buffer_full + self.warmup_lost);
        self.kernel.seen == kernel && self.received == user && told
    }
}

/// A probe that this kernel can't run and the config can do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The probe's name.
    pub probe: String,
    /// The program's name.
    pub program: String,
    /// Unsupported or broken.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

/// A map of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapAccount {
    /// Its name.
    pub name: String,
    /// How many entries it had room for.
    pub max_entries: u32,
    /// Inserts that it refused.
    pub refused: u64,
}

impl MapAccount {
    /// Room for what was refused as well, but not more than four times as much at once: most entries of a map are gone
    /// before the next ones come.
    fn larger(&self) -> u64 {
        let entries = u64::from(self.max_entries);
        (entries + self.refused.min(3 * entries)).next_power_of_two()
    }
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAccount {
    /// The sink's name.
    pub sink: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes, before it was compressed.
    pub bytes: u64,
    /// Whether it is whole; if not, its name says so.
    pub whole: bool,
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

impl fmt::Display for Report {
    /// For a person, several lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ended after {:.1}s: {}", self.elapsed.as_secs_f64(), self.end)?;
        let width = self.accounts.iter().map(|account| account.probe.len()).max().unwrap_or(0).max(5);
        write!(f, "  {:width$}  {:>10}  {:>10}  {:>10}", "probe", "received", "written", "lost")?;
        for account in &self.accounts {
            let Account { probe, received, written, .. } = account;
            write!(f, "\n  {probe:width$}  {received:>10}  {written:>10}  {:>10}", account.lost())?;
            if let Some(events) = account.counted {
                write!(f, "  (rows of {events} events)")?;
            }
            let named: Vec<_> =
                account.maps.iter().map(|map| (map.refused, format!("the map `{}` was full", map.name))).collect();
            let maps = named.iter().map(|(refused, words)| (*refused, words.as_str()));
            let causes = [
                (account.kernel.lost_buffer_full, "the buffer was full"),
                (account.kernel.lost_other, "no scratch space was free"),
                (account.lost_queue_full, "the sinks were too slow"),
                (account.lost_other, "a template failed on them"),
            ];
            for (count, cause) in causes.into_iter().chain(maps).filter(|(count, _)| *count > 0) {
                write!(f, "  ({count}: {cause})")?;
            }
            if account.missed > 0 {
                write!(f, "  (up to {} more may be missing: the kernel left a hook out)", account.missed)?;
            }
            let (peak, size) = (account.peak_unread, u64::from(account.buffer.effective));
            if 2 * peak > size {
                write!(f, "  (buffer {}% full at the most)", 100 * peak / size)?;
            }
            if account.late > 0 {
                write!(f, "  ({} out of order)", account.late)?;
            }
            if account.warmup > 0 {
                write!(f, "  ({} before the window)", account.warmup)?;
            }
            if account.unwritten > 0 {
                write!(f, "  ({} more not written)", account.unwritten)?;
            }
            if let (Verdict::Fallback, Some(reason)) = (account.verdict, &account.reason) {
                write!(f, "  (fallback: {reason})")?;
            }
            if !account.balances() {
                let Counters { seen, .. } = account.kernel;
                write!(f, "  (the books do not balance: the kernel counted {seen} events)")?;
            }
        }
        for Skipped { probe, verdict, reason, .. } in &self.skipped {
            write!(f, "\n  {probe:width$}  {}: {reason}", verdict.key())?;
        }
        for step in &self.clock_steps {
            write!(f, "\n  {step}")?;
        }
        if let Some(words) = &self.template_failure {
            write!(f, "\n  {words}")?;
        }
        for file in self.files.iter().filter(|file| !file.whole) {
            write!(f, "\n  {} is not whole", file.path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Left, Transport, WakeupPlan};

    fn account(seen: u64, full: u64, received: u64, written: u64) -> Account {
        let kernel = Counters { seen, lost_buffer_full: full, ..Counters::default() };
        let buffer = BufferPlan {
            transport: Transport::Reserve,
            asked: 4096,
            effective: 4096,
            wakeup: WakeupPlan::Bytes(1024),
            max_latency: Duration::from_millis(100),
            left: Left::default(),
        };
        Account {
            probe: "slow-io".into(),
            program: "p".into(),
            hooks: vec![],
            verdict: Verdict::Ok,
            reason: None,
            variants: BTreeMap::new(),
            kernel,
            received,
            counted: None,
            written,
            warmup: 0,
            warmup_lost: 0,
            after_end: 0,
            lost_queue_full: 0,
            lost_other: 0,
            unwritten: 0,
            late: 0,
            peak_unread: 0,
            lost_told: None,
            missed: 0,
            maps: vec![MapAccount { name: "inflight".into(), max_entries: 16, refused: 0 }],
            buffer,
            memory: 4096,
            would_have_held: (full > 0).then_some(8192),
        }
    }

    fn report(accounts: Vec<Account>, max_loss: f64) -> Report {
        let elapsed = Duration::from_millis(1234);
        let start = Instant { wall: 0, monotonic: 0 };
        let skipped = Vec::new();
        Report {
            end: End::Interrupted,
            start,
            elapsed,
            accounts,
            skipped,
            max_loss,
            capabilities: None,
            clock_steps: vec![],
            files: vec![],
            template_failure: None,
            failure: None,
        }
    }

    #[test]
    fn the_books_balance_to_the_record() {
        assert!(account(100, 10, 90, 90).balances());
        assert!(!account(100, 10, 89, 89).balances(), "one is missing on the way to userspace");
        assert!(!account(100, 10, 90, 89).balances(), "one is missing on the way to the sink");
        let mut late = account(100, 0, 90, 80);
        (late.after_end, late.unwritten) = (10, 10);
        assert!(late.balances());
        assert_eq!(late.lost(), 0, "what nobody wanted any more is not lost");
    }

    #[test]
    fn loss_is_judged_by_its_share() {
        assert!(report(vec![account(100, 0, 100, 100)], 0.0).verdict().is_none());
        let error = report(vec![account(1000, 1, 999, 999)], 0.0).verdict().expect("nothing may be lost");
        assert_eq!(error.kind, Kind::Loss);
        assert!(error.message.contains("1 of 1000 events were lost (0.10%"), "{error}");
        assert_eq!(error.hint.unwrap(), "for slow-io, try buffer.size: 8KiB; or use filters that let less through");
        assert!(report(vec![account(1000, 1, 999, 999)], 0.001).verdict().is_none());
    }

    #[test]
    fn what_the_kernel_left_out_counts_as_an_upper_bound() {
        let mut account = account(1000, 0, 1000, 1000);
        account.missed = 10;
        assert!(account.balances(), "the books are those of what was seen");
        assert!(report(vec![account.clone()], 0.01).verdict().is_none());
        let error = report(vec![account.clone()], 0.0).verdict().expect("nothing may be lost");
        assert_eq!(error.kind, Kind::Loss);
        assert!(error.message.starts_with("up to 10 of 1010 events may be missing (0.99%; max_loss is 0%)"), "{error}");
        let hint = error.hint.expect("a hint");
        assert!(hint.starts_with("kernels from 7.0 on") && hint.contains("upper bound"), "{hint}");
        let shown = report(vec![account.clone()], 0.0).to_string();
        assert!(shown.contains("  0  (up to 10 more may be missing"), "{shown}");
        account.kernel.seen = 1001;
        account.kernel.lost_buffer_full = 1;
        account.would_have_held = Some(8192);
        let error = report(vec![account], 0.0).verdict().expect("nothing may be lost");
        assert!(error.message.starts_with("1 of 1001 events were lost, and up to 10 more may be missing"), "{error}");
        let hint = error.hint.expect("a hint");
        assert!(hint.contains("8KiB") && hint.contains("kernels from 7.0 on"), "{hint}");
    }

    #[test]
    fn a_full_map_is_named_with_a_size_that_helps() {
        let with = |refused| {
            let mut account = account(100, 0, 100 - refused, 100 - refused);
            account.kernel.lost_map_full = refused;
            account.maps[0].refused = refused;
            report(vec![account], 0.0)
        };
        let report = with(5);
        assert!(report.to_string().contains("  5  (5: the map `inflight` was full)"), "{report}");
        let hint = |report: &Report| report.verdict().expect("nothing may be lost").hint.expect("a hint");
        assert_eq!(hint(&report), "for slow-io, try maps: {inflight: 32}; or use filters that let less through");
        assert!(hint(&with(90)).contains("inflight: 64"), "{}", hint(&with(90)));
    }

    #[test]
    fn an_aggregate_is_judged_by_the_events_in_its_rows() {
        let mut aggregate = account(100, 0, 7, 7);
        aggregate.counted = Some(90);
        assert!(!aggregate.balances(), "ten are nowhere");
        aggregate.kernel.lost_map_full = 10;
        assert!(aggregate.balances());
        let shown = report(vec![aggregate], 0.0).to_string();
        assert!(shown.contains("slow-io           7           7          10  (rows of 90 events)"), "{shown}");
    }

    #[test]
    fn a_person_reads_the_cause_beside_the_number() {
        let shown = report(vec![account(100, 10, 90, 90), account(5, 0, 4, 4)], 0.0).to_string();
        assert!(shown.starts_with("ended after 1.2s: interrupted\n"), "{shown}");
        assert!(shown.contains("slow-io          90          90          10  (10: the buffer was full)"), "{shown}");
        assert!(shown.ends_with("(the books do not balance: the kernel counted 5 events)"), "{shown}");
    }
}
