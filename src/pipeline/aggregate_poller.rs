//! Reading the probes' aggregates, at their intervals and at the end, in a thread of its own: to find the names of
//! stacks can take a second, and nobody who reads a buffer has that.

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

/// Frames that a stack is kept to, STACK_FRAMES of `bpf/include/stack.h`.
const FRAMES: usize = 127;
/// Numbers that stand for no stack, as in `bpf/include/stack.h`.
const STACK_NONE: u64 = 0;
/// What is written for a stack that the map had no room for.
const NOT_KEPT: &[u8] = b"[stack not kept]\0";
/// What is written for an address that has no name.
const UNKNOWN: &[u8] = b"[unknown]";
/// Bytes of the names in one snapshot, so that long names of one process do not take all memory. A frame beyond that has none.
const MAX_TEXTS: usize = 64 << 20;

/// One probe's aggregate under observation.
#[derive(Debug)]
struct PolledAggregate {
    aggregator: DeltaAggregator,
    map: AggregateMap,
    /// The first of the probe's streams, and how many there are.
    streams: (usize, usize),
    interval: Option<Duration>,
    next: Option<Instant>,
    total: Option<u64>,
    names: SymbolCounts,
    taken: TakenEvents,
}

/// How many events an aggregate has, for whoever waits until all of them are there.
#[derive(Debug)]
pub struct AggregateCounter {
    aggregator: DeltaAggregator,
    map: AggregateMap,
    taken: TakenEvents,
}

/// Events in what was taken out of a map. Held while something is taken out, so that all events are either there or here.
type TakenEvents = Arc<Mutex<u64>>;

impl AggregateCounter {
    /// One for each probe that has an aggregate.
    ///
    /// # Errors
    /// If there is no file descriptor left.
    pub fn all(plan: &Plan, loaded: &[Loaded]) -> Result<Vec<Option<AggregateCounter>>> {
        let counter = |(probe, loaded): (&ProbePlan, &Loaded)| {
            let parts = parts(probe, loaded)?;
            Ok(parts.map(|(aggregator, map)| AggregateCounter { aggregator, map, taken: TakenEvents::default() }))
        };
        plan.probes.iter().zip(loaded).map(counter).collect()
    }

    /// Events that are in the map now or were taken out of it; `None` if its counters do not tell.
    ///
    /// # Errors
    /// If the map can't be read.
    pub fn counted(&self) -> Result<Option<u64>> {
        let taken = lock(&self.taken);
        Ok(self.aggregator.counted(&self.map.entries()?).map(|counted| counted + *taken))
    }

    /// What is in the map now, and how many events that are, if its counters tell.
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

/// What the thread read.
#[derive(Debug, Default)]
pub struct PollResult {
    /// Events in the aggregate of each probe at the end, where there is one that tells.
    pub totals: Vec<Option<u64>>,
    /// What became of the addresses of each probe's stacks.
    pub names: Vec<SymbolCounts>,
    /// How often the symbol helper was replaced.
    pub helpers_replaced: u64,
    /// The rows of each stream.
    pub received: Vec<Received>,
}

impl PollResult {
    /// What there is of probes none of which has an aggregate.
    pub fn nothing(probes: usize) -> Self {
        PollResult { totals: vec![None; probes], names: vec![SymbolCounts::default(); probes], ..PollResult::default() }
    }
}

/// The thread at work.
#[derive(Debug)]
pub struct AggregatePoller {
    thread: JoinHandle<Result<PollResult>>,
    end: Sender<()>,
}

/// What the thread is given besides the probes.
#[derive(Debug)]
pub struct PollerInputs<'a> {
    /// What was in the map of each probe before the window, and is left out.
    pub baseline: &'a [Vec<MapEntry>],
    /// They are told what is taken out of maps.
    pub counters: &'a [Option<AggregateCounter>],
    /// Finds the names of stacks.
    pub symbols: Symbols,
}

impl AggregatePoller {
    /// Starts the thread, if any probe has an aggregate. `sender` makes its end of the queue. If a map can't be read,
    /// `bell` ends the window.
    ///
    /// # Errors
    /// If there is no file descriptor or no thread left.
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

    /// Has everything read for the last time.
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

/// The thread: reads what is due until `ended`, then all once more.
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
    /// The next time of the cadence: what was late makes nothing else late, and what was missed is not made up for.
    fn plan_next(&mut self) {
        let now = Instant::now();
        if let (Some(next), Some(interval)) = (&mut self.next, self.interval) {
            while *next <= now {
                *next += interval;
            }
        }
    }

    /// Reads the map and hands its rows over; names are looked for until `deadline`.
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
    /// Bytes that names may still take.
    room: usize,
    found: HashMap<StackRef, ResolvedStack>,
}

enum ResolvedStack {
    /// `None`: it was not kept.
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
            None => return Frames::default(), // there is none
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
