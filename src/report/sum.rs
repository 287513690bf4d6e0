//! Many reports added up: what a capture that cron runs again and again has seen, lost and missed. Reads JSON, as
//! `--report` writes it; pure.

mod words;

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The version of reports that this reads.
const FORMAT: u64 = super::json::FORMAT as u64;

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
    ended_by: String,
    exit_code: u64,
    error: Option<String>,
    balances: bool,
    clock_steps: u64,
    probes: Vec<ProbeTotals>,
}

#[derive(Debug, Clone)]
struct ProbeTotals {
    name: String,
    verdict: String,
    reason: Option<String>,
    seen: u64,
    written: u64,
    lost: u64,
    missed: u64,
    warmup: u64,
}

/// The windows of one capture on one host, in the order of time.
#[derive(Debug, Clone)]
struct Capture {
    name: String,
    host: String,
    windows: Vec<ReportWindow>,
}

/// Many reports, added up.
#[derive(Debug, Clone, Default)]
pub struct ReportSum {
    windows: Vec<ReportWindow>,
}

/// Time between two windows in which nothing was recorded.
#[derive(Debug, Clone, PartialEq)]
struct WindowGap {
    from: String,
    to: String,
    /// `None` if the machine was started anew between them: no clock goes through that.
    nanoseconds: Option<u64>,
    overlap: bool,
}

/// A probe that became something else from one window to the next.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    at: String,
    probe: String,
    from: String,
    to: String,
    reason: Option<String>,
}

impl ReportSum {
    /// Adds the report `text` of the file `file`.
    ///
    /// # Errors
    /// If it is no report; the words say what is wrong with it.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), String> {
        let report: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        match report.get("format").and_then(Value::as_u64) {
            Some(FORMAT) => {}
            Some(other) => return Err(format!("it has format {other}, and this is about format {FORMAT}")),
            None => return Err("it is no report of ebpf-run".into()),
        }
        let window = ReportWindow::read(file, &report).ok_or("it lacks what a report has")?;
        let same = |other: &&ReportWindow| {
            (other.span, &other.name, &other.host, &other.boot)
                == (window.span, &window.name, &window.host, &window.boot)
        };
        if let Some(other) = self.windows.iter().find(same) {
            return Err(format!("its window is that of {}, and counts once", other.file));
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
            // By the clock that nobody sets; boots by the other one, because only that goes through them
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

    /// The sum for machines.
    pub fn to_json(&self) -> Value {
        json!({ "format": FORMAT, "captures": self.captures().iter().map(Capture::to_json).collect::<Vec<_>>() })
    }
}

impl ReportWindow {
    fn read(file: &str, report: &Value) -> Option<Self> {
        let text = |at: &str| report.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let number = |at: &str| report.pointer(at).and_then(Value::as_u64);
        let probe = |probe: &Value| {
            let count = |key: &str| probe.get(key).and_then(Value::as_u64);
            // Only of one that ran; what is there has to be a count
            let optional = |key: &str| if probe.get(key).is_none_or(Value::is_null) { Some(0) } else { count(key) };
            let text = |key: &str| probe.get(key).and_then(Value::as_str).map(str::to_owned);
            Some(ProbeTotals {
                name: text("name")?,
                verdict: text("verdict")?,
                reason: text("reason"),
                seen: count("seen")?,
                written: count("written")?,
                lost: count("lost")?,
                // Both are upper bounds of what is missing
                missed: optional("missed")?.saturating_add(optional("unseen")?),
                warmup: optional("warmup")?,
            })
        };
        Some(ReportWindow {
            file: file.to_owned(),
            name: text("/name")?,
            host: text("/host/name")?,
            boot: text("/host/boot_id").unwrap_or_default(),
            start: text("/window/start")?,
            end: text("/window/end")?,
            span: (number("/window/start_monotonic_ns")?, number("/window/end_monotonic_ns")?),
            ended_by: text("/window/ended_by")?,
            exit_code: number("/exit_code")?,
            error: text("/error"),
            balances: report.get("balances").and_then(Value::as_bool)?,
            clock_steps: report.get("clock_steps").and_then(Value::as_array).map_or(0, |steps| steps.len() as u64),
            probes: report.get("probes")?.as_array()?.iter().map(probe).collect::<Option<_>>()?,
        })
    }
}

impl Capture {
    /// Nanoseconds that are in any of the windows, those in several of them once.
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
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        let mut changes = Vec::new();
        for window in &self.windows {
            for probe in &window.probes {
                match last.insert(&probe.name, &probe.verdict) {
                    Some(before) if before != probe.verdict => changes.push(Change {
                        at: window.start.clone(),
                        probe: probe.name.clone(),
                        from: before.to_owned(),
                        to: probe.verdict.clone(),
                        reason: probe.reason.clone(),
                    }),
                    _ => {}
                }
            }
        }
        changes
    }

    /// Each probe's sum, in the order in which they were met.
    fn probes(&self) -> Vec<ProbeTotals> {
        let mut sums: Vec<ProbeTotals> = Vec::new();
        for probe in self.windows.iter().flat_map(|window| &window.probes) {
            match sums.iter_mut().find(|sum| sum.name == probe.name) {
                None => sums.push(probe.clone()),
                Some(sum) => {
                    sum.verdict.clone_from(&probe.verdict);
                    sum.seen = sum.seen.saturating_add(probe.seen);
                    sum.written = sum.written.saturating_add(probe.written);
                    sum.lost = sum.lost.saturating_add(probe.lost);
                    sum.missed = sum.missed.saturating_add(probe.missed);
                    sum.warmup = sum.warmup.saturating_add(probe.warmup);
                }
            }
        }
        sums
    }

    fn ended_by(&self) -> BTreeMap<&str, u64> {
        let mut by = BTreeMap::new();
        self.windows.iter().for_each(|window| *by.entry(window.ended_by.as_str()).or_default() += 1);
        by
    }

    fn clock_steps(&self) -> u64 {
        self.windows.iter().map(|window| window.clock_steps).sum()
    }

    fn failed(&self) -> impl Iterator<Item = &ReportWindow> {
        self.windows.iter().filter(|window| window.exit_code != 0 || !window.balances)
    }

    fn to_json(&self) -> Value {
        let probe = |probe: &ProbeTotals| {
            let ProbeTotals { name, verdict, seen, written, lost, missed, warmup, .. } = probe;
            json!({ "name": name, "last_verdict": verdict, "seen": seen, "written": written, "lost": lost,
                    "missed": missed, "warmup": warmup })
        };
        let gap = |gap: &WindowGap| json!({ "from": gap.from, "to": gap.to, "nanoseconds": gap.nanoseconds, "overlap": gap.overlap });
        let change = |change: &Change| {
            json!({ "at": change.at, "probe": change.probe, "from": change.from, "to": change.to,
                    "reason": change.reason })
        };
        let failed = |window: &ReportWindow| {
            json!({ "file": window.file, "start": window.start, "exit_code": window.exit_code, "error": window.error,
                    "balances": window.balances })
        };
        json!({
            "name": self.name,
            "host": self.host,
            "windows": self.windows.len(),
            "start": self.windows.first().map(|window| &window.start),
            "end": self.windows.last().map(|window| &window.end),
            "recorded_ns": self.recorded(),
            "ended_by": self.ended_by(),
            "clock_steps": self.clock_steps(),
            "probes": self.probes().iter().map(probe).collect::<Vec<_>>(),
            "gaps": self.gaps().iter().map(gap).collect::<Vec<_>>(),
            "verdict_changes": self.changes().iter().map(change).collect::<Vec<_>>(),
            "failed": self.failed().map(failed).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests;
