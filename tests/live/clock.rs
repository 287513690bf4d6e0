//! The system's clock, set while a capture runs. Only where that is asked for, because it is everybody's clock: in a virtual
//! machine (`scripts/test-kernels` does), or with EBPF_RUN_TEST_SET_CLOCK=1.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_settime};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, records, report, summary, to_jsonl};
use crate::common::Scratch;
use crate::load::{clock, failing_calls, unique_name};
use crate::root;

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;

fn may_set_the_clock() -> bool {
    let may = std::env::var_os("EBPF_RUN_TEST_SET_CLOCK").is_some_and(|value| value == "1");
    if !may {
        let thread = thread::current();
        let name = thread.name().unwrap_or_default();
        eprintln!("SKIPPED {name}: it sets the system's clock; EBPF_RUN_TEST_SET_CLOCK=1 lets it");
    }
    may
}

/// Sets the clock by `by` nanoseconds; returns when that was done, on the clock of timestamps.
fn set_by(by: i64) -> i64 {
    let to = clock(ClockId::Realtime) + by;
    let time = Timespec { tv_sec: to.div_euclid(SECOND), tv_nsec: to.rem_euclid(SECOND) };
    clock_settime(ClockId::Realtime, time).expect("root may set the clock");
    clock(ClockId::Monotonic)
}

fn nanoseconds(time: &Json) -> i64 {
    let time: jiff::Timestamp = time.as_str().expect("a time").parse().expect("RFC 3339");
    i64::try_from(time.as_nanosecond()).expect("it is of our days")
}

/// Every record has the time that the clock showed when its event happened, and the report says what is between them.
#[test]
fn a_clock_that_is_set_is_followed_and_told() {
    if !root() || !may_set_the_clock() {
        return;
    }
    let scratch = Scratch::new();
    let comm = unique_name();
    let config = to_jsonl(json!([{"program": "execsnoop", "name": "calls", "filters": {"comm": comm}}]));
    let path = scratch.path("report.json");
    let capture = Capture::start(&scratch, &config, &["--report", path.to_str().expect("UTF-8")]);
    let calls = || failing_calls(&comm, 20, 1, |_| thread::sleep(Duration::from_millis(10)));
    let began = clock(ClockId::Realtime);
    calls().join().expect("the load does not panic");
    // The first time between events, the second time among them
    let first = set_by(-HOUR);
    calls().join().expect("the load does not panic");
    let among = calls();
    thread::sleep(Duration::from_millis(100));
    let second = set_by(HOUR + 7 * SECOND);
    among.join().expect("the load does not panic");
    let third = set_by(-7 * SECOND); // as it was, and that is a step too
    let ended = capture.stop().expect(0);
    assert!((clock(ClockId::Realtime) - began).abs() < 60 * SECOND);

    assert_eq!(summary(&ended, "calls"), [60, 60, 0]);
    let report = report(&scratch);
    let steps: Vec<(i64, i64)> = report["clock_steps"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|step| {
            assert_eq!(
                (&step["jump"], nanoseconds(&step["to"]) - nanoseconds(&step["from"])),
                (&json!("set"), by(step))
            );
            (step["monotonic_ns"].as_i64().expect("ns"), by(step))
        })
        .collect();
    let close = |(is, should): (i64, i64)| (is - should).abs() < SECOND / 2; // what setting takes, on an emulated CPU
    let expected = [-HOUR, HOUR + 7 * SECOND, -7 * SECOND];
    assert_eq!(steps.len(), 3, "{steps:?}");
    assert!(steps.iter().map(|step| step.1).zip(expected).all(close), "{steps:?}");

    let late: Vec<i64> = steps.iter().zip([first, second, third]).map(|(step, set)| step.0 - set).collect();
    eprintln!("noticed so many nanoseconds after they were set: {late:?}");
    assert!(late.iter().all(|late| *late < SECOND), "{late:?}");

    // What is between the two times of a record is the same for all, but for the steps that were before it
    let records = records(&ended.stdout);
    let ts = |record: &Json| record["ts"].as_i64().expect("ns");
    let between = |record: &Json| nanoseconds(&record["time"]) - ts(record);
    let before: Vec<i64> = records
        .iter()
        .map(|record| {
            between(record) - steps.iter().filter(|step| step.0 <= ts(record)).map(|step| step.1).sum::<i64>()
        })
        .collect();
    let different: BTreeSet<i64> = before.into_iter().collect();
    assert_eq!(different.len(), 1, "{different:?}");
    let changes = records.windows(2).filter(|pair| between(&pair[0]) != between(&pair[1]));
    assert_eq!(changes.count(), 2, "the third step came after the last record");
    assert!(records.windows(2).all(|pair| ts(&pair[0]) <= ts(&pair[1])));
    assert!((nanoseconds(&records[0]["time"]) - began).abs() < 10 * SECOND);

    // The window has both of its ends by the clock that was then
    let window = &report["window"];
    let span = |from: i64, to: i64| to - from;
    let wall = span(nanoseconds(&window["start"]), nanoseconds(&window["end"]));
    let monotonic = |key: &str| window[key].as_i64().expect("ns");
    let sum: i64 = steps.iter().map(|step| step.1).sum();
    assert_eq!(wall, span(monotonic("start_monotonic_ns"), monotonic("end_monotonic_ns")) + sum);
    let ended = ended.says(&["\n  the clock was set back by 3", "\n  the clock was set forward by 36", " from 20"]);
    assert_eq!(ended.stderr.matches("records have the new time from then on").count(), 3, "{}", ended.stderr);
}

fn by(step: &Json) -> i64 {
    step["by_ns"].as_i64().expect("ns")
}
