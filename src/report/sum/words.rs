//! The sum of reports as text.

use std::fmt;

use super::{Capture, Change, ProbeTotals, ReportSum};
use crate::kernel::Verdict;

fn seconds(nanoseconds: u64) -> String {
    format!("{:.1}s", nanoseconds as f64 / 1e9)
}

/// `1 window`, `2 windows`.
fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

impl fmt::Display for ReportSum {
    /// Several lines for each capture.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, capture) in self.captures().iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            capture.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(first), Some(last)) = (self.windows.first(), self.windows.last()) else { return Ok(()) };
        let Capture { name, host, windows } = self;
        writeln!(
            f,
            "{name} on {host}: {} from {} to {}",
            counted(windows.len() as u64, "window"),
            first.start,
            last.end
        )?;
        let ended: Vec<String> = self.ended_by().iter().map(|(by, count)| format!("{count} {}", by.key())).collect();
        writeln!(f, "  recorded {}; ended by: {}", seconds(self.recorded()), ended.join(", "))?;
        let probes = self.probes();
        let width = probes.iter().map(|probe| probe.name.len()).max().unwrap_or(0).max(5);
        writeln!(f, "  {:width$}  {:>12}  {:>12}  {:>12}", "probe", "seen", "written", "lost")?;
        for ProbeTotals { name, seen, written, lost, may_be_missing, warmup, last_verdict, .. } in &probes {
            write!(f, "  {name:width$}  {seen:>12}  {written:>12}  {lost:>12}")?;
            if *may_be_missing > 0 {
                write!(f, "  (up to {may_be_missing} more may be missing)")?;
            }
            if *warmup > 0 {
                write!(f, "  ({warmup} during warm-up)")?;
            }
            if *last_verdict != Verdict::Ok {
                write!(f, "  (now {})", last_verdict.key())?;
            }
            writeln!(f)?;
        }
        let gaps = self.gaps();
        let lengths = || gaps.iter().filter(|gap| !gap.overlap).filter_map(|gap| Some((gap.nanoseconds?, gap)));
        if let Some((longest, at)) = lengths().max_by_key(|(length, _)| *length) {
            let sum = lengths().map(|(length, _)| length).fold(0, u64::saturating_add);
            let from = &at.from;
            writeln!(f, "  gaps between windows: {}; longest: {} after {from}", seconds(sum), seconds(longest))?;
        }
        let boots = gaps.iter().filter(|gap| gap.nanoseconds.is_none()).count();
        if boots > 0 {
            writeln!(f, "  the host booted {} between windows", counted(boots as u64, "time"))?;
        }
        if self.clock_steps() > 0 {
            writeln!(f, "  the wall clock was stepped {} within windows", counted(self.clock_steps(), "time"))?;
        }
        for gap in gaps.iter().filter(|gap| gap.overlap) {
            let by = seconds(gap.nanoseconds.unwrap_or(0));
            writeln!(f, "  two windows overlap by {by} at {}; `window.lock` prevents this", gap.to)?;
        }
        for Change { at, probe, from, to, reason } in self.changes() {
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            writeln!(f, "  {probe} changed from {} to {} at {at}{reason}", from.key(), to.key())?;
        }
        for window in self.failed() {
            let counts = if window.reconciles { "" } else { "; its counts do not reconcile" };
            let error = window.error.as_deref().unwrap_or("no error");
            writeln!(f, "  {} (exit code {}): {error}{counts}", window.file, window.exit_code)?;
        }
        Ok(())
    }
}
