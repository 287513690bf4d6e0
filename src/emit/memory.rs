//! The memory limit of a capture: its plan, and a constant for the runner.

use crate::pipeline::queue::QUEUE_BYTES;
use crate::plan::{Plan, Requirements};
use crate::symbols;

const MIB: u64 = 1 << 20;
/// The runner with its tables (most of it the kernel's types), templates, and memory for compression.
const RUNNER: u64 = 64 * MIB;
/// Limits are multiples of this.
const STEP: u64 = 64 * MIB;

/// Bytes for `MemoryMax=` on a machine with this many CPUs: a multiple of 64 MiB, so that a small change of a config
/// does not change the unit.
///
/// Buffers and maps count from Linux 5.11 on. Pages of written files count too, and the kernel can reclaim them.
pub(super) fn limit(plan: &Plan, cpus: u64) -> u64 {
    let buffers: u64 = plan.probes.iter().map(|probe| probe.buffer_memory(cpus)).sum();
    let maps: u64 = plan.probes.iter().map(|probe| probe.map_memory(cpus)).sum();
    let symbols = if Requirements::anywhere(plan).user_stacks { symbols::MAX_MEMORY } else { 0 };
    let needed = RUNNER + QUEUE_BYTES as u64 + buffers + maps + symbols;
    // The kernel's rounding, and dirty pages of files
    (needed + needed / 2).next_multiple_of(STEP)
}
