//! `offcputime`: threads whose sleeps are known, and where they slept.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::Scratch;
use crate::disk::retry;
use crate::load::unique_name;
use crate::root;
use crate::sched::{Worker, alone, one_cpu, spin_in_the_test, work};

const NAP: Duration = Duration::from_millis(50);
const NAPS: u32 = 10;

#[inline(never)]
fn nap_in_the_test() {
    (0..NAPS).for_each(|_| std::thread::sleep(NAP));
}

/// How often and how long, of all rows of `probe`.
fn total(rows: &[Json], probe: &str) -> (f64, f64) {
    let sum = |column: &str| of_probe(rows, probe).iter().map(|row| row[column].as_f64().expect("a number")).sum();
    (sum("count"), sum("total_ns"))
}

fn has_frame(row: &Json, stack: &str, part: &str) -> bool {
    let frames = row[stack].as_array().unwrap_or_else(|| panic!("no list: {row}"));
    frames.iter().any(|frame| frame.as_str().is_some_and(|frame| frame.contains(part)))
}

#[test]
fn naps_are_charged_to_who_took_them_and_where() {
    if !root() {
        return;
    }
    let _alone = alone();
    // Switches are hidden now and then as completions are
    retry(|| {
        let missing = missing_naps();
        if missing == 0.0 { Ok(()) } else { Err(format!("{missing} naps")) }
    });
}

/// How many of all naps were not seen; what was seen has to be right.
fn missing_naps() -> f64 {
    let scratch = Scratch::new();
    let name = unique_name();
    let sleeper = Worker::new(&name, None, nap_in_the_test);
    let probe = |name: &str, filters: Json| json!({"program": "offcputime", "name": name, "filters": filters});
    let probes = json!([
        probe("naps", json!({"comm": name, "min_block": "45ms", "reason": "interruptible"})),
        probe("none", json!({"min_block": "45ms", "user_stacks": false})),
        probe("disk", json!({"comm": name, "min_block": "45ms", "reason": "uninterruptible"})),
        probe("elsewhere", json!({"pid": {"not": std::process::id()}, "comm": name})),
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    let [spent] = work([sleeper]);
    let rows = records(&capture.stop().expect(0).stdout);
    let naps = f64::from(NAPS);
    let expect = |(count, ns): (f64, f64), what: &str| {
        assert!(count <= naps, "{what}: {count} of {naps}: {rows:#?}");
        let (least, most) = (count * NAP.as_nanos() as f64, spent.wall - spent.cpu);
        assert!(ns >= 0.99 * least && ns <= 1.01 * most, "{what}: {least} {ns} {most}");
        naps - count
    };
    let missing = expect(total(&rows, "naps"), "naps");
    for row in of_probe(&rows, "naps") {
        assert_eq!((&row["pid"], &row["comm"]), (&json!(std::process::id()), &json!(name)));
        assert!(has_frame(row, "kernel_stack", "nanosleep"), "{row}");
        assert!(has_frame(row, "kernel_stack", "schedule"), "{row}");
        assert!(has_frame(row, "user_stack", "nanosleep"), "{row}");
    }
    for row in of_probe(&rows, "none") {
        assert!(row["user_stack"].as_array().is_none_or(Vec::is_empty), "{row}");
    }
    let mine: Vec<Json> = of_probe(&rows, "none").into_iter().filter(|row| row["comm"] == name).cloned().collect();
    let missing = missing.max(expect(total(&mine, "none"), "none"));
    for probe in ["disk", "elsewhere"] {
        assert_eq!(of_probe(&rows, probe).len(), 0, "{probe}: {rows:#?}");
    }
    missing
}

/// Who is switched out while it could go on is off the CPU too: its waits are the time.
#[test]
fn the_preempted_are_away_while_they_wait() {
    if !root() {
        return;
    }
    let _alone = alone();
    retry(missing_waits);
}

/// What was seen has to be right, and most of it has to be there.
fn missing_waits() -> Result<(), String> {
    let scratch = Scratch::new();
    let (cpu, names) = (one_cpu(), [unique_name(), unique_name()]);
    let spin = || spin_in_the_test(Duration::from_millis(500));
    let workers = names.clone().map(|name| Worker::new(&name, Some(cpu), spin));
    let probes = json!([
        {"program": "offcputime", "name": "p", "filters": {"comm": names[0], "reason": "runnable"}},
        {"program": "offcputime", "name": "q", "filters": {"comm": names[0], "reason": "interruptible", "min_block": "2ms", "max_block": "400ms"}},
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    let [spent, _] = work(workers);
    let rows = records(&capture.stop().expect(0).stdout);
    let (count, ns) = total(&rows, "p");
    assert!(spent.waited > 0.2 * spent.wall, "there was something to see: {spent:?}");
    assert!(ns < 1.05 * spent.waited + 100e6, "{count} {ns} {spent:?}");
    assert!(of_probe(&rows, "p").iter().any(|row| has_frame(row, "user_stack", "spin_in_the_test")), "{rows:#?}");
    assert_eq!(total(&rows, "q").0, 0.0, "it never slept");
    if ns > 0.95 * spent.waited - 15e6 { Ok(()) } else { Err(format!("{count} waits, {ns} ns of {spent:?}")) }
}
