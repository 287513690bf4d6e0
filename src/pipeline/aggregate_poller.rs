//! Reads the probes' aggregates, at their intervals and at the end, in a separate thread: symbol look-ups can take a
//! second, and the thread that reads buffers must not wait that long.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::delta::{DeltaAggregator, Frames, StackRef, StackSource};
use super::priority;
use super::queue::{BatchSender, Received};
use crate::catalog::StackKind;
use crate::error::{Error, Result};
use crate::kernel::{AggregateMap, Loaded, MapEntry};
use crate::plan::{Plan, ProbePlan};
use crate::run::clock;
use crate::run::signals::StopHandle;
use crate::symbols::{self, FrameName, Image, SymbolCounts, Symbols, UnresolvedCause};

/// Largest number of frames of a stack, STACK_FRAMES of `bpf/include/stack.h`.
const FRAMES: usize = 127;
/// The stack number for no stack, as in `bpf/include/stack.h`.
const STACK_NONE: u64 = 0;
/// The frame of a stack for which the map had no room.
const NOT_KEPT: &[u8] = b"[stack not kept]\0";
/// The name of an address without a symbol.
const UNKNOWN: &[u8] = b"[unknown]";
/// Bytes of the names in one snapshot, so that long names of one process do not use up the memory. Frames beyond that
/// have no name.
const MAX_TEXTS: usize = 64 << 20;

/// One probe's aggregate and its schedule.
#[derive(Debug)]
struct PolledAggregate {
    aggregator: DeltaAggregator,
    map: AggregateMap,
    /// The index of the probe's first stream, and the number of streams.
    streams: (usize, usize),
    interval: Option<Duration>,
    next: Option<Instant>,
    total: Option<u64>,
    names: SymbolCounts,
    taken: TakenEvents,
}

/// Counts the events of an aggregate, for a caller that waits until all of them have arrived.
#[derive(Debug)]
pub struct AggregateCounter {
    aggregator: DeltaAggregator,
    map: AggregateMap,
    taken: TakenEvents,
}

/// Events that were removed from a map. Locked while a snapshot is removed, so that each event is either in the map or
/// counted here.
type TakenEvents = Arc<Mutex<u64>>;

impl AggregateCounter {
    /// One counter for each probe with an aggregate.
    ///
    /// # Errors
    /// If no file descriptor is available.
    pub fn all(plan: &Plan, loaded: &[Loaded]) -> Result<Vec<Option<AggregateCounter>>> {
        let counter = |(probe, loaded): (&ProbePlan, &Loaded)| {
            let parts = parts(probe, loaded)?;
            Ok(parts.map(|(aggregator, map)| AggregateCounter { aggregator, map, taken: TakenEvents::default() }))
        };
        plan.probes.iter().zip(loaded).map(counter).collect()
    }

    /// Events that are in the map or were removed from it; `None` if its counters do not count events.
    ///
    /// # Errors
    /// If the map can't be read.
    pub fn counted(&self) -> Result<Option<u64>> {
        let taken = lock(&self.taken);
        Ok(self.aggregator.counted(&self.map.entries()?).map(|counted| counted + *taken))
    }

    /// The entries of the map, and their number of events; `None` if its counters do not count events.
    ///
    /// # Errors
    /// If the map can't be read.
    pub fn entries(&self) -> Result<(Vec<MapEntry>, Option<u64>)> {
        let entries = self.map.entries()?;
        let counted = self.aggregator.counted(&entries);
        Ok((entries, counted))
    }
}

fn lock(taken: &TakenEvents) -> MutexGuard<'_, u64> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parts(probe: &ProbePlan, loaded: &Loaded) -> Result<Option<(DeltaAggregator, AggregateMap)>> {
    let Some(aggregate) = &probe.aggregate else { return Ok(None) };
    let layouts = probe.streams.iter().map(|stream| Arc::clone(&stream.layout)).collect();
    Ok(Some((DeltaAggregator::new(aggregate, layouts), loaded.aggregate(&aggregate.spec.map, aggregate.swaps())?)))
}

/// The results of the thread.
#[derive(Debug, Default)]
pub struct PollResult {
    /// Events in the aggregate of each probe at the end, if it counts them.
    pub totals: Vec<Option<u64>>,
    /// Resolved and unresolved addresses of each probe's stacks.
    pub names: Vec<SymbolCounts>,
    /// How often the symbol helper was replaced.
    pub helpers_replaced: u64,
    /// The rows of each stream.
    pub received: Vec<Received>,
}

impl PollResult {
    /// The result for probes without aggregates.
    pub fn nothing(probes: usize) -> Self {
        PollResult { totals: vec![None; probes], names: vec![SymbolCounts::default(); probes], ..PollResult::default() }
    }
}

/// The running thread.
#[derive(Debug)]
pub struct AggregatePoller {
    thread: JoinHandle<Result<PollResult>>,
    end: Sender<()>,
}

/// The inputs of the thread besides the probes.
#[derive(Debug)]
pub struct PollerInputs<'a> {
    /// The entries of each probe's map before the window, which are excluded.
    pub baseline: &'a [Vec<MapEntry>],
    /// Receive the number of events removed from maps.
    pub counters: &'a [Option<AggregateCounter>],
    /// Resolves the names of stacks.
    pub symbols: Symbols,
}

impl AggregatePoller {
    /// Starts the thread, if any probe has an aggregate. It gets its own sender from `sender`. If a map can't be read,
    /// `bell` ends the window.
    ///
    /// # Errors
    /// If no file descriptor or thread is available.
    pub fn start(
        plan: &Plan,
        loaded: &[Loaded],
        sender: &BatchSender,
        started: Instant,
        bell: StopHandle,
        PollerInputs { baseline, counters, symbols }: PollerInputs<'_>,
    ) -> Result<Option<AggregatePoller>> {
        let mut first = 0;
        let mut readings = Vec::new();
        for (((probe, loaded), baseline), counter) in plan.probes.iter().zip(loaded).zip(baseline).zip(counters) {
            let streams = (first, probe.streams.len());
            first += probe.streams.len();
            let interval = probe.aggregate.as_ref().and_then(|aggregate| aggregate.interval);
            readings.push(parts(probe, loaded)?.map(|(mut aggregator, map)| {
                aggregator.set_baseline(baseline);
                let next = interval.map(|interval| started + interval);
                PolledAggregate {
                    aggregator,
                    map,
                    streams,
                    interval,
                    next,
                    total: None,
                    names: SymbolCounts::default(),
                    taken: counter.as_ref().map(|counter| Arc::clone(&counter.taken)).unwrap_or_default(),
                }
            }));
        }
        if readings.iter().all(Option::is_none) {
            return Ok(None);
        }
        let (end, ended) = channel();
        let sender = sender.another_sender();
        let work = move || {
            priority::restore_priority();
            let read = read_all(readings, sender, symbols, &ended);
            if read.is_err() {
                bell.trigger();
            }
            read
        };
        let thread = thread::Builder::new().name("ebpf-run-maps".into()).spawn(work);
        let thread = thread.map_err(|error| Error::failed(format!("the thread for maps can't be started: {error}")))?;
        Ok(Some(AggregatePoller { thread, end }))
    }

    /// Ends the thread after a last snapshot of all aggregates.
    ///
    /// # Errors
    /// If a map could not be read, now or before.
    pub fn finish(self) -> Result<PollResult> {
        drop(self.end);
        self.thread.join().map_err(|_| {
            Error::failed("the thread that reads maps died; this is a bug of ebpf-run, please report it")
        })?
    }
}

/// The thread: takes snapshots when they are due until `ended`, then a last one of all.
fn read_all(
    mut readings: Vec<Option<PolledAggregate>>,
    mut sender: BatchSender,
    mut symbols: Symbols,
    ended: &Receiver<()>,
) -> Result<PollResult> {
    loop {
        let due = readings.iter().flatten().filter_map(|reading| reading.next).min();
        let woken = match due {
            Some(due) => ended.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => ended.recv().map_err(|RecvError| RecvTimeoutError::Disconnected),
        };
        if woken != Err(RecvTimeoutError::Timeout) {
            break;
        }
        let now = Instant::now();
        let deadline = now + symbols::PATIENCE;
        for reading in readings.iter_mut().flatten().filter(|reading| reading.next.is_some_and(|due| due <= now)) {
            reading.read(&mut symbols, deadline, &mut sender)?;
            reading.plan_next();
        }
    }
    let deadline = Instant::now() + symbols::PATIENCE;
    for reading in readings.iter_mut().flatten() {
        reading.read(&mut symbols, deadline, &mut sender)?;
    }
    let totals = readings.iter().map(|reading| reading.as_ref().and_then(|reading| reading.total)).collect();
    let names =
        readings.iter().map(|reading| reading.as_ref().map_or_else(SymbolCounts::default, |of| of.names.clone()));
    let (names, helpers_replaced) = (names.collect(), symbols.replaced());
    Ok(PollResult { totals, names, helpers_replaced, received: sender.finish() })
}

impl PolledAggregate {
    /// Schedules the next snapshot: a late one delays no other, and a missed one is not repeated.
    fn plan_next(&mut self) {
        let now = Instant::now();
        if let (Some(next), Some(interval)) = (&mut self.next, self.interval) {
            while *next <= now {
                *next += interval;
            }
        }
    }

    /// Reads the map and sends its rows; symbols are looked up until `deadline`.
    fn read(&mut self, symbols: &mut Symbols, deadline: Instant, sender: &mut BatchSender) -> Result<()> {
        let entries = {
            let mut taken = lock(&self.taken);
            let entries = self.map.take()?;
            let out: Vec<MapEntry> = entries.iter().filter(|entry| entry.taken).cloned().collect();
            *taken += self.aggregator.counted_in(&out).unwrap_or(0);
            entries
        };
        let PolledAggregate { aggregator, map, names, .. } = self;
        let mut stacks = SnapshotStacks { map, symbols, deadline, names, room: MAX_TEXTS, found: HashMap::new() };
        let reading = aggregator.read(&entries, clock::monotonic(), &mut stacks);
        self.total = reading.counted;
        for (stream, row) in &reading.rows {
            sender.push_row(self.streams.0 + stream, row);
        }
        sender.push_snapshot_end(self.streams.0, self.streams.1);
        sender.flush();
        Ok(())
    }
}

/// The stacks of one snapshot.
struct SnapshotStacks<'a> {
    map: &'a AggregateMap,
    symbols: &'a mut Symbols,
    deadline: Instant,
    names: &'a mut SymbolCounts,
    /// Bytes left for names.
    room: usize,
    found: HashMap<StackRef, ResolvedStack>,
}

enum ResolvedStack {
    /// `None`: the map did not keep it.
    Addresses(Option<Vec<u64>>),
    Frames(Frames),
}

impl StackSource for SnapshotStacks<'_> {
    fn prepare(&mut self, stacks: &[StackRef]) {
        let mut wanted: HashMap<Image, Vec<u64>> = HashMap::new();
        for stack in stacks.iter().filter(|stack| stack.id != STACK_NONE) {
            if self.found.contains_key(stack) {
                continue;
            }
            let addresses = self.map.stack(stack.id);
            if let (StackKind::User, Some(addresses)) = (stack.kind, &addresses) {
                wanted.entry(stack.image).or_default().extend(addresses);
            }
            self.found.insert(*stack, ResolvedStack::Addresses(addresses));
        }
        self.symbols.prepare(wanted, self.deadline);
    }

    fn frames(&mut self, stack: StackRef) -> Frames {
        let frames = match self.found.get(&stack) {
            None => return Frames::default(), // there is no stack
            Some(ResolvedStack::Frames(frames)) => return frames.clone(),
            Some(ResolvedStack::Addresses(None)) => Frames { texts: NOT_KEPT.into(), ..Frames::default() },
            Some(ResolvedStack::Addresses(Some(addresses))) => {
                let names: Vec<FrameName> = match stack.kind {
                    StackKind::Kernel => self.symbols.kernel(addresses),
                    StackKind::User => addresses.iter().map(|at| self.symbols.process(&stack.image, *at)).collect(),
                };
                let mut texts = Vec::new();
                let mut cannot_know = false;
                for name in names {
                    let name = name.and_then(|name| {
                        self.room = self.room.checked_sub(name.len()).ok_or(UnresolvedCause::NoRoom)?;
                        Ok(name)
                    });
                    self.names.count(&name);
                    cannot_know |= name.as_ref().is_err_and(|cause| cause.is_for_all());
                    let name = name.as_deref().unwrap_or(UNKNOWN);
                    texts.extend(name.iter().filter(|byte| **byte != 0));
                    texts.push(0);
                }
                let addresses_if_unknown = if cannot_know { addresses.as_slice().into() } else { Arc::default() };
                Frames { texts: texts.into(), cut: addresses.len() >= FRAMES, addresses_if_unknown }
            }
        };
        self.found.insert(stack, ResolvedStack::Frames(frames.clone()));
        frames
    }
}

#[cfg(test)]
mod tests;
