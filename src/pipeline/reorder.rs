//! Sorts the records of a probe by time, with `order: time`.
//!
//! A perf buffer delivers one CPU after the other, and even a ring has records in the order in which they were
//! reserved. No record waits longer than `max_latency` in a buffer; so once the buffers were polled at a time T, every
//! record up to T minus that bound has arrived and can be written in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Records of one probe that are not yet in order.
#[derive(Debug)]
pub struct ReorderBuffer {
    bound: u64,
    waiting: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    /// Keeps records of the same time in the order of their arrival.
    count: u64,
    /// The time of the last record that was returned.
    last: u64,
    late: u64,
}

impl ReorderBuffer {
    /// `bound`: the longest time that a record waits in a buffer, nanoseconds.
    pub fn new(bound: u64) -> Self {
        ReorderBuffer { bound, waiting: BinaryHeap::new(), count: 0, last: 0, late: 0 }
    }

    /// Adds a record with the time `ts`.
    pub fn push(&mut self, ts: u64, record: &[u8]) {
        self.waiting.push(Reverse((ts, self.count, record.to_vec())));
        self.count += 1;
    }

    /// The next record in order, if no earlier one can arrive any more. `read_at`: when the buffers were last polled,
    /// or `u64::MAX` after the last poll.
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

    /// Records that arrived after a later one was returned. They are written nevertheless.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests;
