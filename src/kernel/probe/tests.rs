use super::*;

#[test]
fn counts_do_not_overflow() {
    let all = |count| Counters {
        seen: count,
        lost_buffer_full: count,
        lost_map_full: count,
        lost_other: count,
        peak_unread: 0,
    };
    assert_eq!(all(u64::MAX).lost(), u64::MAX);
    assert_eq!(all(5).since(&all(7)), Counters { seen: 5, ..Counters::default() }, "counts that went back");
    assert_eq!(all(7).since(&all(5)), Counters { seen: 7, ..all(2) });
}
