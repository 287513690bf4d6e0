use super::*;

#[test]
fn consecutive_losses_are_one_burst() {
    let mut tracker = LossTracker::default();
    let looks: Vec<_> = [0, 10, 30, 30, 35].into_iter().map(|total| tracker.update(total)).collect();
    assert_eq!(looks, [None, Some(10), Some(20), None, Some(5)]);
    assert_eq!(tracker.longest_burst, 30);
}

#[test]
fn huge_losses_have_no_suggested_size() {
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
    // 504 records of 72 bytes in a perf buffer: 56 of them fit, and 448 were lost
    let many = LossTracker { longest_burst: 448, ..LossTracker::default() };
    assert!(many.suggested_size(&buffer, received, kernel) >= Some(504 * 72));
}
