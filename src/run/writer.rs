//! The writer: a thread of its own that decodes, formats and writes what the reader has queued.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use super::batch::{Queue, Written};
use super::clock::Clock;
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
}

/// What the writer did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Records that reached all of their sinks, a probe each.
    pub written: Vec<u64>,
    /// Records that a template failed on, a probe each.
    pub failed: Vec<u64>,
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
        let mut writer = Writer { probes, sinks, clock: Clock::measure(), outcome: Outcome::default() };
        writer.outcome.written = vec![0; writer.probes.len()];
        writer.outcome.failed = vec![0; writer.probes.len()];
        writer.run(&queue, &progress);
        ended();
        writer.outcome
    })
}

struct Writer {
    probes: Vec<Routed>,
    sinks: Vec<Sink>,
    clock: Clock,
    outcome: Outcome,
}

impl Writer {
    fn run(&mut self, queue: &Queue, progress: &Written) {
        // A header is there before the first record, however long that takes
        if !self.flush() {
            return;
        }
        let mut in_flight = vec![0u64; self.probes.len()];
        while let Some(batch) = queue.next() {
            self.clock.refresh();
            let whole = batch.records().all(|(probe, raw)| self.write(probe, raw, &mut in_flight));
            // What is not in the file is not written: only a flush that went well makes it so
            if !whole || !self.flush() {
                return;
            }
            let mut total = 0;
            for (written, count) in self.outcome.written.iter_mut().zip(&mut in_flight) {
                *written += *count;
                total += std::mem::take(count);
            }
            progress.fetch_add(total, Ordering::Relaxed);
            queue.done(batch);
        }
    }

    /// `false` if a sink takes no more.
    fn write(&mut self, probe: usize, raw: &[u8], in_flight: &mut [u64]) -> bool {
        let Routed { name, layout, sinks } = &self.probes[probe];
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
            in_flight[probe] += 1;
        }
        true
    }

    fn flush(&mut self) -> bool {
        for (index, sink) in self.sinks.iter_mut().enumerate() {
            if let Err(error) = sink.flush() {
                self.outcome.broken = Some((index, error));
                return false;
            }
        }
        true
    }
}
