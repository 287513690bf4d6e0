//! Removes requests from a map whose end no hook saw: they must not fill the map permanently.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::kernel::Loaded;
use crate::plan::Plan;

/// How often the counters of failed inserts are checked.
const PERIOD: Duration = Duration::from_secs(1);
/// Entries older than this are dropped from a map with failed inserts. Longer than the timeout of most drivers (30 s).
const OLD: Duration = Duration::from_secs(60);

/// The number of dropped entries, by probe and map.
#[derive(Debug, Default)]
pub(crate) struct StaleEntries {
    checked: Option<Instant>,
    refused: Vec<Vec<u64>>,
    dropped: Vec<Vec<u64>>,
}

impl StaleEntries {
    /// Drops old entries of maps with failed inserts since the last check.
    pub fn check(&mut self, plan: &Plan, loaded: &[Loaded], now: u64) -> Result<()> {
        if self.checked.is_some_and(|checked| checked.elapsed() < PERIOD) {
            return Ok(());
        }
        self.checked = Some(Instant::now());
        self.refused.resize(loaded.len(), Vec::new());
        self.dropped.resize(loaded.len(), Vec::new());
        for (index, (loaded, probe)) in loaded.iter().zip(&plan.probes).enumerate() {
            let maps = &probe.program.maps;
            if maps.iter().all(|map| map.unseen.is_none()) {
                continue;
            }
            let refused = loaded.insert_failures(maps)?;
            let before = std::mem::replace(&mut self.refused[index], refused.clone());
            self.dropped[index].resize(maps.len(), 0);
            for (at, map) in maps.iter().enumerate().filter(|(_, map)| map.unseen.is_some()) {
                if refused[at] > before.get(at).copied().unwrap_or(0) {
                    self.dropped[index][at] += loaded.drop_older(map, now.saturating_sub(OLD.as_nanos() as u64))?;
                }
            }
        }
        Ok(())
    }

    /// Adds the dropped entries to `unseen`, counts by probe and map.
    pub fn add_to(&self, unseen: &mut [Vec<u64>]) {
        for (counts, dropped) in unseen.iter_mut().zip(&self.dropped) {
            counts.iter_mut().zip(dropped).for_each(|(count, dropped)| *count += dropped);
        }
    }
}
