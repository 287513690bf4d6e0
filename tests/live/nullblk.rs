//! A disk whose every request takes the same known time: what `biosnoop`, `biolatency` and `biostacks` say of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::Scratch;
use crate::disk::retry;
use crate::load::{Held, copy_of};
use crate::root;

/// How long a request takes: not on the edge of a bucket.
const TIME: u64 = 3_000_000;
const READS: u64 = 200;
const DISK: &str = "/dev/nullb0";

/// Whether there is such a disk: made by hand, or here if this is a guest of scripts/vm. A machine's modules are its own.
fn disk_of_known_time() -> bool {
    let time = || fs::read_to_string("/sys/module/null_blk/parameters/completion_nsec").unwrap_or_default();
    if fs::read_to_string("/proc/cmdline").is_ok_and(|words| words.contains("vm_init=")) && time().is_empty() {
        let options = ["null_blk", "irqmode=2", &format!("completion_nsec={TIME}"), "queue_mode=2"].map(String::from);
        let made = Command::new("modprobe").args(options).status();
        assert!(made.is_ok_and(|status| status.success()), "a guest has the module null_blk");
        let until = Instant::now() + Duration::from_secs(10);
        while !Path::new(DISK).exists() {
            assert!(Instant::now() < until, "{DISK} does not come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    if time().trim() == TIME.to_string() {
        return true;
    }
    eprintln!(
        "SKIPPED: no {DISK} (modprobe null_blk irqmode=2 completion_nsec={TIME} queue_mode=2); scripts/vm has it"
    );
    false
}

/// Within a fifth: an emulated machine's clock ticks late, never early.
fn right(median: u64) -> bool {
    (TIME * 99 / 100..=TIME * 6 / 5).contains(&median)
}

#[test]
fn a_known_time_is_told_within_a_fifth() {
    if !root() || !disk_of_known_time() {
        return;
    }
    let scratch = Scratch::new();
    let (dd, comm) = copy_of(&scratch, "dd");
    retry(|| {
        let args = [format!("if={DISK}"), "of=/dev/null".into(), "bs=4096".into(), format!("count={READS}")];
        let load = Held::new(Path::new("/bin/sh"), &dd, args.into_iter().chain(["iflag=direct".into()]));
        let programs = ["biosnoop", "biolatency", "biostacks"];
        let probes = programs.map(|program| json!({"program": program, "filters": {"comm": comm, "op": "read"}}));
        let capture = Capture::start(&scratch, &to_jsonl(json!(probes)), &[]);
        assert_eq!(load.go(), Some(0));
        let records = records(&capture.stop().expect(0).stdout);
        let number = |row: &Json, column: &str| row[column].as_u64().unwrap_or_else(|| panic!("{column} of {row}"));
        let mut times: Vec<u64> =
            of_probe(&records, "biosnoop").into_iter().map(|row| number(row, "latency_ns")).collect();
        times.sort_unstable();
        // dd does what it does a first time, so there may be a second stack
        let most = |program: &str| -> (u64, u64) {
            let rows = of_probe(&records, program).into_iter().filter(|row| row["row"] == "summary");
            let row = rows.max_by_key(|row| number(row, "count")).unwrap_or_else(|| panic!("{program} has no rows"));
            (number(row, "count"), number(row, "p50"))
        };
        let (latency, stacks) = (most("biolatency"), most("biostacks"));
        let counts = [times.len() as u64, latency.0, stacks.0];
        if counts[0] != READS || counts[1] != READS || counts[2] * 10 < READS * 9 {
            return Err(format!("{counts:?} of {READS} reads"));
        }
        let medians = [times[times.len() / 2], latency.1, stacks.1];
        assert!(times[0] >= TIME * 99 / 100, "{} ns: no request is faster than that", times[0]);
        eprintln!("medians of biosnoop, biolatency, biostacks: {medians:?} ns");
        if medians.into_iter().all(right) { Ok(()) } else { Err(format!("medians of {medians:?} ns")) }
    });
}
