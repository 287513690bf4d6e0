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
mod tests {
    use super::*;

    #[test]
    fn losses_that_follow_each_other_are_one_stretch() {
        let mut tracker = LossTracker::default();
        let looks: Vec<_> = [0, 10, 30, 30, 35].into_iter().map(|total| tracker.update(total)).collect();
        assert_eq!(looks, [None, Some(10), Some(20), None, Some(5)]);
        assert_eq!(tracker.longest_burst, 30);
    }

    #[test]
    fn counts_beyond_all_measure_have_no_size_that_helps() {
        let mut tracker = LossTracker::default();
        tracker.update(u64::MAX);
        tracker.update(0);
        assert_eq!(tracker.update(u64::MAX), Some(u64::MAX));
        assert_eq!(tracker.longest_burst, u64::MAX);
        let buffer = BufferPlan {
            transport: crate::plan::Transport::Reserve,
            asked: 4096,
            effective: 4096,
            wakeup: crate::plan::WakeupPlan::Bytes(1024),
            max_latency: std::time::Duration::from_millis(100),
            left: crate::plan::BufferDefaults::default(),
        };
        let kernel = Counters { lost_buffer_full: 1, ..Counters::default() };
        assert_eq!(tracker.suggested_size(&buffer, Received::default(), kernel), None);
        let few = LossTracker { longest_burst: 3, ..LossTracker::default() };
        let received = Received { records: 2, bytes: 112, ..Received::default() };
        assert_eq!(few.suggested_size(&buffer, received, kernel), Some(8192));
    }
}
