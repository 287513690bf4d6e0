use super::*;

#[test]
fn the_line_has_time_events_and_loss() {
    let shown = line(Duration::from_secs(65), Some(Duration::from_secs(600)), 12, 3);
    assert_eq!(shown, "ebpf-run: 01:05 of 10:00  12 events written, 3 lost  (Ctrl-C to stop)");
}
