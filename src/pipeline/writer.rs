//! The writer: a separate thread that decodes, formats and writes the queued records.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::batch::{Gap, Item};
use super::priority;
use super::queue::{BatchReceiver, WrittenCount};
use super::reader::EndReason;
use super::reorder::ReorderBuffer;
use crate::error::Error;
use crate::event::{Layout, Record};
use crate::files::finalize::{FinalizeFailure, FinalizeResult, Finalizer};
use crate::files::rotate::RotatingFile;
use crate::output::Destination;
use crate::output::OpenSink;
use crate::output::sink::WriteError;
use crate::report::{End, FileAccount};
use crate::run::clock::{self, Clock};
use crate::run::signals::StopHandle;

/// A stream and its destination.
#[derive(Debug)]
pub struct StreamRoute {
    /// The name of its probe.
    pub name: String,
    /// The layout of its records.
    pub layout: Arc<Layout>,
    /// Indices of its sinks.
    pub sinks: Vec<usize>,
    /// Sort by time: the longest time that a record waits in a buffer, nanoseconds.
    pub sort_within: Option<u64>,
}

/// The results of the writer.
#[derive(Debug, Default)]
pub struct WriterOutcome {
    /// Records that reached all of their sinks, one entry per stream.
    pub written: Vec<u64>,
    /// Records for which a template failed, one entry per stream.
    pub failed: Vec<u64>,
    /// Records that arrived too late to be sorted, one entry per stream.
    pub late: Vec<u64>,
    /// Records after the window had reached `max_bytes`, one entry per stream.
    pub discarded: Vec<u64>,
    /// The first failure of a template: the sink and the message.
    pub first_failure: Option<(usize, String)>,
    /// The sink that failed, and why.
    pub broken: Option<(usize, SinkFailure)>,
    /// The accounts of the files.
    pub files: Vec<FileAccount>,
    /// The file of the sink that failed.
    pub broken_file: Option<PathBuf>,
    /// The first file that could not be finished.
    pub unfinished: Option<FinalizeFailure>,
    /// All sinks are flushed; files may not be finished yet.
    pub flushed: bool,
    /// The writer was abandoned: records that it had not written are lost.
    pub abandoned: bool,
}

/// Why a sink failed.
#[derive(Debug)]
pub enum SinkFailure {
    /// A write to its file failed.
    File(io::Error),
    /// Its next file can't be created.
    NextFile(Error),
}

impl WriterOutcome {
    /// The outcome of a writer that has done nothing yet.
    fn of(streams: usize) -> Self {
        let zero = vec![0; streams];
        WriterOutcome {
            written: zero.clone(),
            failed: zero.clone(),
            late: zero.clone(),
            discarded: zero,
            ..WriterOutcome::default()
        }
    }

    /// Whether the reader of a pipe has closed it, which is not a failure.
    pub fn is_closed(&self) -> bool {
        matches!(&self.broken, Some((_, SinkFailure::File(error))) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The inputs of the writer.
#[derive(Debug)]
pub struct WriterInputs {
    /// The source of records.
    pub queue: BatchReceiver,
    /// One entry per stream.
    pub streams: Vec<StreamRoute>,
    /// The destinations of records.
    pub sinks: Vec<OpenSink>,
    /// The files of each sink that writes to files.
    pub files: Vec<Option<RotatingFile>>,
    /// Converts the timestamps of records to wall-clock time.
    pub clock: Clock,
    /// Bytes of all sinks after which the window ends.
    pub max_bytes: Option<u64>,
    /// Records written so far.
    pub progress: WrittenCount,
    /// Triggered when the window must end.
    pub stop: StopHandle,
    /// Has the reason before `stop` is triggered.
    pub end_reason: EndReason,
}

/// The writer's thread.
#[derive(Debug)]
pub struct WriterThread {
    thread: JoinHandle<()>,
    outcome: Arc<Mutex<WriterOutcome>>,
}

impl WriterThread {
    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether all sinks are flushed. Files may still have to be compressed and renamed.
    pub fn is_flushed(&self) -> bool {
        lock(&self.outcome).flushed
    }

    /// The outcome, after it has ended.
    ///
    /// # Errors
    /// If it panicked, which is a bug.
    pub fn join(self) -> thread::Result<WriterOutcome> {
        self.thread.join()?;
        Ok(std::mem::take(&mut *lock(&self.outcome)))
    }

    /// The outcome so far. The thread continues its current work until the process ends.
    pub fn abandon(self) -> WriterOutcome {
        WriterOutcome { abandoned: true, ..std::mem::take(&mut *lock(&self.outcome)) }
    }
}

fn lock(outcome: &Mutex<WriterOutcome>) -> MutexGuard<'_, WriterOutcome> {
    outcome.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the writer. It ends when the queue ends, or when a sink fails; then it triggers `stop`.
///
/// # Errors
/// If no thread is available.
pub fn start(work: WriterInputs) -> io::Result<WriterThread> {
    let zero = vec![0; work.streams.len()];
    let outcome = Arc::new(Mutex::new(WriterOutcome::of(work.streams.len())));
    let published = Arc::clone(&outcome);
    let finalizer = if work.files.iter().any(Option::is_some) { Some(Finalizer::start()?) } else { None };
    let thread = thread::Builder::new().name("ebpf-run-writer".into()).spawn(move || {
        priority::restore_priority();
        let reorder_buffers = work.streams.iter().map(|probe| probe.sort_within.map(ReorderBuffer::new)).collect();
        let outcome = WriterOutcome::of(work.streams.len());
        let mut writer =
            Writer { work, reorder_buffers, in_flight: zero, outcome, published, done: 0, full: false, finalizer };
        writer.run();
        writer.finish();
    })?;
    Ok(WriterThread { thread, outcome })
}

struct Writer {
    work: WriterInputs,
    reorder_buffers: Vec<Option<ReorderBuffer>>,
    /// Records that the sinks have accepted and may not have written to their files yet.
    in_flight: Vec<u64>,
    outcome: WriterOutcome,
    /// The outcome as of the last flush, for other threads.
    published: Arc<Mutex<WriterOutcome>>,
    /// Bytes of the files before the current ones.
    done: u64,
    /// The window has reached `max_bytes`.
    full: bool,
    finalizer: Option<Finalizer>,
}

impl Writer {
    fn run(&mut self) {
        self.publish_files();
        // A header is written before the first record, however late that is
        if !self.flush() {
            return;
        }
        while let Some(batch) = self.work.queue.next() {
            self.work.clock.refresh();
            let whole = batch.items().all(|(probe, piece)| match piece {
                Item::Record(raw) => self.take(probe, raw),
                Item::Gap(gap) => self.gap(probe, gap),
                Item::SnapshotEnd(count) => self.end_of_reading(probe, count),
            });
            if !whole || !self.sorted(batch.read_at) || !self.flush() {
                return;
            }
            self.work.queue.done(batch);
        }
        if self.sorted(u64::MAX) {
            self.flush();
        }
    }

    /// Finishes the files after the last record, unless a sink failed.
    fn finish(mut self) {
        self.work.stop.trigger();
        self.end_streams();
        lock(&self.published).flushed = self.outcome.broken.is_none();
        let closed = self.outcome.is_closed();
        // Until their last file is finished, the names stay locked against other runs
        let mut failed = Vec::new();
        for (index, file) in std::mem::take(&mut self.work.files).into_iter().enumerate() {
            let (Some(file), Some(finalizer)) = (file, &self.finalizer) else { continue };
            let sink = &mut self.work.sinks[index];
            // One pipe is closed: the other sinks keep what they have accepted
            let whole = self.outcome.broken.is_none() || (closed && sink.flush().is_ok());
            if whole {
                file.finish(sink.bytes(), finalizer);
            } else {
                // A failed sink accepts nothing more; the other sinks keep what they have accepted
                let _ = sink.flush();
                sink.fail();
                let account = file.abandon(sink.bytes());
                if self.outcome.broken.as_ref().is_some_and(|(broken, _)| *broken == index) {
                    self.outcome.broken_file = Some(account.path.clone());
                }
                self.outcome.files.push(account);
                failed.push(file);
            }
        }
        if let Some(finalizer) = self.finalizer.take() {
            let FinalizeResult { files, failure } = finalizer.wait();
            self.outcome.files.splice(0..0, files);
            self.outcome.unfinished = failure;
        }
        *lock(&self.published) = self.outcome;
    }

    /// Checks for delayed errors of streams at their end: no later call could report them.
    fn end_streams(&mut self) {
        for (index, sink) in self.work.sinks.iter_mut().enumerate().filter(|(i, _)| self.work.files[*i].is_none()) {
            if self.outcome.broken.is_some() {
                sink.fail();
            } else if let Err(error) = sink.delayed_error() {
                self.outcome.broken = Some((index, SinkFailure::File(error)));
            }
        }
    }

    /// Ends the window, because of `end`.
    fn end(&mut self, end: End) {
        if self.work.end_reason.set(end).is_ok() {
            self.work.stop.trigger();
        }
    }

    /// Bytes in all sinks.
    fn bytes(&self) -> u64 {
        self.done + self.work.sinks.iter().map(OpenSink::bytes).sum::<u64>()
    }

    /// The open files, for the case that the writer is abandoned.
    fn publish_files(&self) {
        let files = self.work.files.iter().zip(&self.work.sinks);
        let open = files.filter_map(|(file, sink)| Some(file.as_ref()?.abandon(sink.bytes()))).collect();
        lock(&self.published).files = open;
    }

    /// Opens the next file of a sink whose file is full.
    fn rotate(&mut self, index: usize) -> bool {
        let Some(finalizer) = &self.finalizer else { return true };
        let (Some(file), sink) = (&mut self.work.files[index], &mut self.work.sinks[index]) else { return true };
        let result = sink.flush().map_err(SinkFailure::File).and_then(|()| {
            let bytes = sink.bytes();
            let next = file.next(bytes, finalizer).map_err(SinkFailure::NextFile)?;
            self.done += bytes;
            sink.continue_in(Destination::File(next)).map_err(SinkFailure::File)
        });
        self.publish_files();
        self.went_well(index, result)
    }

    fn went_well(&mut self, index: usize, result: Result<(), SinkFailure>) -> bool {
        let Err(broken) = result else { return true };
        self.outcome.broken = Some((index, broken));
        false
    }

    /// Handles a record in its arrival order. `false`, here and below, if a sink failed.
    fn take(&mut self, probe: usize, raw: &[u8]) -> bool {
        let ts = self.work.streams[probe].layout.ts(raw);
        match &mut self.reorder_buffers[probe] {
            Some(buffer) => {
                buffer.push(ts, raw);
                true
            }
            None => self.write(probe, raw),
        }
    }

    /// Writes the records that no earlier one can precede any more.
    fn sorted(&mut self, read_at: u64) -> bool {
        for probe in 0..self.work.streams.len() {
            while let Some(raw) = self.reorder_buffers[probe].as_mut().and_then(|buffer| buffer.pop(read_at)) {
                if !self.write(probe, &raw) {
                    return false;
                }
            }
        }
        self.outcome.late =
            self.reorder_buffers.iter().map(|buffer| buffer.as_ref().map_or(0, ReorderBuffer::late)).collect();
        true
    }

    fn write(&mut self, probe: usize, raw: &[u8]) -> bool {
        if self.full {
            self.outcome.discarded[probe] += 1;
            return true;
        }
        // Before the record, so that no file is created that stays empty
        for at in 0..self.work.streams[probe].sinks.len() {
            let index = self.work.streams[probe].sinks[at];
            let file = self.work.files[index].as_ref();
            if file.is_some_and(|file| file.is_full(self.work.sinks[index].bytes())) && !self.rotate(index) {
                return false;
            }
        }
        let StreamRoute { name, layout, sinks, .. } = &self.work.streams[probe];
        let record = Record { layout, raw, time: self.work.clock.wall(layout.ts(raw)), probe: name };
        let mut failed = false;
        for &index in sinks {
            match self.work.sinks[index].write(probe, &record) {
                Ok(()) => {}
                Err(WriteError::Record(words)) => {
                    failed = true;
                    self.outcome.first_failure.get_or_insert((index, words));
                }
                Err(WriteError::File(error)) => {
                    self.outcome.broken = Some((index, SinkFailure::File(error)));
                    return false;
                }
            }
        }
        if failed {
            self.outcome.failed[probe] += 1;
        } else {
            self.in_flight[probe] += 1;
        }
        if self.work.max_bytes.is_some_and(|most| self.bytes() >= most) {
            self.full = true;
            self.end(End::MaxBytes);
        }
        true
    }

    fn gap(&mut self, probe: usize, gap: Gap) -> bool {
        let StreamRoute { name, sinks, .. } = &self.work.streams[probe];
        for &index in sinks {
            if let Err(error) = self.work.sinks[index].gap(clock::now(), name, gap.lost, gap.cause.words()) {
                self.outcome.broken = Some((index, SinkFailure::File(error)));
                return false;
            }
        }
        true
    }

    fn end_of_reading(&mut self, stream: usize, count: usize) -> bool {
        for (index, sink) in self.work.sinks.iter_mut().enumerate() {
            if let Err(error) = sink.end_of_reading(stream..stream + count) {
                self.outcome.broken = Some((index, SinkFailure::File(error)));
                return false;
            }
        }
        true
    }

    /// Flushes the sinks. Records count as written only after a successful flush.
    fn flush(&mut self) -> bool {
        for (index, sink) in self.work.sinks.iter_mut().enumerate() {
            if let Err(error) = sink.flush() {
                self.outcome.broken = Some((index, SinkFailure::File(error)));
                return false;
            }
        }
        let mut total = 0;
        for (written, count) in self.outcome.written.iter_mut().zip(&mut self.in_flight) {
            *written += *count;
            total += std::mem::take(count);
        }
        self.work.progress.fetch_add(total, Ordering::Relaxed);
        let mut published = lock(&self.published);
        published.written.clone_from(&self.outcome.written);
        published.failed.clone_from(&self.outcome.failed);
        published.late.clone_from(&self.outcome.late);
        published.discarded.clone_from(&self.outcome.discarded);
        published.first_failure.clone_from(&self.outcome.first_failure);
        let with_files = self.work.files.iter().zip(&self.work.sinks).filter(|(file, _)| file.is_some());
        for (file, (_, sink)) in published.files.iter_mut().zip(with_files) {
            file.bytes = sink.bytes();
        }
        drop(published);
        self.look_for_room()
    }

    /// Ends the window while the disk still has room for the remaining records.
    fn look_for_room(&mut self) -> bool {
        for index in 0..self.work.files.len() {
            match self.work.files[index].as_mut().map(RotatingFile::is_low) {
                Some(Ok(true)) => self.end(End::MinFree),
                Some(Err(error)) => return self.went_well(index, Err(SinkFailure::File(error))),
                Some(Ok(false)) | None => {}
            }
        }
        true
    }
}
