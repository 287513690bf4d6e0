//! The summary of a run: the report as text.

use std::cmp::Reverse;
use std::fmt;

use super::{Account, CgroupAccount, Report, Skipped};
use crate::config::quantity::Nanoseconds;
use crate::kernel::Verdict;
use crate::symbols::SymbolCounts;

impl fmt::Display for Report {
    /// Several lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "finished after {:.1}s: {}", self.elapsed.as_secs_f64(), self.end)?;
        let width = self.accounts.iter().map(|account| account.probe.len()).max().unwrap_or(0).max(5);
        write!(f, "  {:width$}  {:>10}  {:>10}  {:>10}", "probe", "received", "written", "lost")?;
        for account in &self.accounts {
            let Account { probe, received, written, .. } = account;
            write!(f, "\n  {probe:width$}  {received:>10}  {written:>10}  {:>10}", account.lost())?;
            if let Some(events) = account.counted {
                write!(f, "  (rows of {events} events)")?;
            }
            let named: Vec<_> = account
                .maps
                .iter()
                .map(|map| (map.insert_failures, format!("the map `{}` was full", map.name)))
                .collect();
            let maps = named.iter().map(|(insert_failures, words)| (*insert_failures, words.as_str()));
            let causes = [
                (account.kernel.lost_buffer_full, "the buffer was full"),
                (account.kernel.lost_other, "no free scratch space, or no perf buffer on the CPU"),
                (account.lost_queue_full, "the sinks were too slow"),
                (account.lost_other, "a template failed"),
            ];
            for (count, cause) in causes.into_iter().chain(maps).filter(|(count, _)| *count > 0) {
                write!(f, "  ({count}: {cause})")?;
            }
            if account.recursion_misses > 0 {
                write!(
                    f,
                    "  (up to {} more may be missing: the kernel skipped the program that often)",
                    account.recursion_misses
                )?;
            }
            if account.unseen() > 0 {
                write!(f, "  (up to {} more may be missing: no hook saw their end)", account.unseen())?;
            }
            for (what, count) in account.maps.iter().filter_map(|map| map.in_flight.as_ref()).filter(|(_, n)| *n > 0) {
                write!(f, "  ({what} at the end: {count})")?;
            }
            let (peak, size) = (account.peak_unread, u64::from(account.buffer.effective));
            if size > 0 && peak > size / 2 {
                write!(f, "  (buffer up to {}% full)", 100 * u128::from(peak) / u128::from(size))?;
            }
            if account.out_of_order > 0 {
                write!(f, "  ({} out of order)", account.out_of_order)?;
            }
            if account.warmup > 0 {
                write!(f, "  ({} during warm-up)", account.warmup)?;
            }
            if account.discarded > 0 {
                write!(f, "  ({} more discarded: the output ended)", account.discarded)?;
            }
            if !account.symbols.unresolved.is_empty() {
                write!(f, "  ({})", Unresolved(&account.symbols))?;
            }
            if !account.cpus_not_sampled.is_empty() {
                let cpus: Vec<String> = account.cpus_not_sampled.iter().map(u32::to_string).collect();
                write!(f, "  (CPU {} went offline or came online and is not sampled since)", cpus.join(", "))?;
            }
            if let (Verdict::Fallback, Some(reason)) = (account.verdict, &account.reason) {
                write!(f, "  (fallback: {reason})")?;
            }
            if let Some(what) = account.discrepancy() {
                write!(f, "  (the counts do not reconcile: {what})")?;
            }
        }
        for Skipped { probe, verdict, reason, .. } in &self.skipped {
            write!(f, "\n  {probe:width$}  {}: {reason}", verdict.key())?;
        }
        for step in &self.clock_steps {
            write!(f, "\n  {step}")?;
        }
        for cgroup in self.cgroups.iter().filter(|cgroup| cgroup.restarts > 0 || !cgroup.present) {
            write!(f, "\n  {cgroup}")?;
        }
        if let Some(zone) = &self.unknown_time_zone {
            write!(f, "\n  local times are UTC: the time zone of this host, {zone}, is unknown")?;
        }
        if self.symbol_helpers_replaced > 0 {
            write!(f, "\n  the symbol helper crashed or did not answer; restarts: {}", self.symbol_helpers_replaced)?;
        }
        if let Some(words) = &self.template_failure {
            write!(f, "\n  {words}")?;
        }
        for file in self.files.iter().filter(|file| !file.complete) {
            write!(f, "\n  {} is incomplete", file.path.display())?;
        }
        Ok(())
    }
}

impl fmt::Display for CgroupAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CgroupAccount { filter, value, probes, restarts, absent, present } = self;
        write!(f, "{filter} {value} (filter of {}): ", probes.join(", "))?;
        match restarts {
            0 => {}
            1 => write!(f, "recreated once, ")?,
            more => write!(f, "recreated {more} times, ")?,
        }
        write!(f, "absent for {}", Nanoseconds::from(*absent))?;
        if *present { Ok(()) } else { write!(f, ", and at the end") }
    }
}

/// Frames without a name, and why.
struct Unresolved<'a>(&'a SymbolCounts);

impl fmt::Display for Unresolved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SymbolCounts { frames, unresolved } = self.0;
        write!(f, "{} of {frames} frames have no name", unresolved.values().sum::<u64>())?;
        let mut causes: Vec<_> = unresolved.iter().collect();
        causes.sort_by_key(|(_, count)| Reverse(**count));
        for (i, (cause, count)) in causes.iter().enumerate() {
            write!(f, "{}{} {count}", if i == 0 { ": " } else { ", " }, cause.words())?;
        }
        Ok(())
    }
}
