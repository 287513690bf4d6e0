//! How much memory a capture may take: what its plan says, and room for the rest.

use crate::plan::Plan;
use crate::run::queue::QUEUE_BYTES;

const MIB: u64 = 1 << 20;
/// The runner with its tables (the kernel's types take most of it), templates, and what compressing takes.
const RUNNER: u64 = 64 * MIB;
/// An entry of a map beside its key and value.
const ENTRY: u64 = 64;
/// Limits are round numbers.
const STEP: u64 = 64 * MIB;

/// Bytes for `MemoryMax=` on a machine with so many CPUs: a multiple of 64 MiB, so that a small change of a config is none of the unit.
///
/// Buffers and maps count from Linux 5.11 on. Pages of written files count too, and are given back.
pub(super) fn limit(plan: &Plan, cpus: u64) -> u64 {
    let buffers: u64 = plan.probes.iter().map(|probe| probe.buffer_memory(cpus)).sum();
    let maps: u64 = plan
        .probes
        .iter()
        .flat_map(|probe| probe.program.maps.iter().map(|map| (probe.entries(map), map)))
        .map(|(entries, map)| {
            let values = if map.per_cpu { cpus } else { 1 };
            u64::from(entries) * (ENTRY + map.key_bytes + map.value_bytes * values)
        })
        .sum();
    let needed = RUNNER + QUEUE_BYTES as u64 + buffers + maps;
    // The kernel's own rounding, and files that are yet to be written back
    (needed + needed / 2).next_multiple_of(STEP)
}
