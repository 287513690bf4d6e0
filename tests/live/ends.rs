//! How a window ends, and that nothing is left of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::query::{LinkInfoIter, ProgInfoIter};
use rustix::process::Signal;
use rustix::time::ClockId;
use serde_json::{Value as Json, json};

use crate::capture::{Capture, complete, records, report, summary, to_jsonl, to_jsonl_of_busy};
use crate::common::{BINARY, Scratch, run};
use crate::load::{clock, copy_of, failing_calls, pipe, unique_name};
use crate::root;

/// A probe that sees what has this command, and nothing else.
fn probe(comm: &str) -> Json {
    json!([{"program": "execsnoop", "name": "calls", "filters": {"comm": comm}}])
}

#[test]
fn a_window_ends_after_its_duration() {
    if !root() {
        return;
    }
    let (scratch, comm) = (Scratch::new(), unique_name());
    let mut config = to_jsonl(probe(&comm));
    config["window"] = json!({"duration": "1h"});
    let path = scratch.path("report.json");
    let now = || clock(ClockId::Monotonic);
    let before = now();
    // Which goes over the config's
    let args = ["--duration", "1s", "--report", path.to_str().expect("UTF-8")];
    let capture = Capture::start(&scratch, &config, &args);
    let attached = now();
    failing_calls(&comm, 3, 1, |_| ()).join().expect("the load does not panic");
    let ended = capture.wait().expect(0);
    let after = now();
    assert!(after - attached < 3_000_000_000, "{} ns", after - attached);
    // "attached" is read some time after it was written: how long the window was, by a clock that the test has too
    let window = &report(&scratch)["window"];
    let [start, end] = ["start", "end"].map(|key| window[format!("{key}_monotonic_ns")].as_i64().expect("ns"));
    assert!(before < start && end < after && end - start >= 900_000_000, "{before} {start} {end} {after}");
    assert_eq!(summary(&ended, "calls"), [3, 3, 0]);
    assert_eq!(records(&ended.stdout).len(), 3);
    let ended = ended.says(&["ends after 1s or with Ctrl-C", "finished after 1.", ": duration reached"]);
    let seconds = ended.stderr.split("finished after ").nth(1).and_then(|rest| rest.split('s').next());
    let seconds: f64 = seconds.and_then(|seconds| seconds.parse().ok()).expect("a number");
    assert!((0.95..=1.5).contains(&seconds), "{seconds}");
}

#[test]
fn signals_end_a_window_cleanly() {
    if !root() {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let (scratch, comm) = (Scratch::new(), unique_name());
        // Nothing would be fetched for a minute: what is in the buffer must be written all the same
        let mut config = to_jsonl_of_busy(probe(&comm));
        config["probes"][0]["buffer"] = json!({"max_latency": "60s", "size": "4MiB"});
        let capture = Capture::start(&scratch, &config, &[]);
        failing_calls(&comm, 5, 1, |_| ()).join().expect("the load does not panic");
        let asked = Instant::now();
        capture.signal(signal);
        let ended = capture.wait().expect(0).says(&["finished after ", ": interrupted"]);
        assert!(asked.elapsed() < Duration::from_secs(3), "{signal:?}: {:?}", asked.elapsed());
        let found = records(&ended.stdout).len();
        complete(found, 5, &ended);
        assert_eq!(summary(&ended, "calls"), [found as u64, found as u64, 0]);
    }
}

#[test]
fn a_window_takes_just_as_many_events_as_it_wants() {
    if !root() {
        return;
    }
    let (scratch, comm) = (Scratch::new(), unique_name());
    let mut config = to_jsonl(probe(&comm));
    config["window"] = json!({"max_events": 5});
    let capture = Capture::start(&scratch, &config, &[]);
    failing_calls(&comm, 50, 1, |_| ()).join().expect("the load does not panic");
    let ended = capture.wait().expect(0).says(&["max_events reached"]);
    assert_eq!(summary(&ended, "calls"), [5, 5, 0]);
    assert!(!ended.stderr.contains("do not reconcile"), "{}", ended.stderr);
    let times: Vec<u64> =
        records(&ended.stdout).iter().map(|record| record["ts"].as_u64().expect("a number")).collect();
    assert!(times.len() == 5 && times.is_sorted(), "{times:?}");
}

/// `ebpf-run … | head -1`
#[test]
fn a_closed_pipe_ends_it_even_if_nothing_more_comes() {
    if !root() {
        return;
    }
    for first in [true, false] {
        let (scratch, comm) = (Scratch::new(), unique_name());
        let (capture, stdout) = Capture::start_piped(&scratch, &to_jsonl(probe(&comm)), &[]);
        if first {
            failing_calls(&comm, 3, 1, |_| ()).join().expect("the load does not panic");
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).expect("a record comes"); // and the pipe is closed
            assert_eq!(records(&line)[0]["comm"], comm.as_str());
        } else {
            drop(stdout);
        }
        let closed = Instant::now();
        let ended = capture.wait().expect(0).says(&["the reader closed the output"]);
        assert!(closed.elapsed() < Duration::from_secs(3), "{:?}", closed.elapsed());
        assert!(!ended.stderr.contains("error"), "it is none: {}", ended.stderr);
    }
}

/// While events keep coming: the writer meets the closed pipe, not the reader's watch over it.
#[test]
fn a_pipe_that_is_closed_in_a_flood_ends_it_too() {
    if !root() {
        return;
    }
    let (scratch, comm) = (Scratch::new(), unique_name());
    let (capture, stdout) = Capture::start_piped(&scratch, &to_jsonl(probe(&comm)), &[]);
    let load = failing_calls(&comm, 2000, 500, |_| ());
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next().expect("a record comes").expect("it can be read");
    assert_eq!(records(&line).len(), 1);
    drop(lines);
    let ended = capture.wait().expect(0).says(&["the reader closed the output"]);
    assert!(!ended.stderr.contains("do not reconcile"), "{}", ended.stderr);
    load.join().expect("the load does not panic");
}

/// A pipe holds 64 KiB, and its reader sleeps: the writer stands still, the traced processes and the kernel's buffer must
/// not. What has piled up is written when the reader wakes, after the window's end even.
#[test]
fn a_sink_that_stands_still_holds_nothing_else_up() {
    if !root() {
        return;
    }
    let (scratch, comm) = (Scratch::new(), unique_name());
    let path = scratch.path("pipe");
    let mut config = to_jsonl_of_busy(probe(&comm));
    config["probes"][0]["buffer"] = json!({"size": "256KiB"});
    config["sinks"] = json!({"pipe": {"type": "jsonl", "path": path}});
    let (mut reader, capture) = pipe(&path, || Capture::start(&scratch, &config, &[]));
    let began = Instant::now();
    // Several times what buffer and pipe hold together, in portions that the buffer has room for
    let rest = |i: usize| {
        if i.is_multiple_of(50) {
            thread::sleep(Duration::from_millis(30));
        }
    };
    failing_calls(&comm, 1500, 250, rest).join().expect("the load does not panic");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    capture.signal(Signal::INT);
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    let ended = capture.wait().expect(0);
    let text = reading.join().expect("it does not panic").expect("it can be read");
    assert!(text.len() > 512 << 10, "{} bytes are not enough to hold anything up", text.len());
    let found = records(&text).len();
    complete(found, 1500, &ended);
    assert_eq!(summary(&ended, "calls"), [found as u64, found as u64, 0]);
}

/// Whoever can't wait for a sink that stands still says so with a second signal.
#[test]
fn a_second_signal_waits_for_no_sink() {
    if !root() {
        return;
    }
    let (scratch, comm) = (Scratch::new(), unique_name());
    let (capture, stdout) = Capture::start_piped(&scratch, &to_jsonl(probe(&comm)), &[]);
    failing_calls(&comm, 400, 250, |_| ()).join().expect("the load does not panic"); // more than the pipe holds
    capture.signal(Signal::INT);
    thread::sleep(Duration::from_millis(1500));
    capture.signal(Signal::INT);
    capture.wait().expect(130);
    drop(stdout);
}

/// `timeout` sends its signal to the process and then to the process's group: that is one wish to end, not two.
#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    if !root() {
        return;
    }
    let (scratch, comm) = (Scratch::new(), unique_name());
    for _ in 0..5 {
        let capture = Capture::start(&scratch, &to_jsonl(probe(&comm)), &[]);
        failing_calls(&comm, 100, 10, |_| ()).join().expect("the load does not panic");
        (0..3).for_each(|_| capture.signal(Signal::TERM));
        assert_eq!(records(&capture.wait().expect(0).stdout).len(), 100);
    }
    let config = scratch.write("config.yaml", to_jsonl(probe(&comm)).to_string());
    let mut command = Command::new("timeout");
    run(command.args(["--preserve-status", "1", BINARY]).arg(config)).expect(0).says(&["interrupted"]);
}

/// Numbers of programs and links that a process holds.
fn held(pid: u32) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs");
    let infos: Vec<String> = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok()).collect();
    let all = |key: &str| -> BTreeSet<u32> {
        let lines = infos.iter().flat_map(|info| info.lines());
        lines.filter_map(|line| line.strip_prefix(key)?.trim().parse().ok()).collect()
    };
    (all("prog_id:"), all("link_id:"))
}

#[test]
fn nothing_is_left_behind() {
    if !root() {
        return;
    }
    for signal in [Signal::INT, Signal::KILL] {
        let (scratch, comm) = (Scratch::new(), unique_name());
        let probes = json!([
            {"program": "execsnoop", "filters": {"comm": comm}},
            {"program": "biosnoop", "filters": {"comm": comm}},
        ]);
        let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
        let (programs, links) = held(capture.pid());
        assert!(programs.len() >= 7 && links.len() >= 7, "{programs:?} {links:?}");
        let pid = capture.pid();
        capture.signal(signal);
        assert_eq!(capture.wait().code, (signal == Signal::INT).then_some(0));
        assert!(!fs::exists(format!("/proc/{pid}")).expect("/proc can be read"));
        // The kernel frees them a moment after the last reference is gone
        let left = || -> (Vec<u32>, Vec<u32>) {
            let programs = ProgInfoIter::default().map(|info| info.id).filter(|id| programs.contains(id));
            let links = LinkInfoIter::default().map(|info| info.id).filter(|id| links.contains(id));
            (programs.collect(), links.collect())
        };
        let until = Instant::now() + Duration::from_secs(10);
        while left() != (vec![], vec![]) {
            assert!(Instant::now() < until, "after {signal:?} there still are {:?}", left());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Captures do not see or disturb each other.
#[test]
fn two_captures_run_side_by_side() {
    if !root() {
        return;
    }
    let scratches = [Scratch::new(), Scratch::new()];
    let programs = scratches.each_ref().map(|scratch| copy_of(scratch, "true"));
    let [first, second] = [0, 1].map(|i| Capture::start(&scratches[i], &to_jsonl(probe(&programs[i].1)), &[]));
    for (count, (program, _)) in [3, 4].into_iter().zip(&programs) {
        (0..count).for_each(|_| drop(run(&mut Command::new(program)).expect(0)));
    }
    assert_eq!(summary(&first.stop().expect(0), "calls"), [3, 3, 0]);
    assert_eq!(summary(&second.stop().expect(0), "calls"), [4, 4, 0]);
}
