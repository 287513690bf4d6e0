//! Operations that have begun and not ended: entries of the maps that a program tags with `IN_FLIGHT()`.

use libbpf_rs::{MapCore, MapFlags};

use super::Loaded;
use crate::catalog::MapSpec;
use crate::error::{Error, Result};

impl Loaded {
    /// The number of operations in flight, for each map in the catalogue's order; `None` if its entries are something
    /// else.
    ///
    /// # Errors
    /// If the entries can't be read, or if the iterators did not run.
    pub fn under_way(&self, maps: &[MapSpec]) -> Result<Vec<Option<u64>>> {
        self.iterated()?;
        let count = |map: &MapSpec| match map.in_flight {
            Some(_) => Ok(Some(self.begun(&map.name)?.len() as u64)),
            None => Ok(None),
        };
        maps.iter().map(count).collect()
    }

    /// The number of entries whose end no hook saw, for each map in the catalogue's order.
    ///
    /// # Errors
    /// If the counts can't be read.
    pub fn unseen(&self, maps: &[MapSpec]) -> Result<Vec<u64>> {
        let places: Vec<usize> = maps.iter().filter_map(|map| map.unseen).collect();
        let mut counts = self.counters_in_bss(places.into_iter())?.into_iter();
        Ok(maps.iter().map(|map| map.unseen.and_then(|_| counts.next()).unwrap_or(0)).collect())
    }

    /// Removes the entries of `map` that began before `before`, on the clock of timestamps. Returns their number.
    ///
    /// # Errors
    /// If the entries can't be read.
    pub fn drop_older(&self, map: &MapSpec, before: u64) -> Result<u64> {
        let entries = self.map(&map.name)?;
        let old = self.begun(&map.name)?.into_iter().filter(|(_, since)| *since < before);
        // An operation that has ended meanwhile is removed already
        Ok(old.filter(|(key, _)| entries.delete(key).is_ok()).count() as u64)
    }

    /// The keys of the operations in flight, and the start time of each.
    fn begun(&self, name: &str) -> Result<Vec<(Vec<u8>, u64)>> {
        let map = self.map(name)?;
        let mut begun = Vec::new();
        for key in map.keys() {
            let value = map
                .lookup(&key, MapFlags::ANY)
                .map_err(|error| Error::failed(format!("map `{name}` can't be read: {error:#}")))?;
            let since = value.and_then(|value| value.first_chunk().map(|word| u64::from_ne_bytes(*word)));
            begun.extend(since.filter(|since| *since != 0).map(|since| (key, since)));
        }
        Ok(begun)
    }
}
