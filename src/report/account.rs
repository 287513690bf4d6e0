//! Counts of a run: the events of each probe, its maps, and the files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::kernel::{Counters, Verdict};
use crate::plan::BufferPlan;
use crate::symbols::SymbolCounts;

/// Counts of one probe. Kernel and user space count independently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The probe's name.
    pub probe: String,
    /// The program's name.
    pub program: String,
    /// The hooks that were attached.
    pub hooks: Vec<String>,
    /// What became of it on this kernel.
    pub verdict: Verdict,
    /// Why it is not its first choice.
    pub reason: Option<String>,
    /// Group and variant of the alternatives that were attached.
    pub variants: BTreeMap<String, String>,
    /// The kernel's counters.
    pub kernel: Counters,
    /// Records taken out of the buffer within the window.
    pub received: u64,
    /// For an aggregate, whose records are rows: the events that are in them.
    pub counted: Option<u64>,
    /// Records that reached all of their sinks.
    pub written: u64,
    /// Events before the window began, in its warm-up. They are not written, and not lost.
    pub warmup: u64,
    /// Of these, what the kernel lost.
    pub warmup_lost: u64,
    /// Records that came after the window had all that it wanted.
    pub after_window: u64,
    /// Records that the sinks were too slow for.
    pub lost_queue_full: u64,
    /// Records that could not be formatted or were none.
    pub lost_other: u64,
    /// Records that were received, but not written any more, because the output ended.
    pub discarded: u64,
    /// Records that came too late to be sorted; they are written.
    pub out_of_order: u64,
    /// The most bytes of the buffer that were unread: of the ring, or of the fullest of the perf buffers.
    pub peak_unread: u64,
    /// Perf buffers: records that the kernel reports as lost, another count of `lost_buffer_full`.
    pub perf_lost: Option<u64>,
    /// How often the kernel skipped a program because it was running on that CPU already, for any task and before any
    /// filter: an upper bound of further missing events. How many of these calls were events is unknown.
    pub recursion_misses: u64,
    /// The program's maps.
    pub maps: Vec<MapAccount>,
    /// The buffer.
    pub buffer: BufferPlan,
    /// What became of the frames of its stacks.
    pub symbols: SymbolCounts,
    /// CPUs that went offline or came online in the window, and that its perf events do not run on since.
    pub cpus_not_sampled: Vec<u32>,
    /// Bytes that the buffer takes on this machine.
    pub memory: u64,
    /// After a loss: the size that would have been enough, bytes.
    pub suggested_size: Option<u64>,
}

impl Account {
    /// Events that the probe wanted and that are not in the output, by any cause. Not among them is what came
    /// after the window was full or after the reader of the output ended.
    pub fn lost(&self) -> u64 {
        self.kernel.lost().saturating_add(self.lost_queue_full).saturating_add(self.lost_other)
    }

    /// What had begun and not ended at the end of the window. `None` if the program does not follow anything to its end.
    pub fn in_flight(&self) -> Option<u64> {
        self.maps.iter().filter_map(|map| map.in_flight.as_ref().map(|(_, count)| *count)).reduce(|sum, one| sum + one)
    }

    /// What the program saw begin, and whose end came without being seen: so many events may be missing at most, besides
    /// those that are lost.
    pub fn unseen(&self) -> u64 {
        self.maps.iter().map(|map| map.unseen).sum()
    }

    /// Events that are in the output and lack a part, a stack or a time, because a map had no room for it.
    pub fn incomplete(&self) -> u64 {
        let insert_failures = self.maps.iter().map(|map| map.insert_failures).fold(0, u64::saturating_add);
        insert_failures.saturating_sub(self.kernel.lost_map_full).min(self.kernel.seen)
    }

    /// Whether what the kernel counted is what userspace got and what is known to be lost.
    pub fn reconciles(&self) -> bool {
        self.discrepancy().is_none()
    }

    /// What does not reconcile, in words; `None` if all does.
    pub fn discrepancy(&self) -> Option<String> {
        // Sums of 128 bits: a count that ran over must not make up for another
        let sum = |counts: &[u64]| counts.iter().map(|count| u128::from(*count)).sum::<u128>();
        let kernel = &self.kernel;
        let lost = sum(&[kernel.lost_buffer_full, kernel.lost_map_full, kernel.lost_other]);
        let arrived = self.counted.map_or(sum(&[self.received, self.after_window]), u128::from);
        let known = arrived + lost + u128::from(self.warmup);
        if u128::from(kernel.seen) != known {
            return Some(format!("the kernel counted {} events, userspace accounts for {known}", kernel.seen));
        }
        let done = sum(&[self.written, self.lost_queue_full, self.lost_other, self.discarded]);
        if u128::from(self.received) != done {
            return Some(format!("{} records were received, {done} are accounted for", self.received));
        }
        // The kernel tells of a loss with the next record that has room: the last ones it may still owe
        let most = sum(&[kernel.lost_buffer_full, self.warmup_lost]);
        let told = self.perf_lost.filter(|told| u128::from(*told) > most)?;
        Some(format!("the kernel reported {told} lost records, the program counted {most}"))
    }
}

/// A probe that this kernel can't run and the config can do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The probe's name.
    pub probe: String,
    /// The program's name.
    pub program: String,
    /// Unsupported or broken.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

/// A cgroup that a filter names, and what became of it while the window was open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupAccount {
    /// The filter: `cgroup` or `unit`.
    pub filter: String,
    /// What it names.
    pub value: String,
    /// The probes that have it.
    pub probes: Vec<String>,
    /// How often it was made again.
    pub restarts: u64,
    /// How long it was not there, all in all.
    pub absent: Duration,
    /// Whether it was there at the end.
    pub present: bool,
}

/// A map of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapAccount {
    /// Its name.
    pub name: String,
    /// How many entries it had room for.
    pub max_entries: u32,
    /// Inserts that it insert_failures.
    pub insert_failures: u64,
    /// Entries whose end came and was not seen by a hook.
    pub unseen: u64,
    /// What its entries are, and how many of them were under way at the end.
    pub in_flight: Option<(String, u64)>,
}

impl MapAccount {
    /// Room for what was insert_failures as well, but not more than four times as much at once: most entries of a map are gone
    /// before the next ones come.
    pub(super) fn larger(&self) -> u64 {
        let entries = u64::from(self.max_entries);
        (entries + self.insert_failures.min(3 * entries)).next_power_of_two()
    }
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAccount {
    /// The sink's name.
    pub sink: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes, before it was compressed.
    pub bytes: u64,
    /// Whether it is whole; if not, its name says so.
    pub complete: bool,
}
