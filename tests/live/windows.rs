//! Windows: when they start and end, what keeps two apart, and that nobody records what is not in them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::time::ClockId;
use serde_json::{Value as Json, json};

use crate::capture::{Capture, records, report, summary, to_jsonl};
use crate::common::{BINARY, Ended, Scratch, run};
use crate::load::{clock, copy_of, failing_calls, pipe, unique_name};
use crate::root;

fn probe(comm: &str) -> Json {
    json!([{"program": "execsnoop", "name": "calls", "filters": {"comm": comm}}])
}

/// A config whose window is `window`, and the command whose calls it sees.
pub fn windowed(window: Json) -> (Json, String) {
    let comm = unique_name();
    let mut config = to_jsonl(probe(&comm));
    config["window"] = window;
    config["max_loss"] = json!("100%"); // on kernels from 7.0 on, what others make the kernel leave out
    (config, comm)
}

pub fn calls(comm: &str, count: usize) {
    failing_calls(comm, count, 1, |_| ()).join().expect("the load does not panic");
}

pub fn run_config(scratch: &Scratch, config: &Json, args: &[&str]) -> Ended {
    let config = scratch.write("config.yaml", config.to_string());
    run(Command::new(BINARY).arg(config).args(args))
}

#[test]
fn the_warm_up_is_counted_and_not_recorded() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (config, comm) = windowed(json!({"warmup": "1s", "duration": "1h"}));
    let path = scratch.path("report.json");
    let args = ["--report", path.to_str().expect("UTF-8")];
    let (capture, stdout) = Capture::start_piped(&scratch, &config, &args);
    let (sender, written) = channel();
    let reading =
        thread::spawn(move || BufReader::new(stdout).lines().try_for_each(|line| sender.send(line.expect("text"))));
    // When each call was made: before and after it
    let call = || {
        let before = clock(ClockId::Monotonic) as u64;
        calls(&comm, 1);
        (before, clock(ClockId::Monotonic) as u64)
    };
    let mut made: Vec<(u64, u64)> = (0..7).map(|_| call()).collect(); // in the warm-up
    // The window has begun when a call is recorded
    let until = Instant::now() + Duration::from_secs(60);
    let mut lines = Vec::new();
    while lines.is_empty() {
        assert!(Instant::now() < until, "it does not begin");
        made.push(call());
        lines.extend(written.recv_timeout(Duration::from_millis(50)));
    }
    made.extend((0..3).map(|_| call()));
    let ended = capture.stop().expect(0);
    reading.join().expect("no panic").expect("it is read");
    lines.extend(written.iter());
    let report = report(&scratch);
    let start = report["window"]["start_monotonic_ns"].as_u64().expect("a number");
    let times: Vec<u64> = records(&lines.join("\n")).iter().map(|record| record["ts"].as_u64().expect("ns")).collect();
    assert!(times.iter().all(|ts| *ts >= start), "{times:?} {start}");
    // One call may be under way when the window begins
    let early = made.iter().filter(|(_, after)| *after < start).count();
    let late = made.iter().filter(|(before, _)| *before >= start).count();
    let warmup = made.len() - times.len();
    assert!(early > 0 && warmup >= early && times.len() >= late, "{early} {late} {warmup} {made:?} {times:?} {start}");
    let words = format!("({warmup} during warm-up)");
    let ended = ended.says(&["records from 1s on", &words]);
    assert_eq!(summary(&ended, "calls"), [times.len() as u64, times.len() as u64, 0]);
    assert!(!ended.stderr.contains("do not reconcile"), "{}", ended.stderr);
    let probe = &report["probes"][0];
    let counts = [&probe["seen"], &probe["warmup"], &probe["written"]];
    assert_eq!(counts, [&json!(made.len()), &json!(warmup), &json!(times.len())]);
    assert_eq!((&probe["reconciles"], &report["reconciles"]), (&json!(true), &json!(true)));
}

/// What is added up in the kernel has all of it; the rows have what came in the window.
#[test]
fn an_aggregate_leaves_its_warm_up_out() {
    if !root() {
        return;
    }
    for clear in [true, false] {
        let scratch = Scratch::new();
        let (mut config, comm) = windowed(json!({"warmup": "1s"}));
        let call = "faccessat2";
        config["probes"] = json!([{"program": "syscount", "name": "calls", "filters": {"comm": comm}, "clear": clear}]);
        let capture = Capture::start(&scratch, &config, &[]);
        let attached = capture.attached;
        let asks = |count: usize| {
            let (at, mode, flags) = (CWD, Access::EXISTS, AtFlags::EACCESS);
            let ask = move || accessat(at, "/no/such/file", mode, flags).expect_err("it is not there");
            let asks = move || (0..count).for_each(|_| assert_eq!(ask(), Errno::NOENT));
            let thread = thread::Builder::new().name(comm.clone()).spawn(asks).expect("a thread starts");
            thread.join().expect("it does not panic");
        };
        asks(70);
        thread::sleep(Duration::from_millis(1300).saturating_sub(attached.elapsed()));
        asks(30);
        let ended = capture.stop().expect(0);
        assert!(!ended.stderr.contains("do not reconcile"), "{}", ended.stderr);
        let rows = records(&ended.stdout);
        let counts: Vec<u64> =
            rows.iter().filter(|row| row["syscall"] == call).filter_map(|row| row["calls"].as_u64()).collect();
        assert_eq!(counts.iter().sum::<u64>(), 30, "{}", ended.stdout);
    }
}

/// A signal in the warm-up is the end of a window that has not begun: nothing is recorded, and all is in the books.
#[test]
fn a_signal_in_the_warm_up_ends_it_with_nothing() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (config, comm) = windowed(json!({"warmup": "1h"}));
    let capture = Capture::start(&scratch, &config, &[]);
    calls(&comm, 5);
    let ended = capture.stop().expect(0).says(&["interrupted", "(5 during warm-up)"]);
    assert_eq!((summary(&ended, "calls"), ended.stdout.as_str()), ([0, 0, 0], ""));
    assert!(!ended.stderr.contains("do not reconcile"), "{}", ended.stderr);
}

#[test]
fn a_window_ends_when_its_sinks_have_as_many_bytes_as_it_wants() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (mut config, comm) = windowed(json!({"max_bytes": "1MiB"}));
    config["sinks"] = json!({"file": {"type": "jsonl", "path": scratch.path("out.jsonl")}});
    let path = scratch.path("report.json");
    let args = ["--max-bytes", "20KiB", "--report", path.to_str().expect("UTF-8")]; // which goes over the config's
    let capture = Capture::start(&scratch, &config, &args);
    calls(&comm, 300);
    let ended = capture.wait().expect(0).says(&["after 20KiB written", "max_bytes reached"]);
    assert!(!ended.stderr.contains("do not reconcile"), "{}", ended.stderr);
    let text = fs::read_to_string(scratch.path("out.jsonl")).expect("it is whole");
    let line = text.lines().next_back().map_or(0, str::len) + 1;
    assert!(text.len() >= 20 << 10 && text.len() < (20 << 10) + line, "{} bytes", text.len());
    let report = report(&scratch);
    assert_eq!(report["window"]["ended_by"], "max_bytes");
    assert_eq!(report["files"][0]["bytes"].as_u64(), Some(text.len() as u64));
    assert_eq!(report["probes"][0]["written"].as_u64(), Some(records(&text).len() as u64));
}

#[test]
fn an_aligned_window_starts_on_the_second_and_a_splay_later() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (mut config, _) = windowed(json!({"align": "2s", "duration": "100ms"}));
    // The moment before anything is loaded, which takes its time
    config["sinks"] = json!({"file": {"type": "jsonl", "path": scratch.path("at {{ start }}")}});
    run_config(&scratch, &config, &[]).expect(0);
    let names = fs::read_dir(scratch.path("")).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let names: Vec<String> = names.map(|name| name.into_string().expect("UTF-8")).collect();
    let start = names.iter().find_map(|name| name.strip_prefix("at ")).expect("a file");
    let seconds =
        start.split(':').nth(2).and_then(|rest| rest.trim_end_matches('Z').parse::<f64>().ok()).expect("seconds");
    assert!(seconds % 2.0 < 1.0, "{start}");
    // A random moment of an hour is hardly within the first second
    let config = scratch.write("config.yaml", config.to_string());
    let mut child = Command::new(BINARY).arg(config).args(["--quiet", "--splay", "10h"]).spawn().expect("it starts");
    thread::sleep(Duration::from_secs(3));
    assert!(child.try_wait().expect("it can be asked").is_none(), "it waits");
    child.kill().and_then(|()| child.wait()).expect("it can be ended");
}

/// Until the process has a handler for `signal`.
fn wait_until_caught(pid: u32, signal: Signal) {
    let until = Instant::now() + Duration::from_secs(60);
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
        u64::from_str_radix(mask.trim(), 16).expect("hexadecimal") & 1 << (signal.as_raw() - 1) != 0
    };
    while !caught() {
        assert!(Instant::now() < until, "it never gets ready");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waiting for its moment or for the lock, it ends at once, and that is no failure.
#[test]
fn a_signal_before_the_window_ends_it_quietly() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let held = Scratch::new();
    let (config, _) = windowed(json!({"lock": held.path("lock")}));
    let _first = Capture::start(&held, &config, &[]);
    let lock = held.path("lock");
    let lock = lock.to_str().expect("UTF-8");
    let waits: [&[&str]; 3] = [&["--align", "24h"], &["--splay", "24h"], &["--lock", lock, "--on-locked", "wait"]];
    for args in waits {
        for quiet in [false, true] {
            let (mut config, _) = windowed(json!({}));
            config["sinks"] = json!({"file": {"type": "jsonl", "path": scratch.path("out")}});
            let config = scratch.write("config.yaml", config.to_string());
            let mut command = Command::new(BINARY);
            command.arg(config).args(args).args(quiet.then_some("--quiet")).stderr(std::process::Stdio::piped());
            let child = command.spawn().expect("it starts");
            wait_until_caught(child.id(), Signal::TERM);
            let asked = Instant::now();
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).expect("it is there");
            let ended: Ended = child.wait_with_output().expect("it ends").into();
            assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
            let ended = ended.expect(0);
            if quiet {
                assert_eq!(ended.stderr, "", "{args:?}");
            } else {
                ended.says(&["interrupted before the window began"]);
            }
            assert!(!scratch.path("out").exists() && !scratch.path("out.partial").exists());
        }
    }
}

/// A pipe whose reader sleeps for ever: with a deadline the run ends, says what is missing, and is not taken for whole.
#[test]
fn drain_gives_up_on_a_sink_that_stands_still() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (mut config, comm) = windowed(json!({"drain": "1s"}));
    let path = scratch.path("pipe");
    config["sinks"] = json!({
        "pipe": {"type": "jsonl", "path": path},
        "file": {"type": "jsonl", "path": scratch.path("out")},
    });
    let report_path = scratch.path("report.json");
    let args = ["--report", report_path.to_str().expect("UTF-8")];
    let (_reader, capture) = pipe(&path, || Capture::start(&scratch, &config, &args));
    failing_calls(&comm, 1000, 250, |_| ()).join().expect("the load does not panic"); // more than a pipe holds
    let asked = Instant::now();
    capture.signal(Signal::TERM);
    let ended =
        capture.wait().expect(1).says(&["error: a sink did not drain within 1s", "more discarded: the output ended)"]);
    assert!(asked.elapsed() > Duration::from_millis(900) && asked.elapsed() < Duration::from_secs(5));
    assert!(!ended.stderr.contains("do not reconcile"), "{}", ended.stderr);
    assert!(scratch.path("out.partial").exists() && !scratch.path("out").exists());
    let report = report(&scratch);
    assert_eq!(report["exit_code"], 1);
    assert_eq!(
        (&report["files"][0]["path"], &report["files"][0]["complete"]),
        (&json!(scratch.path("out.partial")), &json!(false))
    );
}

#[test]
fn quiet_is_silent_when_all_is_well_and_loud_when_not() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (mut config, _) = windowed(json!({"duration": "200ms"}));
    config["sinks"] = json!({"file": {"type": "jsonl", "path": scratch.path("out")}});
    let ended = run_config(&scratch, &config, &["--quiet"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    // What a killed run left is worth a mail, once
    fs::write(scratch.path("out.partial"), "{}\n").expect("written");
    run_config(&scratch, &config, &["--quiet"])
        .expect(0)
        .says(&["warning: ", "out.partial was left by a run that was killed"]);
    assert_eq!(run_config(&scratch, &config, &["--quiet"]).expect(0).stderr, "");
    config["sinks"] = json!({"file": {"type": "jsonl", "path": "/dev/full"}});
    config["sinks"]["file"] = json!({"type": "csv", "path": "/dev/full"});
    let ended = run_config(&scratch, &config, &["--quiet"]).expect(1).says(&["error: ", "/dev/full", "finished after"]);
    assert!(!ended.stderr.contains("attached"), "{}", ended.stderr);
}

/// What runs, but not as the config wants it, is worth a mail too.
#[test]
fn quiet_tells_of_probes_that_are_left_out_and_of_disks_that_are_not_here() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (mut config, _) = windowed(json!({"duration": "200ms"}));
    let often = json!({"event": "cpu_clock", "frequency": "900kHz"}); // no kernel does that
    let probes = config["probes"].as_array_mut().expect("a list");
    probes.push(json!({"program": "profile", "name": "often", "filters": often, "on_unsupported": "skip"}));
    let ended = run_config(&scratch, &config, &["--quiet"]).expect(0);
    assert!(ended.stderr.starts_with("ebpf-run: warning: continuing without often: "), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    config["probes"] = json!([{"program": "biosnoop", "filters": {"device": "nosuchdisk"}}]);
    let ended = run_config(&scratch, &config, &["--quiet"]).expect(0);
    assert_eq!(ended.stderr, "ebpf-run: warning: there is no disk `nosuchdisk` (see lsblk)\n");
}

/// The start of the window is there for paths, and is that of the window, not of the process.
#[test]
fn the_start_in_a_path_is_that_after_the_wait() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (mut config, _) = windowed(json!({"align": "2s", "duration": "100ms"}));
    config["sinks"] = json!({"file": {"type": "jsonl", "path": scratch.path("{{ start | date('%s') }}")}});
    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
    run_config(&scratch, &config, &[]).expect(0);
    let even = before.next_multiple_of(2);
    assert!(scratch.path(&even.to_string()).exists() || scratch.path(&(even + 2).to_string()).exists());
}

/// A command that the config's filters let through, so that the copy is used.
#[test]
fn events_and_bytes_end_a_window_by_option() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let capture = Capture::start(&scratch, &to_jsonl(probe(&comm)), &["--max-events", "2"]);
    (0..3).for_each(|_| drop(run(&mut Command::new(&program)).expect(0)));
    let ended = capture.wait().expect(0).says(&["after 2 events"]);
    assert_eq!(summary(&ended, "calls"), [2, 2, 0]);
}

/// Windows that follow each other, as cron makes them, and one report of them all.
#[test]
fn reports_of_many_windows_add_up() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (config, comm) = windowed(json!({}));
    let paths: Vec<String> =
        (0..3).map(|i| scratch.path(&format!("{i}.json")).to_str().expect("UTF-8").to_owned()).collect();
    for (i, path) in paths.iter().enumerate() {
        let capture = Capture::start(&scratch, &config, &["--report", path]);
        calls(&comm, 10 + i);
        capture.stop().expect(0);
    }
    let report = |args: &[&str]| run(Command::new(BINARY).arg("report").args(args).args(&paths));
    let sum: Json = serde_json::from_str(&report(&["--json"]).expect(0).stdout).expect("JSON");
    let capture = &sum["captures"][0];
    assert_eq!((&capture["name"], &capture["windows"]), (&json!("config"), &json!(3)));
    let probe = &capture["probes"][0];
    assert_eq!([&probe["seen"], &probe["written"], &probe["lost"]], [&json!(33), &json!(33), &json!(0)]);
    let gaps = capture["gaps"].as_array().expect("a list");
    let lengths: Vec<u64> = gaps.iter().filter_map(|gap| gap["nanoseconds"].as_u64()).collect();
    assert!(lengths.len() == 2 && gaps.iter().all(|gap| gap["overlap"] == false), "{gaps:?}");
    let shown = report(&[]).expect(0).stdout;
    assert!(shown.contains("3 windows from ") && shown.contains("3 interrupted"), "{shown}");
    scratch.write("broken.json", "{");
    let broken = scratch.path("broken.json");
    let ended = report(&[broken.to_str().expect("UTF-8")]).expect(1).says(&["broken.json: not JSON"]);
    assert!(ended.stdout.contains("3 windows from "), "the others are added up all the same: {}", ended.stdout);
}
