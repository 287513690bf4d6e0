//! A disk whose every request takes the same known time: what `biosnoop`, `biolatency` and `biostacks` say of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl_of_busy};
use crate::common::{Scratch, in_guest};
use crate::disk::retry;
use crate::load::{Held, copy_of};
use crate::root;

/// How long a request takes: not on the edge of a bucket.
const TIME: u64 = 3_000_000;
const READS: u64 = 200;
const DISK: &str = "/dev/nullb0";

/// Whether there is such a disk: made by hand, or here if this is a guest of scripts/vm. A machine's modules are its own.
/// Nobody else reads from it for as long as what is returned lives.
fn disk_of_known_time() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let parameter = |name: &str| {
        let text = fs::read_to_string(format!("/sys/module/null_blk/parameters/{name}")).unwrap_or_default();
        text.trim().to_owned()
    };
    let is_right = || parameter("completion_nsec") == TIME.to_string() && parameter("hw_queue_depth") == "1";
    let time = format!("completion_nsec={TIME}");
    let options = ["null_blk", "irqmode=2", &time, "queue_mode=2", "submit_queues=1", "hw_queue_depth=1"];
    if in_guest() && !is_right() {
        let _ = Command::new("modprobe").args(["-r", "null_blk"]).status();
        let made = Command::new("modprobe").args(options).status();
        assert!(made.is_ok_and(|status| status.success()), "a guest has the module null_blk");
        let until = Instant::now() + Duration::from_secs(10);
        while !Path::new(DISK).exists() {
            assert!(Instant::now() < until, "{DISK} does not come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    if is_right() {
        // Where a request can wait after its start; without it, waiting comes first
        fs::write("/sys/block/nullb0/queue/scheduler", "mq-deadline").expect("a scheduler");
        return Some(alone);
    }
    eprintln!("SKIPPED: no {DISK} (modprobe {}); guests of scripts/vm have it", options.join(" "));
    None
}

/// A `dd` that reads blocks past the cache, one after the other.
fn reads(dd: &Path, count: u64) -> Held {
    let args = [format!("if={DISK}"), "of=/dev/null".into(), "bs=4096".into(), format!("count={count}")];
    Held::new(Path::new("/bin/sh"), dd, args.into_iter().chain(["iflag=direct".into()]))
}

/// Within a fifth: an emulated machine's clock ticks late, never early.
fn right(median: u64) -> bool {
    (TIME * 99 / 100..=TIME * 6 / 5).contains(&median)
}

#[test]
fn a_known_time_is_told_within_a_fifth() {
    if !root() {
        return;
    }
    let Some(_alone) = disk_of_known_time() else { return };
    let scratch = Scratch::new();
    let (dd, comm) = copy_of(&scratch, "dd");
    retry(|| {
        let load = reads(&dd, READS);
        let programs = ["biosnoop", "biolatency", "biostacks"];
        let probes = programs.map(|program| json!({"program": program, "filters": {"comm": comm, "op": "read"}}));
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(json!(probes)), &[]);
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

/// The disk takes one request at a time. Of two readers one always waits, for as long as the other's request takes.
#[test]
fn time_in_the_queue_counts_if_asked_for() {
    if !root() {
        return;
    }
    let Some(_alone) = disk_of_known_time() else { return };
    let scratch = Scratch::new();
    let (dd, comm) = copy_of(&scratch, "dd");
    retry(|| {
        let loads = [reads(&dd, READS), reads(&dd, READS)];
        let probe = |(program, queued)| {
            let filters = json!({"comm": comm, "op": "read", "queued": queued});
            json!({"program": program, "name": format!("{program}-{queued}"), "filters": filters})
        };
        let programs = ["biolatency", "biostacks"];
        let probes: Vec<Json> =
            programs.iter().flat_map(|program| [false, true].map(|queued| probe((program, queued)))).collect();
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(json!(probes)), &[]);
        let loads = loads.map(|load| std::thread::spawn(|| load.go()));
        loads.into_iter().for_each(|load| assert_eq!(load.join().expect("it does not panic"), Some(0)));
        let records = records(&capture.stop().expect(0).stdout);
        let mean = |probe: &str| -> u64 {
            let sum = |column: &str| -> u64 {
                let rows = of_probe(&records, probe).into_iter().filter(|row| row["row"] == "summary");
                rows.map(|row| row[column].as_u64().expect("a number")).sum()
            };
            sum("sum") / sum("count").max(1)
        };
        for program in programs {
            let (device, all) = (mean(&format!("{program}-false")), mean(&format!("{program}-true")));
            eprintln!("{program}: {device} ns with the driver, {all} ns in all");
            if all < device * 3 / 2 {
                return Err(format!("{program}: {device} ns with the driver, {all} ns in all"));
            }
        }
        Ok(())
    });
}
