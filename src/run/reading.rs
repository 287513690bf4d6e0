//! Reading a probe's aggregate, at its interval and at the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aggregate::{Aggregator, Frames};
use super::batch::Collector;
use super::clock;
use crate::catalog::StackKind;
use crate::error::Result;
use crate::kernel::Loaded;
use crate::plan::Plan;
use crate::symbols::Symbols;

/// Frames that a stack is kept to, STACK_FRAMES of `bpf/include/stack.h`.
const FRAMES: usize = 127;
/// Numbers that stand for no stack, as in `bpf/include/stack.h`.
const STACK_NONE: i32 = -14;
/// What is written for a stack that the map had no room for.
const NOT_KEPT: &[u8] = b"[stack not kept]\0";

/// One probe's aggregate under observation.
#[derive(Debug)]
pub struct Reading {
    aggregator: Aggregator,
    map: String,
    /// The first of the probe's streams, and how many there are.
    streams: (usize, usize),
    interval: Option<Duration>,
    next: Option<Instant>,
    total: Option<u64>,
    symbols: Symbols,
    stacks: HashMap<(StackKind, u32, i32), Frames>,
}

/// A reading for each probe that has an aggregate.
pub fn all(plan: &Plan, started: Instant) -> Vec<Option<Reading>> {
    let mut first = 0;
    let mut readings = Vec::new();
    for probe in &plan.probes {
        let streams = (first, probe.streams.len());
        first += probe.streams.len();
        readings.push(probe.aggregate.as_ref().map(|aggregate| Reading {
            aggregator: Aggregator::new(aggregate, probe.streams.iter().map(|s| Arc::clone(&s.layout)).collect()),
            map: aggregate.spec.map.clone(),
            streams,
            interval: aggregate.interval,
            next: aggregate.interval.map(|interval| started + interval),
            total: None,
            symbols: Symbols::default(),
            stacks: HashMap::new(),
        }));
    }
    readings
}

impl Reading {
    /// When it is to be read next.
    pub fn due(&self) -> Option<Instant> {
        self.next
    }

    /// The next time of the cadence: what was late makes nothing else late, and what was missed is not made up for.
    pub fn plan_next(&mut self, now: Instant) {
        if let (Some(next), Some(interval)) = (&mut self.next, self.interval) {
            while *next <= now {
                *next += interval;
            }
        }
    }

    /// Events that were in the map when it was last read, if its counters tell.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Events that are in the map now.
    ///
    /// # Errors
    /// If the map can't be read.
    pub fn counted(&self, loaded: &Loaded) -> Result<Option<u64>> {
        Ok(self.aggregator.counted(&loaded.entries(&self.map)?))
    }

    /// Reads the map and hands its rows over.
    ///
    /// # Errors
    /// If the map can't be read.
    pub fn read(&mut self, loaded: &Loaded, collector: &mut Collector) -> Result<()> {
        let entries = loaded.entries(&self.map)?;
        let Reading { aggregator, symbols, stacks, .. } = self;
        let mut frames = |kind, pid, id| {
            let found = stacks.entry((kind, pid, id));
            found.or_insert_with(|| frames_of(loaded, symbols, kind, pid, id)).clone()
        };
        let reading = aggregator.read(&entries, clock::monotonic(), &mut frames);
        self.total = reading.counted;
        for (stream, row) in &reading.rows {
            collector.take_row(self.streams.0 + stream, row);
        }
        collector.end_of_reading(self.streams.0, self.streams.1);
        collector.hand_over();
        Ok(())
    }
}

fn frames_of(loaded: &Loaded, symbols: &mut Symbols, kind: StackKind, pid: u32, id: i32) -> Frames {
    if id == STACK_NONE {
        return Frames::default();
    }
    let Some(addresses) = u32::try_from(id).ok().and_then(|id| loaded.stack(id)) else {
        return Frames { texts: NOT_KEPT.into(), cut: false };
    };
    let names = match kind {
        StackKind::Kernel => symbols.kernel(&addresses),
        StackKind::User => symbols.process(pid, &addresses),
    };
    let mut texts = Vec::new();
    for name in names {
        texts.extend(name.bytes().filter(|byte| *byte != 0));
        texts.push(0);
    }
    Frames { texts, cut: addresses.len() >= FRAMES }
}
