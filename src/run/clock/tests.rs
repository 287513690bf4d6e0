use super::*;

const SECOND: i64 = 1_000_000_000;

#[test]
fn a_timestamp_of_now_is_the_wall_clock_of_now() {
    let difference = (ClockMonitor::start().expect("a timer").clock().wall(monotonic()) - now()).abs();
    assert!(difference < SECOND, "{difference} ns apart");
}

/// A monitor whose clocks had this difference at the start, and the differences that it records later, seconds.
fn noted(later: &[(u64, i64, i64)]) -> (ClockMonitor, Clock) {
    let mut watch = ClockMonitor::start().expect("a timer");
    let measured = |(at, wall, slept): (u64, i64, i64)| ClockSample {
        at: at * SECOND as u64,
        wall: wall * SECOND,
        slept: slept * SECOND,
        error: 50,
    };
    watch.last = measured((0, 1000, 0));
    let mut differences = vec![ClockOffset { from: 0, wall: 1000 * SECOND }];
    for one in later {
        watch.note(measured(*one), &mut differences);
    }
    let clock = Clock { known: differences, differences: Arc::default() };
    (watch, clock)
}

#[test]
fn each_timestamp_has_the_time_that_the_clock_showed_then() {
    let (watch, clock) = noted(&[(10, 400, 0), (20, 1000, 0), (30, 1005, 5)]);
    let wall = |seconds: u64| clock.wall(seconds * SECOND as u64) / SECOND;
    assert_eq!([0, 9, 10, 19, 20, 29, 30].map(wall), [1000, 1009, 410, 419, 1020, 1029, 1035]);
    let steps: Vec<_> = watch.steps_since(0).iter().map(|step| (step.jump, step.by / SECOND)).collect();
    assert_eq!(steps, [(Jump::Set, -600), (Jump::Set, 600), (Jump::Slept, 5)]);
    assert_eq!(watch.steps_since(20 * SECOND as u64).len(), 2);
    let first = watch.steps_since(0)[0];
    assert_eq!((first.before() / SECOND, first.noticed.wall / SECOND), (1010, 410));
}

#[test]
fn a_difference_within_the_measurement_error_is_no_jump() {
    let mut watch = ClockMonitor::start().expect("a timer");
    let (mut differences, last) = (Vec::new(), watch.last);
    watch.note(ClockSample { wall: last.wall + last.error, ..last }, &mut differences);
    assert_eq!((watch.steps.len(), differences.len()), (0, 0));
    // Set during the sleep: both are recorded
    let both = ClockSample { wall: last.wall + 7 * SECOND, slept: last.slept + 5 * SECOND, ..last };
    watch.note(both, &mut differences);
    let steps: Vec<_> = watch.steps.iter().map(|step| (step.jump, step.by / SECOND)).collect();
    assert_eq!(steps, [(Jump::Slept, 5), (Jump::Set, 2)]);
}

#[test]
fn jumps_beyond_the_limit_are_summed_up() {
    let later: Vec<_> = (1..=1000).map(|at| (at, 1000 + at as i64, 0)).collect();
    let (watch, clock) = noted(&later);
    assert!(watch.steps.len() == MAX_STEPS && clock.known.len() <= MAX_STEPS + 1);
    assert_eq!(watch.steps.iter().map(|step| step.by).sum::<i64>(), 1000 * SECOND);
    assert_eq!(clock.wall(1000 * SECOND as u64), 3000 * SECOND);
}
