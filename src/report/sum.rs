//! Adds up many reports: what a capture that runs again and again saw, lost and missed. Reads the JSON that `--report`
//! writes, in the current format and in format 1; pure.

mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::End;
use super::format::FORMAT;
use crate::kernel::Verdict;

/// What is read of a report. Names of format 1 are aliases; keys that are not read may be missing.
#[derive(Debug, Clone, Deserialize)]
struct ReportInput {
    name: String,
    host: HostInput,
    window: WindowInput,
    exit_code: u64,
    error: Option<String>,
    #[serde(alias = "balances")]
    reconciles: bool,
    #[serde(default)]
    clock_steps: Vec<Value>,
    probes: Vec<ProbeInput>,
}

#[derive(Debug, Clone, Deserialize)]
struct HostInput {
    name: String,
    #[serde(default)]
    boot_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct WindowInput {
    start: String,
    end: String,
    start_monotonic_ns: u64,
    end_monotonic_ns: u64,
    ended_by: End,
}

#[derive(Debug, Clone, Deserialize)]
struct ProbeInput {
    name: String,
    verdict: Verdict,
    reason: Option<String>,
    seen: u64,
    written: u64,
    lost: u64,
    // In format 1 a skipped probe lacks these
    #[serde(default, alias = "missed")]
    recursion_misses: u64,
    #[serde(default)]
    unseen: u64,
    #[serde(default)]
    warmup: u64,
}

/// One window, out of its report.
#[derive(Debug, Clone)]
struct ReportWindow {
    file: String,
    name: String,
    host: String,
    boot: String,
    start: String,
    end: String,
    /// On the monotonic clock of the boot, nanoseconds.
    span: (u64, u64),
    ended_by: End,
    exit_code: u64,
    error: Option<String>,
    reconciles: bool,
    clock_steps: u64,
    probes: Vec<ProbeTotals>,
}

/// Counts of a probe in one window or in several.
#[derive(Debug, Clone, Serialize)]
struct ProbeTotals {
    name: String,
    last_verdict: Verdict,
    #[serde(skip)]
    reason: Option<String>,
    seen: u64,
    written: u64,
    lost: u64,
    /// Upper bound of further missing events: `recursion_misses` and `unseen`.
    may_be_missing: u64,
    warmup: u64,
}

/// The windows of one capture on one host, in the order of time.
#[derive(Debug, Clone)]
struct Capture {
    name: String,
    host: String,
    windows: Vec<ReportWindow>,
}

/// The sum as JSON.
#[derive(Debug, Clone, Serialize)]
pub struct ReportSumJson {
    format: u32,
    captures: Vec<CaptureJson>,
}

#[derive(Debug, Clone, Serialize)]
struct CaptureJson {
    name: String,
    host: String,
    windows: usize,
    start: Option<String>,
    end: Option<String>,
    recorded_ns: u64,
    ended_by: BTreeMap<End, u64>,
    clock_steps: u64,
    probes: Vec<ProbeTotals>,
    gaps: Vec<WindowGap>,
    verdict_changes: Vec<Change>,
    failed: Vec<FailedWindow>,
}

/// A window that failed, or whose counts do not reconcile.
#[derive(Debug, Clone, Serialize)]
struct FailedWindow {
    file: String,
    start: String,
    exit_code: u64,
    error: Option<String>,
    reconciles: bool,
}

/// Many reports, added up.
#[derive(Debug, Clone, Default)]
pub struct ReportSum {
    windows: Vec<ReportWindow>,
}

/// Time between two windows in which nothing was recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct WindowGap {
    from: String,
    to: String,
    /// `None` if the host booted between them.
    nanoseconds: Option<u64>,
    overlap: bool,
}

/// A verdict that changed from one window to the next.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Change {
    at: String,
    probe: String,
    from: Verdict,
    to: Verdict,
    reason: Option<String>,
}

impl ReportSum {
    /// Adds the report `text` of the file `file`.
    ///
    /// # Errors
    /// If it is not a report; the text has the cause.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), String> {
        let report: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        match report.get("format").and_then(Value::as_u64) {
            Some(1) => {}
            Some(format) if format == u64::from(FORMAT) => {}
            Some(other) => {
                return Err(format!("the report has format {other}; this version reads formats 1 to {FORMAT}"));
            }
            None => return Err("not a report of ebpf-run: it has no `format`".into()),
        }
        let report = serde_json::from_value(report).map_err(|error| format!("not a complete report: {error}"))?;
        let window = ReportWindow::new(file, report);
        let same = |other: &&ReportWindow| {
            (other.span, &other.name, &other.host, &other.boot)
                == (window.span, &window.name, &window.host, &window.boot)
        };
        if let Some(other) = self.windows.iter().find(same) {
            return Err(format!("it has the same window as {}, which counts once", other.file));
        }
        self.windows.push(window);
        Ok(())
    }

    fn captures(&self) -> Vec<Capture> {
        let mut by: BTreeMap<(String, String), Vec<ReportWindow>> = BTreeMap::new();
        for window in &self.windows {
            by.entry((window.name.clone(), window.host.clone())).or_default().push(window.clone());
        }
        let capture = |((name, host), mut windows): (_, Vec<ReportWindow>)| {
            // By the monotonic clock; boots by the wall clock, because the monotonic one begins anew
            let mut boots: BTreeMap<String, String> = BTreeMap::new();
            for ReportWindow { boot, start, .. } in &windows {
                let first = boots.entry(boot.clone()).or_insert_with(|| start.clone());
                *first = start.min(first).clone();
            }
            windows.sort_by(|a, b| (&boots[&a.boot], &a.boot, a.span).cmp(&(&boots[&b.boot], &b.boot, b.span)));
            Capture { name, host, windows }
        };
        by.into_iter().map(capture).collect()
    }

    /// The sum as JSON.
    pub fn to_json(&self) -> ReportSumJson {
        ReportSumJson { format: FORMAT, captures: self.captures().iter().map(Capture::to_json).collect() }
    }
}

impl ReportWindow {
    fn new(file: &str, report: ReportInput) -> Self {
        let probe = |probe: ProbeInput| ProbeTotals {
            name: probe.name,
            last_verdict: probe.verdict,
            reason: probe.reason,
            seen: probe.seen,
            written: probe.written,
            lost: probe.lost,
            may_be_missing: probe.recursion_misses.saturating_add(probe.unseen),
            warmup: probe.warmup,
        };
        let window = report.window;
        ReportWindow {
            file: file.to_owned(),
            name: report.name,
            host: report.host.name,
            boot: report.host.boot_id.unwrap_or_default(),
            start: window.start,
            end: window.end,
            span: (window.start_monotonic_ns, window.end_monotonic_ns),
            ended_by: window.ended_by,
            exit_code: report.exit_code,
            error: report.error,
            reconciles: report.reconciles,
            clock_steps: report.clock_steps.len() as u64,
            probes: report.probes.into_iter().map(probe).collect(),
        }
    }
}

impl Capture {
    /// Nanoseconds that the windows cover; what several of them cover counts once.
    fn recorded(&self) -> u64 {
        let mut last: Option<(&str, u64)> = None;
        let mut sum = 0u64;
        for ReportWindow { boot, span, .. } in &self.windows {
            let covered = last.filter(|(of, _)| of == boot).map_or(0, |(_, end)| end);
            sum = sum.saturating_add(span.1.saturating_sub(span.0.max(covered)));
            last = Some((boot, span.1.max(covered)));
        }
        sum
    }

    /// Between each window and what is covered before it.
    fn gaps(&self) -> Vec<WindowGap> {
        let mut gaps = Vec::new();
        let mut windows = self.windows.iter();
        let Some(mut before) = windows.next() else { return gaps };
        for after in windows {
            let same_boot = before.boot == after.boot;
            let (end, start) = (before.span.1, after.span.0);
            let overlap = same_boot && start < end;
            // Of one that lies within another, its own time
            let nanoseconds = same_boot
                .then(|| if overlap { end.min(after.span.1).saturating_sub(start) } else { start.saturating_sub(end) });
            gaps.push(WindowGap { from: before.end.clone(), to: after.start.clone(), nanoseconds, overlap });
            if !same_boot || after.span.1 >= end {
                before = after;
            }
        }
        gaps
    }

    fn changes(&self) -> Vec<Change> {
        let mut last: BTreeMap<&str, Verdict> = BTreeMap::new();
        let mut changes = Vec::new();
        for window in &self.windows {
            for probe in &window.probes {
                match last.insert(&probe.name, probe.last_verdict) {
                    Some(before) if before != probe.last_verdict => changes.push(Change {
                        at: window.start.clone(),
                        probe: probe.name.clone(),
                        from: before,
                        to: probe.last_verdict,
                        reason: probe.reason.clone(),
                    }),
                    _ => {}
                }
            }
        }
        changes
    }

    /// The sum of each probe, in the order of its first window.
    fn probes(&self) -> Vec<ProbeTotals> {
        let mut sums: Vec<ProbeTotals> = Vec::new();
        for probe in self.windows.iter().flat_map(|window| &window.probes) {
            match sums.iter_mut().find(|sum| sum.name == probe.name) {
                None => sums.push(probe.clone()),
                Some(sum) => {
                    sum.last_verdict = probe.last_verdict;
                    sum.seen = sum.seen.saturating_add(probe.seen);
                    sum.written = sum.written.saturating_add(probe.written);
                    sum.lost = sum.lost.saturating_add(probe.lost);
                    sum.may_be_missing = sum.may_be_missing.saturating_add(probe.may_be_missing);
                    sum.warmup = sum.warmup.saturating_add(probe.warmup);
                }
            }
        }
        sums
    }

    fn ended_by(&self) -> BTreeMap<End, u64> {
        let mut by = BTreeMap::new();
        self.windows.iter().for_each(|window| *by.entry(window.ended_by).or_default() += 1);
        by
    }

    fn clock_steps(&self) -> u64 {
        self.windows.iter().map(|window| window.clock_steps).sum()
    }

    fn failed(&self) -> impl Iterator<Item = &ReportWindow> {
        self.windows.iter().filter(|window| window.exit_code != 0 || !window.reconciles)
    }

    fn to_json(&self) -> CaptureJson {
        let failed = |window: &ReportWindow| FailedWindow {
            file: window.file.clone(),
            start: window.start.clone(),
            exit_code: window.exit_code,
            error: window.error.clone(),
            reconciles: window.reconciles,
        };
        CaptureJson {
            name: self.name.clone(),
            host: self.host.clone(),
            windows: self.windows.len(),
            start: self.windows.first().map(|window| window.start.clone()),
            end: self.windows.last().map(|window| window.end.clone()),
            recorded_ns: self.recorded(),
            ended_by: self.ended_by(),
            clock_steps: self.clock_steps(),
            probes: self.probes(),
            gaps: self.gaps(),
            verdict_changes: self.changes(),
            failed: self.failed().map(failed).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
