//! Records between the reader and the writer, and the gaps between them.

/// A batch is sent when it has this many bytes, and after every poll of the buffers.
const BATCH_BYTES: usize = 256 << 10;

/// Records of all probes in the order in which they were read, and the gaps between them.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    index: Vec<BatchEntry>,
    /// When the buffers were polled, monotonic nanoseconds; 0 if they were not.
    pub read_at: u64,
}

#[derive(Debug, Clone, Copy)]
enum BatchEntry {
    /// A record's length in `bytes`.
    Record {
        probe: u32,
        len: u32,
    },
    Gap {
        probe: u32,
        gap: Gap,
    },
    /// A snapshot of an aggregate is complete: its rows are in `count` streams from `stream` on.
    SnapshotEnd {
        stream: u32,
        count: u32,
    },
}

/// A gap in the records of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Number of lost records.
    pub lost: u64,
    /// Cause of the loss.
    pub cause: LossCause,
}

/// Why records are missing in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossCause {
    /// The buffer, a map or the scratch space was full.
    Kernel,
    /// The map of an aggregate was full.
    Map,
    /// The sinks were too slow.
    Queue,
}

impl LossCause {
    /// The text in the output.
    pub fn words(self) -> &'static str {
        match self {
            LossCause::Kernel => "buffer full",
            LossCause::Map => "map full",
            LossCause::Queue => "sinks too slow",
        }
    }
}

/// An item of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record's bytes.
    Record(&'a [u8]),
    /// Records are missing here, or since the last poll of the buffer.
    Gap(Gap),
    /// All rows of a snapshot are complete: those of this many streams from this one on.
    SnapshotEnd(usize),
}

impl Batch {
    /// The items with the indices of their probes.
    pub fn items(&self) -> impl Iterator<Item = (usize, Item<'_>)> {
        let mut at = 0;
        self.index.iter().map(move |entry| match *entry {
            BatchEntry::Record { probe, len } => {
                let start = at;
                at += len as usize;
                (probe as usize, Item::Record(&self.bytes[start..at]))
            }
            BatchEntry::Gap { probe, gap } => (probe as usize, Item::Gap(gap)),
            BatchEntry::SnapshotEnd { stream, count } => (stream as usize, Item::SnapshotEnd(count as usize)),
        })
    }

    /// Appends a record of the probe with index `probe`.
    pub fn push(&mut self, probe: usize, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.index.push(BatchEntry::Record { probe: probe as u32, len: record.len() as u32 });
    }

    /// Appends a gap in the records of that probe.
    pub fn push_gap(&mut self, probe: usize, lost: u64, cause: LossCause) {
        self.index.push(BatchEntry::Gap { probe: probe as u32, gap: Gap { lost, cause } });
    }

    /// Appends the end of a snapshot with rows in `count` streams from `stream` on.
    pub fn push_snapshot_end(&mut self, stream: usize, count: usize) {
        self.index.push(BatchEntry::SnapshotEnd { stream: stream as u32, count: count as u32 });
    }

    /// Whether it is large enough to be sent.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Removes the records and calls `dropped` with the probe of each; the gaps stay.
    pub fn drop_records(&mut self, mut dropped: impl FnMut(usize)) {
        self.index.retain(|entry| match entry {
            BatchEntry::Record { probe, .. } => {
                dropped(*probe as usize);
                false
            }
            BatchEntry::Gap { .. } | BatchEntry::SnapshotEnd { .. } => true,
        });
        self.bytes.clear();
    }

    /// Its share of the queue's bound, bytes.
    pub fn memory(&self) -> usize {
        self.bytes.len() + self.index.len() * size_of::<BatchEntry>()
    }

    /// Clears it and keeps the memory for the next records.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
    }
}
