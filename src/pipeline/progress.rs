//! The line that shows a person how a capture is going while nothing else is printed.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::console;

/// Not more often than a person can read.
const EVERY: Duration = Duration::from_millis(500);

/// A line on standard error that is drawn over again and again.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    last: Option<Instant>,
}

impl Progress {
    /// Draws only if standard error is a terminal and no sink scrolls on one.
    pub fn new(wanted: bool, a_sink_is_on_stdout: bool) -> Self {
        let scrolling = a_sink_is_on_stdout && std::io::stdout().is_terminal();
        let shown = wanted && !scrolling && std::io::stderr().is_terminal();
        Progress { shown, last: None }
    }

    /// How long the loop may sleep without the line getting old.
    pub fn interval(&self) -> Option<Duration> {
        self.shown.then_some(EVERY)
    }

    /// Draws the line anew if it is time.
    pub fn draw(&mut self, elapsed: Duration, of: Option<Duration>, written: u64, lost: impl FnOnce() -> u64) {
        if !self.shown || self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let line = line(elapsed, of, written, lost());
        console::draw(&format!("\r\x1b[K{line}"));
    }

    /// Takes the line away.
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
