//! The writer: a thread of its own that decodes, formats and writes what the reader has queued.

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

/// A probe as the writer needs to know it.
#[derive(Debug)]
pub struct StreamRoute {
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
pub struct WriterOutcome {
    /// Records that reached all of their sinks, a stream each.
    pub written: Vec<u64>,
    /// Records that a template failed on, a stream each.
    pub failed: Vec<u64>,
    /// Records that came too late to be sorted, a stream each.
    pub late: Vec<u64>,
    /// Records that came after the window had all the bytes that it wants, a stream each.
    pub discarded: Vec<u64>,
    /// The first failure of a template: the sink and the words.
    pub first_failure: Option<(usize, String)>,
    /// The sink that took no more, and why.
    pub broken: Option<(usize, SinkFailure)>,
    /// What became of the files.
    pub files: Vec<FileAccount>,
    /// The file of the sink that took no more.
    pub broken_file: Option<PathBuf>,
    /// The first file that could not be finished.
    pub unfinished: Option<FinalizeFailure>,
    /// The sinks have taken everything; files are yet to be finished.
    pub flushed: bool,
    /// It was left at work: what it has not written yet is not known to be anywhere.
    pub abandoned: bool,
}

/// Why a sink takes no more.
#[derive(Debug)]
pub enum SinkFailure {
    /// Its file does not.
    File(io::Error),
    /// Its next file can't be made.
    NextFile(Error),
}

impl WriterOutcome {
    /// Of a writer that has done nothing yet.
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

    /// Whether the reader of a pipe went away, which is no failure.
    pub fn is_closed(&self) -> bool {
        matches!(&self.broken, Some((_, SinkFailure::File(error))) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What the writer works with.
#[derive(Debug)]
pub struct WriterInputs {
    /// Where records come from.
    pub queue: BatchReceiver,
    /// A stream each.
    pub streams: Vec<StreamRoute>,
    /// Where records go.
    pub sinks: Vec<OpenSink>,
    /// The files of each sink that has some.
    pub files: Vec<Option<RotatingFile>>,
    /// Tells the wall-clock time of records.
    pub clock: Clock,
    /// Bytes of all sinks after which the window is to end.
    pub max_bytes: Option<u64>,
    /// Records written so far.
    pub progress: WrittenCount,
    /// Told when the window is to end, and why.
    pub stop: StopHandle,
    /// Where the reason is put before.
    pub end_reason: EndReason,
}

/// The writer's thread.
#[derive(Debug)]
pub struct WriterThread {
    thread: JoinHandle<()>,
    outcome: Arc<Mutex<WriterOutcome>>,
}

impl WriterThread {
    /// Whether it is done.
    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether no sink has to take anything any more. Files may still have to be compressed and named.
    pub fn is_flushed(&self) -> bool {
        lock(&self.outcome).flushed
    }

    /// What it did, once it is done.
    ///
    /// # Errors
    /// If it died, which is a bug.
    pub fn join(self) -> thread::Result<WriterOutcome> {
        self.thread.join()?;
        Ok(std::mem::take(&mut *lock(&self.outcome)))
    }

    /// What it has done so far. It is left to itself, at work on what it is at, until the process ends.
    pub fn abandon(self) -> WriterOutcome {
        WriterOutcome { abandoned: true, ..std::mem::take(&mut *lock(&self.outcome)) }
    }
}

fn lock(outcome: &Mutex<WriterOutcome>) -> MutexGuard<'_, WriterOutcome> {
    outcome.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the writer. It ends when the queue does, or when a sink takes no more; then it rings the bell.
///
/// # Errors
/// If there are no more threads.
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
    /// Records that the sinks have and their files may not have yet.
    in_flight: Vec<u64>,
    outcome: WriterOutcome,
    /// What others can see of it: as of the last flush.
    published: Arc<Mutex<WriterOutcome>>,
    /// Bytes of the files before the current ones.
    done: u64,
    /// The window has all the bytes that it wants.
    full: bool,
    finalizer: Option<Finalizer>,
}

impl Writer {
    fn run(&mut self) {
        self.publish_files();
        // A header is there before the first record, however long that takes
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

    /// Nothing more comes: the files are whole, unless a sink failed.
    fn finish(mut self) {
        self.work.stop.trigger();
        self.end_streams();
        lock(&self.published).flushed = self.outcome.broken.is_none();
        let closed = self.outcome.is_closed();
        // Until their last file is finished, other runs are kept away
        let mut failed = Vec::new();
        for (index, file) in std::mem::take(&mut self.work.files).into_iter().enumerate() {
            let (Some(file), Some(finalizer)) = (file, &self.finalizer) else { continue };
            let sink = &mut self.work.sinks[index];
            // One pipe is closed: what the others have got is theirs
            let whole = self.outcome.broken.is_none() || (closed && sink.flush().is_ok());
            if whole {
                file.finish(sink.bytes(), finalizer);
            } else {
                // One that has failed takes nothing any more; what the others have got is theirs too
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

    /// What is no file of its own is at its end: nothing that comes later could find an error there.
    fn end_streams(&mut self) {
        for (index, sink) in self.work.sinks.iter_mut().enumerate().filter(|(i, _)| self.work.files[*i].is_none()) {
            if self.outcome.broken.is_some() {
                sink.fail();
            } else if let Err(error) = sink.delayed_error() {
                self.outcome.broken = Some((index, SinkFailure::File(error)));
            }
        }
    }

    /// The window is to end, because of `end`.
    fn end(&mut self, end: End) {
        if self.work.end_reason.set(end).is_ok() {
            self.work.stop.trigger();
        }
    }

    /// Bytes in all sinks.
    fn bytes(&self) -> u64 {
        self.done + self.work.sinks.iter().map(OpenSink::bytes).sum::<u64>()
    }

    /// The files that are open, for whoever gives the writer up.
    fn publish_files(&self) {
        let files = self.work.files.iter().zip(&self.work.sinks);
        let open = files.filter_map(|(file, sink)| Some(file.as_ref()?.abandon(sink.bytes()))).collect();
        lock(&self.published).files = open;
    }

    /// Another file for a sink whose file is full.
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

    /// A record as it comes. `false`, here and below, if a sink takes no more.
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

    /// Writes what can't be overtaken any more.
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
        // Before the record, so that no file is begun that stays empty
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

    /// What is not in the file is not written: only a flush that went well makes it so.
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

    /// Ends the window while the disk still has room for the rest.
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
