//! The queue between reader and writer.
//!
//! The reader never waits for a sink: it copies records into batches and queues them. The queue is bounded; beyond the
//! bound records are dropped and counted, and the kernel's buffers are not affected.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::batch::{Batch, LossCause};
use crate::event::Layout;

/// Bytes of records that can wait for the sinks, including their overhead.
pub const QUEUE_BYTES: usize = 64 << 20;
/// Empty batches that are kept for reuse.
const SPARE: usize = 8;

/// The state that both ends share.
#[derive(Debug, Default)]
struct QueueState {
    queued: AtomicUsize,
    spare: Mutex<Vec<Batch>>,
}

impl QueueState {
    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Batch>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reader's counts for one probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Records read from the buffer within the window.
    pub records: u64,
    /// Of these, dropped because the sinks were too slow.
    pub lost_queue_full: u64,
    /// Records of events before the window began.
    pub warmup: u64,
    /// Records after the window was full.
    pub after_end: u64,
    /// Records that are too short.
    pub malformed: u64,
    /// Bytes of the records.
    pub bytes: u64,
}

impl Received {
    /// The sum of both.
    pub fn plus(self, other: &Received) -> Received {
        Received {
            records: self.records.saturating_add(other.records),
            lost_queue_full: self.lost_queue_full.saturating_add(other.lost_queue_full),
            warmup: self.warmup.saturating_add(other.warmup),
            after_end: self.after_end.saturating_add(other.after_end),
            malformed: self.malformed.saturating_add(other.malformed),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// The reader's end of the queue.
#[derive(Debug)]
pub struct BatchSender {
    batch: Batch,
    sender: Sender<Batch>,
    shared: Arc<QueueState>,
    bound: usize,
    min_sizes: Vec<usize>,
    counts: Vec<Received>,
    /// Number of records that the window still accepts.
    room: u64,
    /// Records dropped since the last sent batch, one entry per probe.
    dropped: Vec<u64>,
    /// Sends empty batches too: the writer sorts, and requires the time of each poll.
    ticks: bool,
    /// Whether its batches have the time of the poll.
    looks: bool,
    warmup: Option<WarmupFilter>,
}

/// Events before the window, which are not recorded.
#[derive(Debug)]
struct WarmupFilter {
    /// The layout of each stream's records.
    layouts: Vec<Arc<Layout>>,
    /// When the window began, monotonic nanoseconds.
    until: u64,
}

/// The writer's end of the queue.
#[derive(Debug)]
pub struct BatchReceiver {
    receiver: Receiver<Batch>,
    shared: Arc<QueueState>,
}

/// A queue of at most `bound` bytes. `min_sizes` has the smallest size of a record for each probe; `max_events` ends
/// the window.
pub fn queue(
    min_sizes: Vec<usize>,
    bound: usize,
    max_events: Option<u64>,
    ticks: bool,
) -> (BatchSender, BatchReceiver) {
    let (sender, receiver) = channel();
    let shared = Arc::new(QueueState::default());
    let counts = vec![Received::default(); min_sizes.len()];
    let room = max_events.unwrap_or(u64::MAX);
    let dropped = vec![0; min_sizes.len()];
    let batch = Batch::default();
    let shared_too = Arc::clone(&shared);
    let (looks, warmup) = (true, None);
    let sender = BatchSender {
        batch,
        sender,
        shared: shared_too,
        bound,
        min_sizes,
        counts,
        room,
        dropped,
        ticks,
        looks,
        warmup,
    };
    (sender, BatchReceiver { receiver, shared })
}

impl BatchSender {
    /// Another sender of the same queue, for a thread that reads no buffers.
    pub fn another_sender(&self) -> BatchSender {
        BatchSender {
            batch: Batch::default(),
            sender: self.sender.clone(),
            shared: Arc::clone(&self.shared),
            bound: self.bound,
            min_sizes: self.min_sizes.clone(),
            counts: vec![Received::default(); self.counts.len()],
            room: u64::MAX,
            dropped: vec![0; self.dropped.len()],
            ticks: false,
            looks: false,
            warmup: None,
        }
    }

    /// Adds a record of the probe with index `probe`.
    #[inline]
    pub fn push(&mut self, probe: usize, record: &[u8]) {
        let counts = &mut self.counts[probe];
        if let Some(warmup) = &self.warmup
            && record.len() >= self.min_sizes[probe]
            && warmup.layouts[probe].ts(record) < warmup.until
        {
            counts.warmup += 1;
            return;
        }
        if self.room == 0 {
            counts.after_end += 1;
            return;
        }
        self.room -= 1;
        counts.records += 1;
        counts.bytes += record.len() as u64;
        if record.len() < self.min_sizes[probe] {
            counts.malformed += 1;
            return;
        }
        self.batch.push(probe, record);
        if self.batch.is_full() {
            self.flush();
        }
    }

    /// Records nothing from now on, until [`BatchSender::begin`] sets the start.
    pub fn warm_up(&mut self, layouts: Vec<Arc<Layout>>) {
        self.warmup = Some(WarmupFilter { layouts, until: u64::MAX });
    }

    /// The window has begun at `at`, monotonic nanoseconds: records with an earlier time are not recorded, even if they
    /// arrive later.
    pub fn begin(&mut self, at: u64) {
        if let Some(warmup) = &mut self.warmup {
            warmup.until = at;
        }
    }

    /// Adds a row of an aggregate. `max_events` limits events, so rows do not count.
    pub fn push_row(&mut self, stream: usize, row: &[u8]) {
        let counts = &mut self.counts[stream];
        counts.records += 1;
        counts.bytes += row.len() as u64;
        self.batch.push(stream, row);
        if self.batch.is_full() {
            self.flush();
        }
    }

    /// Adds the end of a snapshot with rows in `count` streams from `stream` on.
    pub fn push_snapshot_end(&mut self, stream: usize, count: usize) {
        self.batch.push_snapshot_end(stream, count);
    }

    /// Adds a loss in the kernel since the last poll for a probe.
    pub fn push_gap(&mut self, probe: usize, lost: u64, cause: LossCause) {
        self.batch.push_gap(probe, lost, cause);
    }

    /// Sends the batch, or drops and counts its records if the queue is full.
    pub fn flush(&mut self) {
        if self.batch.is_empty() && !self.ticks && self.dropped.iter().all(|dropped| *dropped == 0) {
            return;
        }
        if self.shared.queued.load(Ordering::Acquire).saturating_add(self.batch.memory()) > self.bound {
            return self.drop_batch();
        }
        for (probe, dropped) in self.dropped.iter_mut().enumerate().filter(|(_, dropped)| **dropped > 0) {
            self.batch.push_gap(probe, std::mem::take(dropped), LossCause::Queue);
        }
        self.batch.read_at = if self.looks { crate::run::clock::monotonic() } else { 0 };
        self.shared.queued.fetch_add(self.batch.memory(), Ordering::AcqRel);
        let next = self.shared.spare().pop().unwrap_or_default();
        // A writer that ended has reported the reason; its records are not lost because of slow sinks
        let _ = self.sender.send(std::mem::replace(&mut self.batch, next));
    }

    /// Drops the records of the batch and counts them; its gaps move to the next one.
    fn drop_batch(&mut self) {
        let (counts, lost) = (&mut self.counts, &mut self.dropped);
        self.batch.drop_records(|probe| {
            counts[probe].lost_queue_full += 1;
            lost[probe] += 1;
        });
    }

    /// Sends the last gaps after the last records, regardless of the bound.
    pub fn finish(mut self) -> Vec<Received> {
        self.flush();
        self.bound = usize::MAX;
        self.flush();
        self.counts
    }

    /// The counts so far, one entry per probe.
    pub fn counts(&self) -> &[Received] {
        &self.counts
    }

    /// Whether the window has all the events that it accepts.
    pub fn is_full(&self) -> bool {
        self.room == 0
    }
}

impl BatchReceiver {
    /// The next batch, or `None` when the reader has finished.
    pub fn next(&self) -> Option<Batch> {
        self.receiver.recv().ok()
    }

    /// Returns a batch after it was written.
    pub fn done(&self, mut batch: Batch) {
        self.shared.queued.fetch_sub(batch.memory(), Ordering::AcqRel);
        batch.clear();
        let mut spare = self.shared.spare();
        if spare.len() < SPARE {
            spare.push(batch);
        }
    }
}

/// Records written so far, for the progress line.
pub type WrittenCount = Arc<AtomicU64>;

#[cfg(test)]
mod tests;
