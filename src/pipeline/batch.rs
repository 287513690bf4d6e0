//! Records on their way from the reader to the writer, and the gaps between them.

/// A batch is handed over when it has so many bytes, and after every look into the buffers.
const BATCH_BYTES: usize = 256 << 10;

/// Records of all probes in the order in which they were read, and the gaps between them.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    index: Vec<BatchEntry>,
    /// When the buffers were looked into, monotonic nanoseconds; 0 if they were not.
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
    /// A reading of an aggregate is complete: its rows are in the streams from this on, so many of them.
    SnapshotEnd {
        stream: u32,
        count: u32,
    },
}

/// Where records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// How many.
    pub lost: u64,
    /// Why.
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
    /// For the stream.
    pub fn words(self) -> &'static str {
        match self {
            LossCause::Kernel => "buffer full",
            LossCause::Map => "map full",
            LossCause::Queue => "sinks too slow",
        }
    }
}

/// What a batch holds, piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record's bytes.
    Record(&'a [u8]),
    /// Records are missing here, or since the last look into the buffer.
    Gap(Gap),
    /// All rows of a reading are there: those of so many streams from this one on.
    SnapshotEnd(usize),
}

impl Batch {
    /// The pieces with their probes.
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

    /// Says that records of that probe are missing here.
    pub fn push_gap(&mut self, probe: usize, lost: u64, cause: LossCause) {
        self.index.push(BatchEntry::Gap { probe: probe as u32, gap: Gap { lost, cause } });
    }

    /// Says that a reading is complete whose rows are in `count` streams from `stream` on.
    pub fn push_snapshot_end(&mut self, stream: usize, count: usize) {
        self.index.push(BatchEntry::SnapshotEnd { stream: stream as u32, count: count as u32 });
    }

    /// Whether it is time to hand it over.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Forgets the records, and tells `dropped` the probe of each; the gaps stay.
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

    /// What it holds of the queue's bound, bytes.
    pub fn memory(&self) -> usize {
        self.bytes.len() + self.index.len() * size_of::<BatchEntry>()
    }

    /// Keeps the memory for the next records.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
    }
}
