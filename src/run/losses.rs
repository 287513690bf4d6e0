//! What the kernel loses while a capture runs: when, and how much at a stretch.

use super::queue::Received;
use crate::kernel::Counters;
use crate::plan::BufferPlan;

/// Bytes that a record takes in a buffer besides its own.
const HEADER: u64 = 8;

/// The losses of one probe.
#[derive(Debug, Clone, Copy, Default)]
pub struct Losses {
    /// Events lost until the last look.
    total: u64,
    /// Events lost in the looks since the last one without a loss.
    stretch: u64,
    /// The worst stretch.
    worst: u64,
}

impl Losses {
    /// What was lost until now, `total` events, was before the window and does not count.
    pub fn begin(&mut self, total: u64) {
        *self = Losses { total, ..Losses::default() };
    }

    /// Takes the kernel's count; returns what was lost since the last look, if anything was.
    pub fn look(&mut self, total: u64) -> Option<u64> {
        let lost = total.saturating_sub(self.total);
        self.total = total;
        self.stretch = if lost > 0 { self.stretch + lost } else { 0 };
        self.worst = self.worst.max(self.stretch);
        (lost > 0).then_some(lost)
    }

    /// The size that the buffer should have had: what it has, and the worst stretch of losses on top.
    pub fn would_have_held(&self, buffer: &BufferPlan, received: Received, kernel: Counters) -> Option<u64> {
        if kernel.lost_buffer_full == 0 {
            return None;
        }
        let record = received.bytes.checked_div(received.records).unwrap_or(0) + HEADER;
        Some((u64::from(buffer.effective) + self.worst * record).next_power_of_two())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_that_follow_each_other_are_one_stretch() {
        let mut losses = Losses::default();
        let looks: Vec<_> = [0, 10, 30, 30, 35].into_iter().map(|total| losses.look(total)).collect();
        assert_eq!(looks, [None, Some(10), Some(20), None, Some(5)]);
        assert_eq!(losses.worst, 30);
    }
}
