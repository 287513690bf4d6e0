//! Counts that do not reconcile. No program of ours makes such ones, so the test writes to the counters of a running capture, as
//! a fault would.

use std::fs;
use std::process::Command;

use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use serde_json::json;

use crate::capture::{Capture, records, report, to_jsonl};
use crate::common::{BINARY, Scratch, run};
use crate::load::copy_of;
use crate::root;

/// Places of the counters in `struct runner_counters`.
const SEEN: usize = 0;
const LOST_BUFFER_FULL: usize = 1;
const LOST_MAP_FULL: usize = 2;

type Change = fn(u64) -> u64;

/// Changes the counter at `place` of the first CPU of the process `pid`, which has one probe.
fn tamper(pid: u32, place: usize, change: Change) {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it is at work");
    let ids = descriptors.filter_map(|entry| {
        let text = fs::read_to_string(entry.ok()?.path()).ok()?;
        text.lines().find_map(|line| line.strip_prefix("map_id:"))?.trim().parse().ok()
    });
    let mut maps = ids.filter_map(|id| MapHandle::from_map_id(id).ok());
    let map = maps.find(|map| map.name() == "counters").expect("every program has its counters");
    let key = 0u32.to_ne_bytes();
    let mut cpus = map.lookup_percpu(&key, MapFlags::ANY).expect("it can be read").expect("it has one entry");
    let counter = &mut cpus[0][8 * place..8 * place + 8];
    let value = u64::from_ne_bytes((&*counter).try_into().expect("eight bytes"));
    counter.copy_from_slice(&change(value).to_ne_bytes());
    map.update_percpu(&key, &cpus, MapFlags::ANY).expect("it can be written");
}

#[test]
fn a_run_whose_counts_do_not_reconcile_has_an_exit_code_of_its_own() {
    if !root() {
        return;
    }
    let cases: [(usize, Change, &str); 3] = [
        (SEEN, |count| count + 3, "the kernel counted 5 events, userspace accounts for 2"),
        // Counts that wrap around would make up for anything
        (LOST_BUFFER_FULL, |_| u64::MAX, "the kernel counted 2 events, userspace accounts for 18446744073709551617"),
        (LOST_MAP_FULL, |_| 1 << 63, "the kernel counted 2 events, userspace accounts for 9223372036854775810"),
    ];
    for (place, change, words) in cases {
        let scratch = Scratch::new();
        let (load, comm) = copy_of(&scratch, "true");
        let mut config = to_jsonl(json!([{"program": "execsnoop", "name": "execs", "filters": {"comm": comm}}]));
        config["max_loss"] = json!("100%");
        let path = scratch.path("report.json").display().to_string();
        let capture = Capture::start(&scratch, &config, &["--report", &path]);
        for _ in 0..2 {
            assert!(Command::new(&load).status().expect("it runs").success());
        }
        tamper(capture.pid(), place, change);
        let ended = capture.stop().expect(7);
        assert_eq!(records(&ended.stdout).len(), 2, "what came is there");
        let error = format!("error: the counts of kernel and userspace do not reconcile: probe `execs`: {words}");
        let ended = ended.says(&[&error, &format!("(the counts do not reconcile: {words})"), "hint: "]);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        let report = report(&scratch);
        assert_eq!((&report["exit_code"], &report["reconciles"]), (&json!(7), &json!(false)));
        assert_eq!(report["probes"][0]["reconciles"], json!(false));
        let sum = run(Command::new(BINARY).args(["report", &path])).expect(0);
        assert!(sum.stdout.contains("(exit code 7): the counts of kernel and userspace"), "{}", sum.stdout);
    }
}

/// The difference of the two would be next to 2⁶⁴, of which anything is a small part.
#[test]
fn more_events_before_the_window_than_there_were_do_not_reconcile() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (load, comm) = copy_of(&scratch, "true");
    let mut config = to_jsonl(json!([{"program": "execsnoop", "filters": {"comm": comm}}]));
    config["max_loss"] = json!("100%");
    let capture = Capture::start(&scratch, &config, &["--warmup", "500ms", "--duration", "10ms"]);
    for _ in 0..2 {
        assert!(Command::new(&load).status().expect("it runs").success());
    }
    tamper(capture.pid(), SEEN, |_| 0);
    tamper(capture.pid(), LOST_BUFFER_FULL, |_| 1);
    capture.wait().expect(7).says(&["do not reconcile"]);
}

#[test]
fn an_aggregate_s_rows_have_to_have_all_that_was_counted() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (load, comm) = copy_of(&scratch, "true");
    let config = to_jsonl(json!([{"program": "syscount", "filters": {"comm": comm}}]));
    let capture = Capture::start(&scratch, &config, &[]);
    assert!(Command::new(&load).status().expect("it runs").success());
    tamper(capture.pid(), SEEN, |count| count + 1);
    capture.stop().expect(7).says(&["probe `syscount`: the kernel counted "]);
}
