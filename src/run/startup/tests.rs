use super::*;

const SECOND: i64 = 1_000_000_000;

#[test]
fn an_aligned_start_is_on_the_full_minute() {
    let window = WindowPlan { align: Some(Duration::from_secs(60)), ..WindowPlan::default() };
    assert_eq!(delay(&window, 60 * SECOND, 7), Duration::ZERO);
    assert_eq!(delay(&window, 61 * SECOND, 7), Duration::from_secs(59));
    assert_eq!(delay(&window, 120 * SECOND - 1, 7), Duration::from_nanos(1));
    assert_eq!(delay(&window, -SECOND, 7), Duration::from_secs(1), "before 1970 too");
}

#[test]
fn a_splay_is_within_its_bounds_and_on_top_of_the_alignment() {
    let window = WindowPlan { splay: Duration::from_secs(10), ..WindowPlan::default() };
    assert_eq!(delay(&window, 0, 0), Duration::ZERO);
    assert_eq!(delay(&window, 0, 1 << 63), Duration::from_secs(5));
    assert!(delay(&window, 0, u64::MAX) < Duration::from_secs(10));
    let both = WindowPlan { align: Some(Duration::from_secs(60)), ..window };
    assert_eq!(delay(&both, 59 * SECOND, 1 << 63), Duration::from_secs(6));
    assert_ne!(random(), random());
}
