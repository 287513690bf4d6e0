//! Least privilege: what a run needs to start, and what it has left once it runs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::chown;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, records, report, summary};
use crate::common::{BINARY, NOBODY, Scratch, copy_program, run};
use crate::load::{failing_calls, unique_name};
use crate::reports::valid_report;
use crate::root;

/// Whether this kernel is `major.minor` or a later one.
fn is_since(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
    (numbers[0], numbers[1]) >= (major, minor)
}

/// Kernels before 6.0 let nobody read a map without it.
fn for_maps() -> &'static [&'static str] {
    if is_since(6, 0) { &[] } else { &["BPF"] }
}

fn to(scratch: &Scratch, path: &str) -> (Json, String) {
    let comm = unique_name();
    let config = json!({
        "version": 1,
        "max_loss": "100%", // on kernels from 7.0 on, what others make the kernel leave out
        "probes": [{"program": "execsnoop", "filters": {"comm": comm}}],
        "sinks": {"file": {"type": "jsonl", "path": scratch.path(path)}},
    });
    (config, comm)
}

fn calls(comm: &str, count: usize) {
    failing_calls(comm, count, 1, |_| ()).join().expect("the load does not panic");
}

/// A line of each thread's status.
fn of_threads(pid: u32, key: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    // A thread may end meanwhile
    let status = tasks.filter_map(|task| fs::read_to_string(task.expect("an entry").path().join("status")).ok());
    let value = |status: String| status.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()));
    status.map(|status| value(status).expect("it is there")).collect()
}

#[test]
fn no_thread_of_a_capture_keeps_a_capability() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (mut config, comm) = to(&scratch, "out");
    config["sinks"]["file"]["rotate"] = json!({"size": "4KiB"});
    config["sinks"]["file"]["compress"] = json!("gzip");
    let path = scratch.path("report.json");
    let capture = Capture::start(&scratch, &config, &["--report", path.to_str().expect("UTF-8")]);
    calls(&comm, 100);
    // They are given up after "attached" is written, and by then there is one thread
    let until = Instant::now() + Duration::from_secs(30);
    let threads = || fs::read_dir(format!("/proc/{}/task", capture.pid())).expect("it runs").count();
    while threads() < 3 || of_threads(capture.pid(), "NoNewPrivs:").iter().any(|set| set != "1") {
        assert!(Instant::now() < until, "{} threads: {:?}", threads(), of_threads(capture.pid(), "NoNewPrivs:"));
        thread::sleep(Duration::from_millis(1));
    }
    for key in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        let sets = of_threads(capture.pid(), key);
        assert!(sets.len() >= 3, "reader, writer and files: {sets:?}");
        let kept = if key.ends_with("Prm:") || key.ends_with("Eff:") { u64::from(!is_since(6, 0)) << 39 } else { 0 };
        assert!(sets.iter().all(|set| *set == format!("{kept:016x}")), "{key} {sets:?}");
    }
    // And everything that comes after goes on working: the buffer, other files, names, the report
    calls(&comm, 100);
    assert_eq!(summary(&capture.stop().expect(0), "execsnoop"), [200, 200, 0]);
    let report = report(&scratch);
    assert!(report["files"].as_array().expect("a list").len() > 3);
    assert!(report["files"].as_array().expect("a list").iter().all(|file| file["complete"] == true), "{report}");
    assert_eq!(report["privileges"], json!({"user": 0, "capabilities": for_maps()}));
}

/// Root without capabilities is a user like any other: in somebody else's folder it needs one to give a file its name.
#[test]
fn what_the_end_needs_is_kept() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    for folder in ["theirs", "reports"] {
        fs::create_dir(scratch.path(folder)).expect("a folder");
        chown(scratch.path(folder), Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    let (mut config, comm) = to(&scratch, "theirs/out");
    config["sinks"]["file"]["owner"] = json!("daemon");
    config["sinks"]["file"]["compress"] = json!("zstd");
    let path = scratch.path("reports/report.json");
    let capture = Capture::start(&scratch, &config, &["--report", path.to_str().expect("UTF-8")]);
    calls(&comm, 3);
    assert_eq!(summary(&capture.stop().expect(0), "execsnoop"), [3, 3, 0]);
    assert!(scratch.path("theirs/out.zst").exists());
    let report = valid_report(&fs::read_to_string(path).expect("a report"));
    assert_eq!(report["privileges"]["capabilities"], json!([&["CHOWN", "DAC_OVERRIDE"], for_maps()].concat()));
    // A file of somebody else, in a folder with the sticky bit of somebody else
    scratch.set_mode("theirs", 0o1777);
    scratch.write("theirs/old", "old\n");
    chown(scratch.path("theirs/old"), Some(12345), None).expect("root may");
    let (config, comm) = to(&scratch, "theirs/old");
    let capture = Capture::start(&scratch, &config, &[]);
    calls(&comm, 2);
    capture.stop().expect(0);
    assert_eq!(records(&fs::read_to_string(scratch.path("theirs/old")).expect("there")).len(), 2);
}

#[test]
fn a_user_with_two_capabilities_is_enough() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    scratch.set_mode("", 0o755);
    fs::create_dir(scratch.path("own")).expect("a folder");
    chown(scratch.path("own"), Some(NOBODY), Some(NOBODY)).expect("root may");
    let binary = scratch.path("ebpf-run");
    fs::hard_link(BINARY, &binary).unwrap_or_else(|_| copy_program(BINARY.as_ref(), &binary));
    let as_user = |config: &Json, capabilities: &str| {
        let config = scratch.write("config.yaml", config.to_string());
        let sets = format!("-all{capabilities}");
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args(["--inh-caps", &sets, "--ambient-caps", &sets]).arg(&binary).arg(config);
        command
    };
    let (config, comm) = to(&scratch, "own/out");
    // Before 5.11 maps count as locked memory
    let more = if is_since(5, 11) { "" } else { ",+sys_resource" };
    let mut command = as_user(&config, &format!(",+bpf,+perfmon{more}"));
    let path = scratch.path("own/report.json");
    command.arg("--report").arg(&path).args(["--max-events", "5", "--duration", "20s"]).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut attached = String::new();
    BufReader::new(child.stderr.take().expect("it is piped")).read_line(&mut attached).expect("it says something");
    assert!(attached.contains("attached"), "{attached}");
    calls(&comm, 5);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(records(&fs::read_to_string(scratch.path("own/out")).expect("it is there")).len(), 5);
    let report = valid_report(&fs::read_to_string(path).expect("a report"));
    assert_eq!(report["privileges"], json!({"user": 65534, "capabilities": for_maps()}));
    run(&mut as_user(&config, ",+bpf")).expect(5).says(&["requires CAP_PERFMON", "hint: "]);
}

/// What a capture started with is not what a program that it would start gets; and its end is another's business no more.
#[test]
fn it_can_still_be_ended_by_root() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (config, _) = to(&scratch, "out");
    let capture = Capture::start(&scratch, &config, &[]);
    let pid = Pid::from_raw(capture.pid().cast_signed()).expect("a pid");
    kill_process(pid, Signal::TERM).expect("root may");
    capture.wait().expect(0).says(&["interrupted"]);
}
