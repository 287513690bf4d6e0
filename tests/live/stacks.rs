//! What is common to the programs that take stacks: none is missing while there is room, and the programs themselves are in
//! none of them, however the machine is set up.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, report, to_jsonl};
use crate::common::Scratch;
use crate::load::{compiled, unique_name};
use crate::root;
use crate::sched::{Worker, alone, work};

/// Sleeps at the end of each of 512 ways through its functions, twenty times.
const PATHS: &str = r#"
#pragma GCC optimize("no-omit-frame-pointer")
#include <unistd.h>
static void go(int depth, int bits);
__attribute__((noinline)) static void left(int depth, int bits) { go(depth - 1, bits >> 1); __asm__ volatile(""); }
__attribute__((noinline)) static void right(int depth, int bits) { go(depth - 1, bits >> 1); __asm__ volatile(""); }
__attribute__((noinline)) static void go(int depth, int bits)
{
	if (!depth)
		usleep(50);
	else if (bits & 1)
		left(depth, bits);
	else
		right(depth, bits);
	__asm__ volatile("");
}
int main(void)
{
	for (int i = 0; i < 20 * 512; i++)
		go(9, i % 512);
	return 0;
}
"#;

const WITHOUT_STACK: &str = "[stack not kept]";

fn counted(rows: &[Json], of: impl Fn(&Json) -> bool) -> u64 {
    rows.iter().filter(|row| of(row)).map(|row| row["count"].as_u64().expect("a count")).sum()
}

fn has_no_stack(row: &Json) -> bool {
    ["kernel_stack", "user_stack"]
        .iter()
        .any(|stack| row[stack].as_array().is_some_and(|frames| frames.iter().any(|frame| frame == WITHOUT_STACK)))
}

/// Runs [`PATHS`] under offcputime with this many stacks; returns rows, exit code, summary and the report's maps.
fn paths_with(stacks: u32, interval: Option<&str>) -> (Vec<Json>, Option<i32>, String, Json) {
    let scratch = Scratch::new();
    let (program, comm) = compiled(&scratch, PATHS);
    let mut probe = json!({
        "program": "offcputime",
        "filters": {"comm": comm, "reason": "interruptible"},
        "maps": {"stacks": stacks},
    });
    if let Some(interval) = interval {
        probe["interval"] = json!(interval);
    }
    let path = scratch.path("report.json");
    let capture = Capture::start(&scratch, &to_jsonl(json!([probe])), &["--report", path.to_str().expect("UTF-8")]);
    assert!(Command::new(&program).status().expect("it starts").success());
    let ended = capture.stop();
    let maps = report(&scratch)["probes"][0]["maps"].clone();
    (records(&ended.stdout), ended.code, ended.stderr, maps)
}

#[test]
fn no_stack_is_missing_while_there_is_room() {
    if !root() {
        return;
    }
    for interval in [None, Some("200ms")] {
        let (rows, code, said, maps) = paths_with(2048, interval);
        let all = counted(&rows, |_| true);
        assert!(all > 9 * 1024, "{all} of 10240 absences: {said}");
        assert_eq!(counted(&rows, has_no_stack), 0, "{said}");
        assert_eq!((code, &maps["stacks"]["insert_failures"]), (Some(0), &json!(0)), "{said}");
    }
}

#[test]
fn stacks_that_a_full_map_refuses_are_counted() {
    if !root() {
        return;
    }
    let (rows, code, said, maps) = paths_with(64, None);
    let (all, without) = (counted(&rows, |_| true), counted(&rows, has_no_stack));
    assert!(without > 0 && without < all, "{without} of {all}: {said}");
    let refused = maps["stacks"]["insert_failures"].as_u64().expect("a count");
    assert!(refused >= without, "{refused} refused, {without} missing");
    assert!(said.contains("the map `stacks` was full"), "{said}");
    assert!(said.contains("events lack a stack or a time") && said.contains("maps: {stacks: "), "{said}");
    assert_eq!(code, Some(3), "{said}");
}

/// A setting of the kernel that is put back.
struct Sysctl {
    path: &'static str,
    before: String,
}

impl Sysctl {
    /// `None` where the kernel lacks it. Some can be set at a moment only at which nothing uses them.
    fn set(path: &'static str, value: &str) -> Option<Self> {
        let before = fs::read_to_string(path).ok()?.trim().to_owned();
        let sysctl = Sysctl { path, before };
        sysctl.write(value);
        Some(sysctl)
    }

    #[track_caller]
    fn write(&self, value: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while let Err(error) = fs::write(self.path, value) {
            assert!(Instant::now() < until, "{}: {error}", self.path);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        self.write(&self.before);
    }
}

/// The stacks of a thread that naps, innermost frame first.
fn naps() -> Vec<Vec<String>> {
    let scratch = Scratch::new();
    let name = unique_name();
    let sleeper = Worker::new(&name, None, || (0..40).for_each(|_| std::thread::sleep(Duration::from_millis(5))));
    let filters = json!({"comm": name, "reason": "interruptible", "min_block": "4ms", "user_stacks": false});
    let capture = Capture::start(&scratch, &to_jsonl(json!([{"program": "offcputime", "filters": filters}])), &[]);
    work([sleeper]);
    let rows = records(&capture.stop().expect(0).stdout);
    let frames = |row: &Json| -> Vec<String> {
        let frames = row["kernel_stack"].as_array().expect("a list").iter();
        frames.map(|frame| frame.as_str().expect("text").to_owned()).collect()
    };
    rows.iter().map(frames).collect()
}

#[test]
fn the_program_itself_is_in_no_stack_when_its_name_is_hidden() {
    if !root() {
        return;
    }
    let _alone = alone();
    let usual = naps();
    assert!(usual.iter().all(|stack| stack[0].contains("schedule")), "{usual:?}");
    let Some(_hardened) = Sysctl::set("/proc/sys/net/core/bpf_jit_harden", "2") else {
        eprintln!("SKIPPED: this kernel has no net.core.bpf_jit_harden");
        return;
    };
    let hardened = naps();
    assert!(!hardened.is_empty());
    assert!(hardened.iter().all(|stack| stack[0] == usual[0][0]), "{hardened:?} instead of {usual:?}");
}

#[test]
fn a_lower_limit_of_the_kernel_makes_stacks_shorter() {
    if !root() {
        return;
    }
    let _alone = alone();
    let Some(_limit) = Sysctl::set("/proc/sys/kernel/perf_event_max_stack", "4") else {
        eprintln!("SKIPPED: this kernel has no kernel.perf_event_max_stack");
        return;
    };
    let stacks = naps();
    assert!(!stacks.is_empty());
    // The program's own frames are among the four
    assert!(stacks.iter().all(|stack| !stack.is_empty() && stack.len() <= 4 + 1), "{stacks:?}");
    assert!(stacks.iter().all(|stack| stack[0].contains("schedule")), "{stacks:?}");
}

/// Kernel threads without work sleep in a state that is neither of the two others.
#[test]
fn idle_kernel_workers_wait_for_nothing() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let probe = |reason: &str| {
        let filters = json!({"reason": reason, "min_block": "50ms", "comm": "kworker*", "user_stacks": false});
        json!({"program": "offcputime", "name": reason, "filters": filters})
    };
    let config = to_jsonl(json!([probe("idle"), probe("uninterruptible")]));
    let capture = Capture::start(&scratch, &config, &[]);
    // Makes kernel workers work, and rest: flushing a file and closing pipes
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        fs::write(scratch.path("file"), "x").expect("written");
        let mut sync = Command::new("sync");
        sync.arg(scratch.path("file")).stdout(Stdio::null());
        assert!(sync.status().expect("it starts").success());
        std::thread::sleep(Duration::from_millis(100));
    }
    let rows = records(&capture.stop().expect(0).stdout);
    let idle = of_probe(&rows, "idle");
    assert!(!idle.is_empty(), "no kernel worker came back to work in three seconds");
    let in_worker = |row: &&&Json| {
        let frames = row["kernel_stack"].as_array().expect("a list");
        frames.iter().take(3).any(|frame| frame.as_str().is_some_and(|frame| frame == "worker_thread"))
    };
    let waiting = of_probe(&rows, "uninterruptible");
    assert_eq!(waiting.iter().filter(in_worker).count(), 0, "{waiting:#?}");
}
