use super::*;

#[test]
fn a_person_reads_which_way_and_how_far() {
    let noticed = ClockInstant { wall: 1_767_225_600_000_000_000, monotonic: 5 };
    let step = ClockStep { jump: Jump::Set, noticed, by: -3_600_000_000_000 };
    assert_eq!(
        step.to_string(),
        "the clock was set back by 3600.0s, from 2026-01-01T01:00:00.000000000Z to 2026-01-01T00:00:00.000000000Z: \
         records have the new time from then on"
    );
    assert!(ClockStep { by: 7_000_000, ..step }.to_string().starts_with("the clock was set forward by 7.0ms, "));
}
