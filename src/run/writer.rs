//! The writer: a thread of its own that decodes, formats and writes what the reader has queued.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use super::batch::{Gap, Piece, Queue, Written};
use super::clock::{self, Clock};
use super::order::Sorter;
use crate::event::{Layout, Record};
use crate::output::Sink;
use crate::output::sink::WriteError;

/// A probe as the writer needs to know it.
#[derive(Debug)]
pub struct Routed {
    /// Its name.
    pub name: String,
    /// The shape of its events.
    pub layout: Arc<Layout>,
    /// Indices of the sinks that it writes to.
    pub sinks: Vec<usize>,
    /// Sort by time: no record waits longer than so many nanoseconds in a buffer.
    pub sort_within: Option<u64>,
}

/// What the writer did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Records that reached all of their sinks, a probe each.
    pub written: Vec<u64>,
    /// Records that a template failed on, a probe each.
    pub failed: Vec<u64>,
    /// Records that came too late to be sorted, a probe each.
    pub late: Vec<u64>,
    /// The first failure of a template: the sink and the words.
    pub first_failure: Option<(usize, String)>,
    /// The sink that took no more, and why.
    pub broken: Option<(usize, io::Error)>,
}

impl Outcome {
    /// Whether the reader of a pipe went away, which is no failure.
    pub fn is_closed(&self) -> bool {
        matches!(&self.broken, Some((_, error)) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Starts the writer. It ends when the queue does, or when a sink takes no more; then it calls `ended`.
pub fn start(
    queue: Queue,
    probes: Vec<Routed>,
    sinks: Vec<Sink>,
    progress: Written,
    ended: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<Outcome>> {
    thread::Builder::new().name("ebpf-run-writer".into()).spawn(move || {
        let zero = vec![0; probes.len()];
        let sorters = probes.iter().map(|probe| probe.sort_within.map(Sorter::new)).collect();
        let outcome = Outcome { written: zero.clone(), failed: zero.clone(), late: zero.clone(), ..Outcome::default() };
        let mut writer = Writer { probes, sinks, sorters, in_flight: zero, clock: Clock::measure(), outcome };
        writer.run(&queue, &progress);
        ended();
        writer.outcome
    })
}

struct Writer {
    probes: Vec<Routed>,
    sinks: Vec<Sink>,
    sorters: Vec<Option<Sorter>>,
    /// Records that the sinks have and their files may not have yet.
    in_flight: Vec<u64>,
    clock: Clock,
    outcome: Outcome,
}

impl Writer {
    fn run(&mut self, queue: &Queue, progress: &Written) {
        // A header is there before the first record, however long that takes
        if !self.flush(progress) {
            return;
        }
        while let Some(batch) = queue.next() {
            self.clock.refresh();
            let whole = batch.pieces().all(|(probe, piece)| match piece {
                Piece::Record(raw) => self.take(probe, raw),
                Piece::Gap(gap) => self.gap(probe, gap),
                Piece::End(count) => self.end_of_reading(probe, count),
            });
            if !whole || !self.sorted(batch.read_at) || !self.flush(progress) {
                return;
            }
            queue.done(batch);
        }
        if self.sorted(u64::MAX) {
            self.flush(progress);
        }
    }

    /// A record as it comes. `false`, here and below, if a sink takes no more.
    fn take(&mut self, probe: usize, raw: &[u8]) -> bool {
        let ts = self.probes[probe].layout.ts(raw);
        match &mut self.sorters[probe] {
            Some(sorter) => {
                sorter.push(ts, raw);
                true
            }
            None => self.write(probe, raw),
        }
    }

    /// Writes what can't be overtaken any more.
    fn sorted(&mut self, read_at: u64) -> bool {
        for probe in 0..self.probes.len() {
            while let Some(raw) = self.sorters[probe].as_mut().and_then(|sorter| sorter.pop(read_at)) {
                if !self.write(probe, &raw) {
                    return false;
                }
            }
        }
        self.outcome.late = self.sorters.iter().map(|sorter| sorter.as_ref().map_or(0, Sorter::late)).collect();
        true
    }

    fn write(&mut self, probe: usize, raw: &[u8]) -> bool {
        let Routed { name, layout, sinks, .. } = &self.probes[probe];
        let record = Record { layout, raw, time: self.clock.wall(layout.ts(raw)), probe: name };
        let mut failed = false;
        for &index in sinks {
            match self.sinks[index].write(probe, &record) {
                Ok(()) => {}
                Err(WriteError::Record(words)) => {
                    failed = true;
                    self.outcome.first_failure.get_or_insert((index, words));
                }
                Err(WriteError::File(error)) => {
                    self.outcome.broken = Some((index, error));
                    return false;
                }
            }
        }
        if failed {
            self.outcome.failed[probe] += 1;
        } else {
            self.in_flight[probe] += 1;
        }
        true
    }

    fn gap(&mut self, probe: usize, gap: Gap) -> bool {
        let Routed { name, sinks, .. } = &self.probes[probe];
        for &index in sinks {
            if let Err(error) = self.sinks[index].gap(clock::now(), name, gap.lost, gap.cause.words()) {
                self.outcome.broken = Some((index, error));
                return false;
            }
        }
        true
    }

    fn end_of_reading(&mut self, stream: usize, count: usize) -> bool {
        for (index, sink) in self.sinks.iter_mut().enumerate() {
            if let Err(error) = sink.end_of_reading(stream..stream + count) {
                self.outcome.broken = Some((index, error));
                return false;
            }
        }
        true
    }

    /// What is not in the file is not written: only a flush that went well makes it so.
    fn flush(&mut self, progress: &Written) -> bool {
        for (index, sink) in self.sinks.iter_mut().enumerate() {
            if let Err(error) = sink.flush() {
                self.outcome.broken = Some((index, error));
                return false;
            }
        }
        let mut total = 0;
        for (written, count) in self.outcome.written.iter_mut().zip(&mut self.in_flight) {
            *written += *count;
            total += std::mem::take(count);
        }
        progress.fetch_add(total, Ordering::Relaxed);
        true
    }
}
