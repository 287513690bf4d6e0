//! Reading what a program keeps in its maps.

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::Loaded;
use crate::error::{Error, Result};

/// The map that stacks are kept in, `bpf/include/stack.h`.
const STACKS: &str = "stacks";
/// How the name of the array beside an aggregate ends, `AGGREGATE_DENSE` in `bpf/include/aggregate.h`.
const DENSE: &str = "_dense";

/// One entry of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value; of a map that keeps CPUs apart, one a *possible* CPU, in their order.
    pub values: Vec<Vec<u8>>,
}

/// The map of an aggregate, with the array beside it and the map that its stacks are in, if there are any: another way to them than by [`Loaded`], for the thread
/// that reads them.
#[derive(Debug)]
pub struct AggregateMap {
    entries: MapHandle,
    dense: Option<MapHandle>,
    stacks: Option<MapHandle>,
}

impl Loaded {
    /// The map `name`, with the array beside it and the stacks, if the program has them.
    ///
    /// # Errors
    /// If there is no such map, or no file descriptor is left.
    pub fn aggregate(&self, name: &str) -> Result<AggregateMap> {
        let failed = |error: libbpf_rs::Error| Error::failed(format!("map `{name}` can't be used: {error:#}"));
        let handle = |map: libbpf_rs::Map<'_>| MapHandle::try_from(&map).map_err(failed);
        let stacks = self.map(STACKS).ok().map(handle).transpose()?;
        let dense = self.map(&format!("{name}{DENSE}")).ok().map(handle).transpose()?;
        Ok(AggregateMap { entries: handle(self.map(name)?)?, dense, stacks })
    }
}

impl AggregateMap {
    /// All entries. What is inserted meanwhile may be among them or not; nothing is taken out.
    ///
    /// # Errors
    /// If the kernel does not give them.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = read(&self.entries)?;
        if let Some(dense) = &self.dense {
            // An array has all of its entries from the start; what is zero was never used
            let used = |entry: &Entry| entry.values.iter().flatten().any(|byte| *byte != 0);
            entries.extend(read(dense)?.into_iter().filter(used).map(|mut entry| {
                entry.key.resize(self.entries.key_size() as usize, 0);
                entry
            }));
        }
        Ok(entries)
    }

    /// The addresses of the stack with the hash `id`, the innermost first; `None` if it was not kept.
    pub fn stack(&self, id: u64) -> Option<Vec<u64>> {
        let bytes = self.stacks.as_ref()?.lookup(&id.to_ne_bytes(), MapFlags::ANY).ok()??;
        let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
        Some(words.take_while(|address| *address != 0).collect())
    }
}

fn read(map: &MapHandle) -> Result<Vec<Entry>> {
    let failed = |error: libbpf_rs::Error| {
        Error::failed(format!("map `{}` can't be read: {error:#}", map.name().to_string_lossy()))
    };
    let per_cpu = matches!(map.map_type(), MapType::PercpuHash | MapType::PercpuArray);
    let mut entries = Vec::new();
    for key in map.keys() {
        // The kernel writes a value for every possible CPU, online or not: lookup_percpu makes room for all of them
        let values = if per_cpu {
            map.lookup_percpu(&key, MapFlags::ANY).map_err(failed)?
        } else {
            map.lookup(&key, MapFlags::ANY).map_err(failed)?.map(|value| vec![value])
        };
        entries.extend(values.map(|values| Entry { key, values }));
    }
    Ok(entries)
}
