//! Records on their way from the reader to the writer.
//!
//! The reader must never wait for a sink: it copies records into batches and queues them. What is queued and not yet
//! written is bounded; past the bound records are dropped and counted, and the kernel never notices.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// A batch is handed over when it has so many bytes, and after every look into the buffers.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes of records that may wait for the sinks.
pub const QUEUE_BYTES: usize = 64 << 20;
/// Empty batches that are kept for the next use.
const SPARE: usize = 8;

/// Records of all probes in the order in which they were read.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Probe and length of each record.
    index: Vec<(u32, u32)>,
}

impl Batch {
    /// The records as (probe, bytes).
    pub fn records(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut at = 0;
        self.index.iter().map(move |&(probe, len)| {
            let start = at;
            at += len as usize;
            (probe as usize, &self.bytes[start..at])
        })
    }

    fn push(&mut self, probe: usize, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.index.push((probe as u32, record.len() as u32));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
    }
}

/// What both ends know.
#[derive(Debug, Default)]
struct Shared {
    queued: AtomicUsize,
    spare: Mutex<Vec<Batch>>,
}

impl Shared {
    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Batch>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the reader counted for one probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Records taken out of the buffer within the window.
    pub records: u64,
    /// Of these, dropped because the sinks were too slow.
    pub lost_queue_full: u64,
    /// Records that came after the window had enough of them.
    pub after_end: u64,
    /// Records that were too short to be any.
    pub malformed: u64,
}

/// The reader's end of the queue.
#[derive(Debug)]
pub struct Collector {
    batch: Batch,
    sender: Sender<Batch>,
    shared: Arc<Shared>,
    bound: usize,
    min_sizes: Vec<usize>,
    counts: Vec<Received>,
    /// Records that the window still takes.
    room: u64,
}

/// The writer's end of the queue.
#[derive(Debug)]
pub struct Queue {
    receiver: Receiver<Batch>,
    shared: Arc<Shared>,
}

/// A queue of at most `bound` bytes. `min_sizes` has the least size of a record for each probe; `max_events` ends the
/// window.
pub fn queue(min_sizes: Vec<usize>, bound: usize, max_events: Option<u64>) -> (Collector, Queue) {
    let (sender, receiver) = channel();
    let shared = Arc::new(Shared::default());
    let counts = vec![Received::default(); min_sizes.len()];
    let room = max_events.unwrap_or(u64::MAX);
    let collector =
        Collector { batch: Batch::default(), sender, shared: Arc::clone(&shared), bound, min_sizes, counts, room };
    (collector, Queue { receiver, shared })
}

impl Collector {
    /// Takes a record of the probe with index `probe`.
    #[inline]
    pub fn take(&mut self, probe: usize, record: &[u8]) {
        let counts = &mut self.counts[probe];
        if self.room == 0 {
            counts.after_end += 1;
            return;
        }
        self.room -= 1;
        counts.records += 1;
        if record.len() < self.min_sizes[probe] {
            counts.malformed += 1;
            return;
        }
        self.batch.push(probe, record);
        if self.batch.bytes.len() >= BATCH_BYTES {
            self.hand_over();
        }
    }

    /// Queues what has been taken, or drops and counts it if the queue is full.
    pub fn hand_over(&mut self) {
        if self.batch.index.is_empty() {
            return;
        }
        let bytes = self.batch.bytes.len();
        if self.shared.queued.load(Ordering::Acquire) + bytes > self.bound {
            for &(probe, _) in &self.batch.index {
                self.counts[probe as usize].lost_queue_full += 1;
            }
            return self.batch.clear();
        }
        self.shared.queued.fetch_add(bytes, Ordering::AcqRel);
        let next = self.shared.spare().pop().unwrap_or_default();
        // A writer that is gone has said why; its records are not lost to slowness
        let _ = self.sender.send(std::mem::replace(&mut self.batch, next));
    }

    /// The counts so far, a probe each.
    pub fn counts(&self) -> &[Received] {
        &self.counts
    }

    /// Whether the window has all the events that it wants.
    pub fn is_full(&self) -> bool {
        self.room == 0
    }
}

impl Queue {
    /// The next batch, or `None` when the reader is done.
    pub fn next(&self) -> Option<Batch> {
        self.receiver.recv().ok()
    }

    /// Gives a batch back once it is written.
    pub fn done(&self, mut batch: Batch) {
        self.shared.queued.fetch_sub(batch.bytes.len(), Ordering::AcqRel);
        batch.clear();
        let mut spare = self.shared.spare();
        if spare.len() < SPARE {
            spare.push(batch);
        }
    }
}

/// Records written so far, for the progress line.
pub type Written = Arc<AtomicU64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let (mut collector, queue) = queue(vec![1, 1], QUEUE_BYTES, None);
        collector.take(0, b"one");
        collector.take(1, b"three");
        collector.hand_over();
        drop(collector);
        let batch = queue.next().expect("a batch");
        assert_eq!(batch.records().collect::<Vec<_>>(), [(0, &b"one"[..]), (1, b"three")]);
        queue.done(batch);
        assert!(queue.next().is_none());
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_takes_again_when_there_is_room() {
        let (mut collector, queue) = queue(vec![1], 10, None);
        for _ in 0..3 {
            collector.take(0, b"12345678");
            collector.hand_over();
        }
        assert_eq!(collector.counts()[0], Received { records: 3, lost_queue_full: 2, ..Received::default() });
        queue.done(queue.next().expect("the first batch"));
        collector.take(0, b"12345678");
        collector.hand_over();
        assert_eq!(collector.counts()[0].lost_queue_full, 2);
        assert!(queue.next().is_some());
    }

    #[test]
    fn the_window_takes_no_more_than_it_wants() {
        let (mut collector, _queue) = queue(vec![1], QUEUE_BYTES, Some(2));
        (0..5).for_each(|_| collector.take(0, b"x"));
        assert!(collector.is_full());
        assert_eq!(collector.counts()[0], Received { records: 2, after_end: 3, ..Received::default() });
    }

    #[test]
    fn what_is_too_short_is_never_decoded() {
        let (mut collector, queue) = queue(vec![8], QUEUE_BYTES, None);
        collector.take(0, b"short");
        collector.hand_over();
        assert_eq!(collector.counts()[0].malformed, 1);
        drop(collector);
        assert!(queue.next().is_none());
    }
}
