//! Tracks the kernel's losses while a capture runs: when they happen, and the longest burst.

use super::queue::Received;
use crate::kernel::Counters;
use crate::plan::BufferPlan;

/// Largest number of bytes that a record takes in a buffer besides its content: in a perf buffer a header of 8, a length of
/// 4 and up to 7 of padding. A ring buffer has a header of 8.
const OVERHEAD: u64 = 8 + 4 + 7;

/// The losses of one probe.
#[derive(Debug, Clone, Copy, Default)]
pub struct LossTracker {
    /// Events lost until the last call.
    total: u64,
    /// Events lost since the last call without a loss.
    burst: u64,
    /// The longest burst.
    longest_burst: u64,
}

impl LossTracker {
    /// Excludes the losses until now, `total` events, which are from before the window.
    pub fn restart(&mut self, total: u64) {
        *self = LossTracker { total, ..LossTracker::default() };
    }

    /// Updates the kernel's count; returns the loss since the last call, if there was one.
    pub fn update(&mut self, total: u64) -> Option<u64> {
        let lost = total.saturating_sub(self.total);
        self.total = total;
        self.burst = if lost > 0 { self.burst.saturating_add(lost) } else { 0 };
        self.longest_burst = self.longest_burst.max(self.burst);
        (lost > 0).then_some(lost)
    }

    /// The suggested size of the buffer: its size plus the longest burst of losses; `None` without a loss, or if no
    /// buffer can be that large.
    pub fn suggested_size(&self, buffer: &BufferPlan, received: Received, kernel: Counters) -> Option<u64> {
        if kernel.lost_buffer_full == 0 {
            return None;
        }
        let record = received.bytes.checked_div(received.records).unwrap_or(0).saturating_add(OVERHEAD);
        u64::from(buffer.effective)
            .saturating_add(self.longest_burst.saturating_mul(record))
            .checked_next_power_of_two()
    }
}

#[cfg(test)]
mod tests;
