//! How much memory a capture may take: what its plan says, and room for the rest.

use crate::pipeline::queue::QUEUE_BYTES;
use crate::plan::{Plan, Requirements};
use crate::symbols;

const MIB: u64 = 1 << 20;
/// The runner with its tables (the kernel's types take most of it), templates, and what compressing takes.
const RUNNER: u64 = 64 * MIB;
/// Limits are round numbers.
const STEP: u64 = 64 * MIB;

/// Bytes for `MemoryMax=` on a machine with so many CPUs: a multiple of 64 MiB, so that a small change of a config is none of the unit.
///
/// Buffers and maps count from Linux 5.11 on. Pages of written files count too, and are given back.
pub(super) fn limit(plan: &Plan, cpus: u64) -> u64 {
    let buffers: u64 = plan.probes.iter().map(|probe| probe.buffer_memory(cpus)).sum();
    let maps: u64 = plan.probes.iter().map(|probe| probe.map_memory(cpus)).sum();
    let symbols = if Requirements::anywhere(plan).user_stacks { symbols::MAX_MEMORY } else { 0 };
    let needed = RUNNER + QUEUE_BYTES as u64 + buffers + maps + symbols;
    // The kernel's own rounding, and files that are yet to be written back
    (needed + needed / 2).next_multiple_of(STEP)
}
