//! Reads the maps of a program.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::Loaded;
use crate::catalog::SECOND;
use crate::error::{Error, Result};

/// The map of stacks, `bpf/include/stack.h`.
const STACKS: &str = "stacks";
/// The suffix of the array beside an aggregate, `AGGREGATE_DENSE` in `bpf/include/aggregate.h`.
const DENSE: &str = "_dense";

/// The suffix of the map that selects which of two maps is in use, `RUNNER_NOW` in `bpf/include/aggregate.h`.
pub(super) const NOW: &str = "_now";
/// Addresses of stacks that are kept after their map was emptied: a thread that was off-CPU for long refers to an
/// earlier stack.
const MAX_REMEMBERED: usize = 1 << 20;

/// One entry of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapEntry {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value; of a per-CPU map, one value for each *possible* CPU, in their order.
    pub values: Vec<Vec<u8>>,
    /// Whether it was removed from the map.
    pub taken: bool,
}

/// The map of an aggregate, with the array beside it and the map of its stacks, if it has them. The handles are
/// independent of [`Loaded`], for the thread that reads them.
#[derive(Debug)]
pub struct AggregateMap {
    entries: SwappedMap,
    dense: Option<MapHandle>,
    stacks: Option<SwappedMap>,
    remembered: StackCache,
}

/// One map, or two of which one is in use.
#[derive(Debug)]
struct SwappedMap {
    map: MapHandle,
    other: Option<SecondMap>,
}

#[derive(Debug)]
struct SecondMap {
    first: MapHandle,
    now: MapHandle,
    first_is_used: bool,
}

/// Stacks in two generations.
#[derive(Debug, Default)]
struct StackCache {
    recent: HashMap<u64, Vec<u64>>,
    older: HashMap<u64, Vec<u64>>,
    addresses: usize,
}

impl StackCache {
    fn add(&mut self, id: u64, addresses: Vec<u64>) {
        self.addresses += addresses.len();
        self.recent.insert(id, addresses);
        if self.addresses > MAX_REMEMBERED {
            self.older = std::mem::take(&mut self.recent);
            self.addresses = 0;
        }
    }

    fn get(&self, id: u64) -> Option<Vec<u64>> {
        self.recent.get(&id).or_else(|| self.older.get(&id)).cloned()
    }
}

impl SwappedMap {
    /// All entries, without removing them.
    fn entries(&self) -> Result<Vec<MapEntry>> {
        let mut entries = read(&self.map)?;
        if let Some(other) = &self.other {
            entries.extend(read(&other.first)?);
        }
        Ok(entries)
    }

    /// All entries; if there are two maps, swaps them and removes the entries from the one that was in use.
    fn take(&mut self) -> Result<Vec<MapEntry>> {
        let Some(other) = &mut self.other else { return read(&self.map) };
        let (used, free) = if other.first_is_used { (&other.first, &self.map) } else { (&self.map, &other.first) };
        let failed = |error: libbpf_rs::Error| Error::failed(format!("a map can't be swapped: {error:#}"));
        let fd = free.as_fd().as_raw_fd();
        // When this returns, no program still uses the previous map: the kernel waits for them
        other.now.update(&0_u32.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY).map_err(failed)?;
        let mut entries = read(used)?;
        for entry in &mut entries {
            used.delete(&entry.key).map_err(failed)?;
            entry.taken = true;
        }
        other.first_is_used = !other.first_is_used;
        Ok(entries)
    }
}

impl Loaded {
    /// The map `name`, with the array beside it and the stacks, if the program has them; two of each if `swaps`.
    ///
    /// # Errors
    /// If there is no such map, or no file descriptor is available.
    pub fn aggregate(&self, name: &str, swaps: bool) -> Result<AggregateMap> {
        let failed = |error: libbpf_rs::Error| Error::failed(format!("map `{name}` can't be used: {error:#}"));
        let handle = |map: libbpf_rs::Map<'_>| MapHandle::try_from(&map).map_err(failed);
        let swapped = |name: &str| -> Result<SwappedMap> {
            let other = |name: &str| -> Result<SecondMap> {
                let first = handle(self.map(&format!("{name}{SECOND}"))?)?;
                Ok(SecondMap { first, now: handle(self.map(&format!("{name}{NOW}"))?)?, first_is_used: true })
            };
            let other = if swaps { Some(other(name)?) } else { None };
            Ok(SwappedMap { map: handle(self.map(name)?)?, other })
        };
        let stacks = if self.map(STACKS).is_ok() { Some(swapped(STACKS)?) } else { None };
        let dense = self.map(&format!("{name}{DENSE}")).ok().map(handle).transpose()?;
        Ok(AggregateMap { entries: swapped(name)?, dense, stacks, remembered: StackCache::default() })
    }
}

impl AggregateMap {
    /// All entries, without removing them. Entries that are inserted meanwhile can be missing.
    ///
    /// # Errors
    /// If a map can't be read.
    pub fn entries(&self) -> Result<Vec<MapEntry>> {
        let mut entries = self.entries.entries()?;
        self.add_dense(&mut entries)?;
        Ok(entries)
    }

    /// All entries. Removes those of a map that exists twice.
    ///
    /// # Errors
    /// If a map can't be read.
    pub fn take(&mut self) -> Result<Vec<MapEntry>> {
        let mut entries = self.entries.take()?;
        self.add_dense(&mut entries)?;
        // The stacks last: the stacks of all removed keys are in the map that is in use until now, or were in an
        // earlier one
        if let Some(stacks) = self.stacks.as_mut().filter(|stacks| stacks.other.is_some()) {
            for stack in stacks.take()? {
                let id = stack.key.as_slice().try_into().map(u64::from_ne_bytes);
                if let (Ok(id), [value]) = (id, stack.values.as_slice()) {
                    self.remembered.add(id, addresses(value));
                }
            }
        }
        Ok(entries)
    }

    fn add_dense(&self, entries: &mut Vec<MapEntry>) -> Result<()> {
        if let Some(dense) = &self.dense {
            // An array has all of its entries from the start; an entry of zeros was never used
            let used = |entry: &MapEntry| entry.values.iter().flatten().any(|byte| *byte != 0);
            entries.extend(read(dense)?.into_iter().filter(used).map(|mut entry| {
                entry.key.resize(self.entries.map.key_size() as usize, 0);
                entry
            }));
        }
        Ok(())
    }

    /// The addresses of the stack with the hash `id`, innermost first; `None` if it was not kept.
    pub fn stack(&self, id: u64) -> Option<Vec<u64>> {
        self.remembered.get(id).or_else(|| {
            let stacks = self.stacks.as_ref()?;
            let bytes = stacks.map.lookup(&id.to_ne_bytes(), MapFlags::ANY).ok()??;
            Some(addresses(&bytes))
        })
    }
}

fn addresses(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
    words.take_while(|address| *address != 0).collect()
}

fn read(map: &MapHandle) -> Result<Vec<MapEntry>> {
    let failed = |error: libbpf_rs::Error| {
        Error::failed(format!("map `{}` can't be read: {error:#}", map.name().to_string_lossy()))
    };
    let per_cpu = matches!(map.map_type(), MapType::PercpuHash | MapType::PercpuArray);
    let mut entries = Vec::new();
    for key in map.keys() {
        // The kernel writes a value for every possible CPU, online or not: lookup_percpu allocates all of them
        let values = if per_cpu {
            map.lookup_percpu(&key, MapFlags::ANY).map_err(failed)?
        } else {
            map.lookup(&key, MapFlags::ANY).map_err(failed)?.map(|value| vec![value])
        };
        entries.extend(values.map(|values| MapEntry { key, values, taken: false }));
    }
    Ok(entries)
}
