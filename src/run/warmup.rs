//! The counts before the window, which the report subtracts from the kernel's counts.

use crate::error::Result;
use crate::kernel::{Counters, Loaded, MapEntry};
use crate::pipeline::reader::Reader;
use crate::plan::Plan;

/// The counts when the window began, one entry per probe. All are zero without a warm-up.
#[derive(Debug, Clone, Default)]
pub(super) struct Baseline {
    pub counters: Vec<Counters>,
    /// The entries of the aggregate.
    pub entries: Vec<Vec<MapEntry>>,
    /// Events in the aggregate; `None` if its counters do not count events.
    pub counted: Vec<Option<u64>>,
    /// Failed inserts of each map of the program.
    pub refused: Vec<Vec<u64>>,
    /// Entries of each map of the program whose end no hook saw.
    pub unseen: Vec<Vec<u64>>,
    pub missed: Vec<u64>,
}

impl Baseline {
    /// The baseline of a window that begins when its probes are attached.
    pub fn nothing(plan: &Plan) -> Self {
        Baseline {
            counters: vec![Counters::default(); plan.probes.len()],
            entries: vec![Vec::new(); plan.probes.len()],
            counted: vec![Some(0); plan.probes.len()],
            refused: plan.probes.iter().map(|probe| vec![0; probe.program.maps.len()]).collect(),
            unseen: plan.probes.iter().map(|probe| vec![0; probe.program.maps.len()]).collect(),
            missed: vec![0; plan.probes.len()],
        }
    }

    /// The baseline of a window that begins now.
    ///
    /// # Errors
    /// If the kernel's counts can't be read.
    pub fn now(plan: &Plan, reader: &mut Reader<'_>, loaded: &[Loaded]) -> Result<Self> {
        let mut baseline = Baseline::default();
        for (index, (loaded, probe)) in loaded.iter().zip(&plan.probes).enumerate() {
            let (entries, counted) = match &reader.aggregate_counters[index] {
                Some(counter) => counter.entries()?,
                None => (Vec::new(), Some(0)),
            };
            baseline.entries.push(entries);
            baseline.counted.push(counted);
            let counters = loaded.counters()?;
            reader.losses[index].restart(counters.lost());
            baseline.counters.push(counters);
            baseline.refused.push(loaded.insert_failures(&probe.program.maps)?);
            baseline.unseen.push(loaded.unseen(&probe.program.maps)?);
            baseline.missed.push(loaded.missed()?);
        }
        Ok(baseline)
    }
}
