//! What the kernel loses while a capture runs: when, and how much at a stretch.

use super::queue::Received;
use crate::kernel::Counters;
use crate::plan::BufferPlan;

/// Bytes that a record takes in a buffer besides its own.
const HEADER: u64 = 8;

/// The losses of one probe.
#[derive(Debug, Clone, Copy, Default)]
pub struct LossTracker {
    /// Events lost until the last look.
    total: u64,
    /// Events lost in the looks since the last one without a loss.
    burst: u64,
    /// The worst stretch.
    longest_burst: u64,
}

impl LossTracker {
    /// What was lost until now, `total` events, was before the window and does not count.
    pub fn restart(&mut self, total: u64) {
        *self = LossTracker { total, ..LossTracker::default() };
    }

    /// Takes the kernel's count; returns what was lost since the last look, if anything was.
    pub fn update(&mut self, total: u64) -> Option<u64> {
        let lost = total.saturating_sub(self.total);
        self.total = total;
        self.burst = if lost > 0 { self.burst.saturating_add(lost) } else { 0 };
        self.longest_burst = self.longest_burst.max(self.burst);
        (lost > 0).then_some(lost)
    }

    /// The size that the buffer should have had: what it has, and the worst stretch of losses on top; `None` without a loss, or
    /// if no buffer could have it.
    pub fn suggested_size(&self, buffer: &BufferPlan, received: Received, kernel: Counters) -> Option<u64> {
        if kernel.lost_buffer_full == 0 {
            return None;
        }
        let record = received.bytes.checked_div(received.records).unwrap_or(0).saturating_add(HEADER);
        u64::from(buffer.effective)
            .saturating_add(self.longest_burst.saturating_mul(record))
            .checked_next_power_of_two()
    }
}

#[cfg(test)]
mod tests;
