//! Limits and disks that are met while files are written: an error that names the path, exit code 1, and whole records.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::capture::{Capture, records, report};
use crate::common::{BINARY, Scratch, run};
use crate::load::{SmallFolder, failing_calls, unique_name};
use crate::root;

/// A config with the sinks `sinks`, and the command whose calls it records.
fn config(sinks: Json) -> (Json, String) {
    let comm = unique_name();
    let config = json!({
        "version": 1,
        "max_loss": "100%",
        "probes": [{"program": "execsnoop", "filters": {"comm": comm}}],
        "sinks": sinks,
    });
    (config, comm)
}

fn calls(comm: &str, count: usize) {
    failing_calls(comm, count, 300, |_| ()).join().expect("the load does not panic");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// The number of records of a file that ends with a whole one.
fn whole_records(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.is_empty() || text.ends_with('\n'), "{} ends within a line", path.display());
    if path.to_str().is_some_and(|path| path.contains(".csv")) {
        let mut table = csv::Reader::from_reader(text.as_bytes());
        table.records().fold(0, |count, row| row.map(|_| count + 1).expect("a row as long as the others"))
    } else {
        records(&text).len()
    }
}

/// The runner with the limit of a file's size at `kib` KiB; and what the shell that sets it opens before, as it is.
fn with_file_size(kib: u32, scratch: &Scratch, config: &Json, redirection: &str) -> Command {
    let config = scratch.write("config.yaml", config.to_string());
    let mut command = Command::new("bash");
    command.args(["-c", &format!("ulimit -f {kib}; exec \"$@\" {redirection}"), "bash", BINARY]).arg(config);
    command.arg("--report").arg(scratch.path("report.json")).current_dir(scratch.path(""));
    command
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error_of_the_sink() {
    if !root() {
        return;
    }
    for (sink, file, redirection) in [
        (json!({"type": "csv", "path": "out.csv"}), "out.csv.partial", ""),
        (json!({"type": "jsonl", "path": "out.jsonl"}), "out.jsonl.partial", ""),
        (json!({"type": "jsonl", "path": "out.jsonl", "rotate": {"size": "1MiB"}}), "out.0001.jsonl.partial", ""),
        (json!({"type": "jsonl"}), "out", ">out"),
        (json!({"type": "csv"}), "out.csv", ">out.csv"),
        (json!({"type": "jsonl", "path": "/dev/fd/3"}), "out", "3>out"),
    ] {
        let scratch = Scratch::new();
        let (config, comm) = config(json!({"small": sink}));
        let capture = Capture::start_command(with_file_size(64, &scratch, &config, redirection));
        calls(&comm, 400);
        let ended = capture.wait();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let ended = ended.says(&["error: sink `small` can't write to ", "File too large", "hint: "]);
        let count = whole_records(&scratch.path(file));
        let size = fs::metadata(scratch.path(file)).expect("it is there").len();
        assert!(count > 50 && size <= 64 << 10, "{file}: {count} records in {size} bytes: {}", ended.stderr);
        let report = report(&scratch);
        let written = report["probes"][0]["written"].as_u64().expect("a number");
        assert!(written <= count as u64, "{written} are written, and {count} are there");
        let left: Vec<_> = names(&scratch.path("")).into_iter().filter(|name| name.contains("partial")).collect();
        assert!(left.len() == usize::from(redirection.is_empty()), "{left:?}");
    }
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error_of_the_report_too() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (config, _) = config(json!({"out": {"type": "jsonl", "path": "out.jsonl"}}));
    scratch.write("report.json", "the last one\n");
    let mut command = with_file_size(1, &scratch, &config, "");
    run(command.args(["--duration", "1ms"]))
        .expect(1)
        .says(&["error: the report can't be written to", "File too large"]);
    assert_eq!(fs::read_to_string(scratch.path("report.json")).expect("it is there"), "the last one\n");
    assert_eq!(names(&scratch.path("")), ["config.yaml", "out.jsonl", "report.json"], "nothing else is left");
    // Not even the number of the process has room in the lock: it keeps others away all the same
    let mut command = with_file_size(0, &scratch, &config, "");
    run(command.args(["--duration", "1ms", "--lock", "lock"])).expect(1).says(&["report"]);
}

/// What is compressed may be larger than the limit, or than the disk: what it was made of stays, complete.
#[test]
fn a_file_that_can_t_be_compressed_stays_as_it_is() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let small = SmallFolder::mount(&scratch, "400k");
    let (config, comm) = config(json!({"out": {"type": "jsonl", "path": small.path("x.jsonl"), "compress": "gzip"}}));
    let capture = Capture::start(&scratch, &config, &[]);
    calls(&comm, 400);
    wait_for_lines(&small.path("x.jsonl.partial"), 400);
    fs::write(small.path("filler"), vec![0; 600_000]).expect_err("it fills the disk");
    let ended = capture.stop().expect(1).says(&["can't be compressed: No space left on device"]);
    assert_eq!(names(&small.path("")), ["filler", "x.jsonl"], "{}", ended.stderr);
    assert_eq!(whole_records(&small.path("x.jsonl")), 400);
}

fn wait_for_lines(path: &Path, count: usize) {
    let until = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(path).unwrap_or_default().lines().count() < count {
        assert!(Instant::now() < until, "{} does not fill", path.display());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Both sinks are on the disk that gets full; one of them finds out.
#[test]
fn files_on_a_full_disk_end_with_a_whole_record() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let small = SmallFolder::mount(&scratch, "300k");
    let sinks = json!({
        "table": {"type": "csv", "path": small.path("x.csv")},
        "lines": {"type": "jsonl", "path": small.path("x.jsonl")},
    });
    let (config, comm) = config(sinks);
    let report_path = scratch.path("report.json");
    let capture = Capture::start(&scratch, &config, &["--report", report_path.to_str().expect("UTF-8")]);
    failing_calls(&comm, 1500, 300, |_| ()).join().expect("the load does not panic");
    capture.wait().expect(1).says(&["can't write to ", ".partial: No space left on device", "hint: "]);
    let written = report(&scratch)["probes"][0]["written"].as_u64().expect("a number");
    for name in ["x.csv.partial", "x.jsonl.partial"] {
        let count = whole_records(&small.path(name)) as u64;
        assert!(count >= written, "{name}: {written} are written, and {count} are there");
    }
}

#[test]
fn too_few_file_descriptors_are_an_error_that_names_the_limit() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (config, _) = config(json!({"out": {"type": "jsonl", "path": scratch.path("out.jsonl")}}));
    let config = scratch.write("config.yaml", config.to_string());
    let with = |limits: &str| {
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("{limits}; exec \"$@\""), "bash", BINARY])
            .arg(&config)
            .args(["--duration", "1ms"]);
        run(&mut command)
    };
    for limit in (4..40).step_by(3) {
        let ended = with(&format!("ulimit -n {limit}"));
        if ended.code == Some(0) {
            assert!(limit > 20, "{limit} are enough?");
            continue;
        }
        let ended = ended.expect(1).says(&["hint: ", "ulimit -n"]);
        assert!(ended.stderr.contains("limit of open files") || ended.stderr.contains("Too many open files"));
    }
    // A soft limit is raised
    with("ulimit -Sn 10").expect(0);
}

/// strace(1) makes a system call fail in the runner, from the given one on in each of its threads.
struct Injected {
    call: &'static str,
    error: &'static str,
    from: u32,
}

impl Injected {
    /// The runner under strace, or `None` if there is none here.
    fn runner(&self, config: &Path, report: &Path) -> Option<Command> {
        let Injected { call, error, from } = self;
        let mut command = Command::new("strace");
        if command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: there is no strace here");
            return None;
        }
        let mut command = Command::new("strace");
        // Detached, so that the child is the runner itself
        command.args(["--daemonize", "--follow-forks", "--output=/dev/null", &format!("--trace={call}")]);
        command.arg(format!("--inject={call}:error={error}:when={from}+"));
        command.arg(BINARY).arg(config).arg("--report").arg(report);
        Some(command)
    }
}

/// The errors that a network's or a failing disk's files come with, at each call that can have them.
#[test]
fn errors_of_disks_are_reported_by_the_name_of_the_file() {
    if !root() {
        return;
    }
    for (call, error, from, words, whole) in [
        ("write", "EIO", 4, "Input/output error", false),
        ("write", "EDQUOT", 4, "Disk quota exceeded", false),
        ("write", "ESTALE", 4, "Stale file handle", false),
        ("fsync", "EIO", 1, "can't be finished: Input/output error", false),
        ("fsync", "EDQUOT", 1, "can't be finished: Disk quota exceeded", false),
        ("fsync", "ENOSPC", 1, "can't be finished: No space left on device", false),
        ("renameat", "EROFS", 1, "can't be finished: Read-only file system", false),
        ("renameat", "ESTALE", 1, "can't be finished: Stale file handle", false),
        // The second is of the directory: the file is complete, and has its name
        ("fsync", "EIO", 2, "can't be finished: Input/output error", true),
    ] {
        let scratch = Scratch::new();
        let (config, comm) = config(json!({"out": {"type": "jsonl", "path": scratch.path("x.jsonl")}}));
        let config = scratch.write("config.yaml", config.to_string());
        let Some(command) = (Injected { call, error, from }).runner(&config, &scratch.path("report.json")) else {
            return;
        };
        let capture = Capture::start_command(command);
        calls(&comm, 600);
        let ended = if call == "write" { capture.wait() } else { capture.stop() };
        let context = format!("{call} {error}: {}", ended.stderr);
        assert_eq!(ended.code, Some(1), "{context}");
        if call != "write" {
            // Messages are written as well
            assert!(ended.stderr.contains(words) && ended.stderr.contains("x.jsonl"), "{context}");
        }
        let name = if whole { "x.jsonl" } else { "x.jsonl.partial" };
        let left = names(&scratch.path(""));
        assert!(left.contains(&name.to_owned()), "{left:?} {context}");
        let count = whole_records(&scratch.path(name));
        assert!(count <= 600 && (call == "write" || count == 600), "{count} records: {context}");
        assert!(!left.contains(&"report.json.partial".to_owned()), "{left:?} {context}");
    }
}

/// A disk that refuses at the start: nothing is attached, and nothing is left.
#[test]
fn a_directory_that_takes_no_file_is_found_at_the_start() {
    if !root() {
        return;
    }
    for (call, error) in [("renameat2", "EIO"), ("flock", "EIO"), ("fchmod", "EROFS"), ("fstatfs", "EIO")] {
        let scratch = Scratch::new();
        let (config, _) = config(json!({"out": {"type": "jsonl", "path": scratch.path("x.jsonl")}}));
        let config = scratch.write("config.yaml", config.to_string());
        let Some(mut command) = (Injected { call, error, from: 1 }).runner(&config, &scratch.path("report.json"))
        else {
            return;
        };
        let ended = run(command.args(["--duration", "1ms"]));
        assert!(ended.code == Some(1) && ended.stderr.contains("ebpf-run: error: "), "{call}: {}", ended.stderr);
        assert!(!ended.stderr.contains("attached") && !ended.stderr.contains("panicked"), "{call}: {}", ended.stderr);
        assert_eq!(names(&scratch.path("")), ["config.yaml"], "{call}");
    }
}

/// File systems that have no locks, or can't rename without replacing.
#[test]
fn simple_file_systems_are_good_enough() {
    if !root() {
        return;
    }
    for (call, error) in [("flock", "ENOLCK"), ("renameat2", "EINVAL"), ("renameat2,linkat", "ENOSYS")] {
        let scratch = Scratch::new();
        let rotated = json!({"type": "jsonl", "path": scratch.path("y.jsonl"), "rotate": {"size": "1MiB"}});
        let (config, comm) =
            config(json!({"out": {"type": "jsonl", "path": scratch.path("x.jsonl")}, "more": rotated}));
        let config = scratch.write("config.yaml", config.to_string());
        let Some(command) = (Injected { call, error, from: 1 }).runner(&config, &scratch.path("report.json")) else {
            return;
        };
        let capture = Capture::start_command(command);
        calls(&comm, 20);
        capture.stop().expect(0);
        assert_eq!(names(&scratch.path("")), ["config.yaml", "report.json", "x.jsonl", "y.0001.jsonl"], "{call}");
        assert_eq!(whole_records(&scratch.path("x.jsonl")), 20);
    }
}
