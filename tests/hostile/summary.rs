//! What is printed of the windows.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::time::Duration;

use crate::judge::{Found, Named};
use crate::place::Place;
use crate::window::{Ran, Setting, Window};

#[derive(Debug, Default)]
pub struct Summary {
    windows: u64,
    /// By setting: how many ended with which code.
    codes: BTreeMap<&'static str, BTreeMap<i32, u64>>,
    configs: BTreeMap<String, u64>,
    unsupported: BTreeMap<String, u64>,
    /// By attack: how often it was started, how often it failed to begin, with one of the reasons.
    attacks: BTreeMap<String, (u64, u64, String)>,
    runner: u64,
    child: u64,
    over: Duration,
    rows: u64,
    witness: Named,
    caller: Named,
}

impl Summary {
    pub fn add(&mut self, window: &Window, ran: &Ran, found: &Found, place: &Place) -> io::Result<()> {
        self.windows += 1;
        let code = ran.code.unwrap_or(-ran.signal.unwrap_or(0));
        *self.codes.entry(window.setting.name()).or_default().entry(code).or_default() += 1;
        *self.configs.entry(window.config.clone()).or_default() += 1;
        if found.unsupported {
            *self.unsupported.entry(window.config.clone()).or_default() += 1;
        }
        self.runner = self.runner.max(ran.watch.runner);
        self.child = self.child.max(ran.watch.child);
        self.over = self.over.max(ran.over);
        self.rows += found.rows;
        if window.setting == Setting::Plain {
            self.witness.add(found.witness);
            self.caller.add(found.caller);
        }
        let log = fs::read(place.path("record/attacks.log"))?;
        for line in String::from_utf8_lossy(&log).lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(_), Some(name)) = (words.next(), words.next()) else { continue };
            let entry = self.attacks.entry(name.to_owned()).or_default();
            match words.next().and_then(|what| what.strip_prefix("failed: ")) {
                Some(reason) => {
                    entry.1 += 1;
                    entry.2 = reason.to_owned();
                }
                None => entry.0 += 1,
            }
        }
        Ok(())
    }

    /// What is wrong with all windows together: both programs run in all of them, and their functions can be known.
    pub fn blind(&self) -> Option<String> {
        let programs = [("an ordinary program", self.witness), ("a program that calls odd code", self.caller)];
        let (who, named) = programs.into_iter().find(|(_, named)| named.is_blind())?;
        Some(format!("samples of {who} with the name of its function: {named}"))
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} windows of {} configs, {} rows", self.windows, self.configs.len(), self.rows)?;
        for (setting, codes) in &self.codes {
            let codes: Vec<String> = codes.iter().map(|(code, count)| format!("{count} × {code}")).collect();
            writeln!(f, "  {setting}: exit codes {}", codes.join(", "))?;
        }
        for (config, count) in &self.unsupported {
            writeln!(f, "  {config}: this kernel does not support it ({count} ×)")?;
        }
        let attacks: Vec<String> = self.attacks.iter().map(|(name, (count, ..))| format!("{name} {count}")).collect();
        writeln!(f, "attacks: {}", attacks.join(", "))?;
        for (name, (_, failed, reason)) in self.attacks.iter().filter(|(_, (_, failed, _))| *failed > 0) {
            writeln!(f, "  {name}: {failed} could not go on, for instance: {reason}")?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(f, "most memory: runner {:.1} MiB, one of its children {:.1} MiB", mib(self.runner), mib(self.child))?;
        writeln!(f, "longest time from the end of a window to that of its run: {:.1} s", self.over.as_secs_f64())?;
        writeln!(f, "samples of an ordinary program with its function: {}", self.witness)?;
        write!(f, "samples of a program that calls odd code with its function: {}", self.caller)
    }
}

pub fn line(window: &Window, ran: &Ran, found: &Found) -> String {
    let end = match (ran.code, ran.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no end".to_owned(),
    };
    format!(
        "hostile: window {}: {}, {}{}, {:.1} s: {end}, {} rows, {} MiB, {:.1} s after its end",
        window.number,
        window.config,
        window.setting.name(),
        if window.wide { ", wide" } else { "" },
        window.duration.as_secs_f64(),
        found.rows,
        (ran.watch.runner >> 20).max(ran.watch.child >> 20),
        ran.over.as_secs_f64(),
    )
}

/// The messages of a run and the attacks that went on.
pub fn record(place: &Place) -> io::Result<String> {
    let mut text = String::new();
    for name in ["stderr", "attackers.stderr", "attacks.log"] {
        let content = fs::read(place.path("record").join(name)).unwrap_or_default();
        let content: String =
            String::from_utf8_lossy(&content).lines().map(|line| format!("  {}\n", line.escape_debug())).collect();
        text += &format!("{name}:\n{content}");
    }
    Ok(text)
}
