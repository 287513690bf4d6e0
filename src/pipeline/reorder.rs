//! Sorting by time, for a probe that asks for it.
//!
//! A perf buffer comes a CPU after the other, and even one ring has records in the order in which they were reserved. No
//! record waits longer than `max_latency` in a buffer; so once the buffers have been looked into at a time T, every
//! record up to T less that bound is there, and can go out in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Records of one probe that wait for their turn.
#[derive(Debug)]
pub struct ReorderBuffer {
    bound: u64,
    waiting: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    /// Keeps records of the same time in the order in which they came.
    count: u64,
    /// The time of the last record that went out.
    last: u64,
    late: u64,
}

impl ReorderBuffer {
    /// `bound`: nanoseconds that a record waits in a buffer at the most.
    pub fn new(bound: u64) -> Self {
        ReorderBuffer { bound, waiting: BinaryHeap::new(), count: 0, last: 0, late: 0 }
    }

    /// Takes a record of the time `ts`.
    pub fn push(&mut self, ts: u64, record: &[u8]) {
        self.waiting.push(Reverse((ts, self.count, record.to_vec())));
        self.count += 1;
    }

    /// The next record in order, if it can't be overtaken any more. `read_at`: when the buffers were last looked into,
    /// or `u64::MAX` once nothing more can come.
    pub fn pop(&mut self, read_at: u64) -> Option<Vec<u8>> {
        let Reverse((ts, ..)) = self.waiting.peek()?;
        if *ts > read_at.saturating_sub(if read_at == u64::MAX { 0 } else { self.bound }) {
            return None;
        }
        let Reverse((ts, _, record)) = self.waiting.pop()?;
        self.late += u64::from(ts < self.last);
        self.last = self.last.max(ts);
        Some(record)
    }

    /// Records that came after a later one had gone out. They are written all the same.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests;
