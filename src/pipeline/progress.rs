//! The progress line on a terminal, shown while nothing else is printed.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::console;

/// The minimum time between updates.
const EVERY: Duration = Duration::from_millis(500);

/// A line on standard error that is overwritten repeatedly.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    last: Option<Instant>,
}

impl Progress {
    /// Prints only if standard error is a terminal and no sink writes to one.
    pub fn new(wanted: bool, a_sink_is_on_stdout: bool) -> Self {
        let scrolling = a_sink_is_on_stdout && std::io::stdout().is_terminal();
        let shown = wanted && !scrolling && std::io::stderr().is_terminal();
        Progress { shown, last: None }
    }

    /// The time until the next update.
    pub fn interval(&self) -> Option<Duration> {
        self.shown.then_some(EVERY)
    }

    /// Updates the line if it is due.
    pub fn draw(&mut self, elapsed: Duration, of: Option<Duration>, written: u64, lost: impl FnOnce() -> u64) {
        if !self.shown || self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let line = line(elapsed, of, written, lost());
        console::draw(&format!("\r\x1b[K{line}"));
    }

    /// Clears the line.
    pub fn clear(&mut self) {
        if self.shown && self.last.is_some() {
            console::draw("\r\x1b[K");
        }
    }
}

fn line(elapsed: Duration, of: Option<Duration>, written: u64, lost: u64) -> String {
    let clock = |time: Duration| format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
    let of = of.map(|of| format!(" of {}", clock(of))).unwrap_or_default();
    format!("ebpf-run: {}{of}  {written} events written, {lost} lost  (Ctrl-C to stop)", clock(elapsed))
}

#[cfg(test)]
mod tests;
