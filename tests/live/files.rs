//! Files: whole or marked, rotated, kept, compressed, and never where others could lead them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value as Json, json};

use crate::capture::{Capture, records, report, summary};
use crate::common::{BINARY, Ended, Scratch, run};
use crate::load::{SmallFolder, failing_calls, pipe, unique_name};
use crate::root;

/// A config that writes to `sink` what the returned command calls.
fn to(sink: Json) -> (Json, String) {
    let comm = unique_name();
    let config = json!({
        "version": 1,
        "name": "calls",
        "max_loss": "100%", // on kernels from 7.0 on, what others make the kernel leave out
        "probes": [{"program": "execsnoop", "filters": {"comm": comm}}],
        "sinks": {"file": sink},
    });
    (config, comm)
}

fn calls(comm: &str, count: usize) {
    failing_calls(comm, count, 100, |_| ()).join().expect("the load does not panic");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    entries.map(|name| name.into_string().expect("UTF-8")).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Runs it for a moment, without a load.
fn moment(scratch: &Scratch, config: &Json) -> Ended {
    let config = scratch.write("config.yaml", config.to_string());
    run(Command::new(BINARY).arg(config).args(["--duration", "200ms"]))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Until `path` has `count` lines.
fn wait_for_lines(path: &Path, count: usize) {
    let until = Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(path).unwrap_or_default().lines().count() < count {
        assert!(Instant::now() < until, "{} does not fill", path.display());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_old_file_is_there_until_the_new_one_is_whole() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    let path = out.write("out.jsonl", "old\n");
    let (config, comm) = to(json!({"type": "jsonl", "path": path}));
    let capture = Capture::start(&scratch, &config, &[]);
    calls(&comm, 5);
    wait_for_lines(&out.path("out.jsonl.partial"), 5);
    assert_eq!(
        (text(&path).as_str(), names(&out.path(""))),
        ("old\n", vec!["out.jsonl".into(), "out.jsonl.partial".into()])
    );
    capture.stop().expect(0);
    assert_eq!((records(&text(&path)).len(), names(&out.path(""))), (5, vec!["out.jsonl".to_owned()]));
}

/// `kill -9`: what is left says that it is not whole, each of its whole lines is valid, and the next run tells of it once and
/// keeps it.
#[test]
fn a_killed_run_leaves_a_file_that_is_known_as_such() {
    if !root() {
        return;
    }
    for (kind, name) in [("jsonl", "out"), ("csv", "out-{{ start | date('%Y%m%dT%H%M%S') }}.csv")] {
        let (scratch, out) = (Scratch::new(), Scratch::new());
        let (config, comm) = to(json!({"type": kind, "path": out.path(name)}));
        let capture = Capture::start(&scratch, &config, &[]);
        calls(&comm, 50);
        let partial = out.path(&names(&out.path(""))[0]);
        wait_for_lines(&partial, 50);
        capture.signal(Signal::KILL);
        assert_eq!(capture.wait().code, None);
        assert_eq!(names(&out.path("")).len(), 1);
        assert!(partial.to_str().is_some_and(|path| path.ends_with(".partial")), "{}", partial.display());
        let left = text(&partial);
        match kind {
            "csv" => assert!(csv::Reader::from_reader(left.as_bytes()).records().all(|row| row.is_ok())),
            _ => assert_eq!(records(&left).len(), 50),
        }
        thread::sleep(Duration::from_millis(1100)); // another second in its name
        moment(&scratch, &config).expect(0).says(&["warning: ", "was left by a run that was killed or failed"]);
        let now = names(&out.path(""));
        assert_eq!(now.len(), 2, "{now:?}");
        let aside = now.iter().find(|name| name.contains(".partial-")).expect("it is set aside");
        assert_eq!(text(&out.path(aside)), left, "and as it was");
        assert!(!moment(&scratch, &config).expect(0).stderr.contains("warning"), "that is told once");
    }
}

#[test]
fn two_runs_do_not_write_to_one_file() {
    if !root() {
        return;
    }
    let (scratches, out) = ([Scratch::new(), Scratch::new()], Scratch::new());
    let (config, comm) = to(json!({"type": "jsonl", "path": out.path("out")}));
    let first = Capture::start(&scratches[0], &config, &[]);
    moment(&scratches[1], &config).expect(1).says(&["another run is writing to ", "hint: "]);
    calls(&comm, 3);
    assert_eq!(summary(&first.stop().expect(0), "execsnoop"), [3, 3, 0]);
    assert_eq!(records(&text(&out.path("out"))).len(), 3);
}

#[test]
fn a_window_has_as_many_files_as_their_size_asks_for() {
    if !root() {
        return;
    }
    for kind in ["jsonl", "csv"] {
        let (scratch, out) = (Scratch::new(), Scratch::new());
        let path = out.path("{{ name }}.out");
        let (config, comm) = to(json!({"type": kind, "path": path, "rotate": {"size": "4KiB"}}));
        let report_path = scratch.path("report.json");
        let capture = Capture::start(&scratch, &config, &["--report", report_path.to_str().expect("UTF-8")]);
        for _ in 0..6 {
            calls(&comm, 50); // about 300 bytes each
            thread::sleep(Duration::from_millis(250)); // a table is measured when it is flushed
        }
        let ended = capture.stop().expect(0);
        assert_eq!(summary(&ended, "execsnoop"), [300, 300, 0]);
        let files = names(&out.path(""));
        assert!(files.len() > 4, "{files:?}");
        assert!(files.iter().enumerate().all(|(i, name)| *name == format!("calls.{:04}.out", i + 1)), "{files:?}");
        let mut times = Vec::new();
        for name in &files {
            let text = text(&out.path(name));
            assert!(text.ends_with('\n') && (kind == "csv" || text.len() < (4 << 10) + 1024), "{} bytes", text.len());
            let column = |row: csv::StringRecord| row[1].parse::<u64>().expect("ts");
            match kind {
                "csv" => times
                    .extend(csv::Reader::from_reader(text.as_bytes()).records().map(|row| column(row.expect("a row")))),
                _ => times.extend(records(&text).iter().map(|record| record["ts"].as_u64().expect("ts"))),
            }
        }
        assert_eq!(times.len(), 300, "each record is in one file");
        assert!(times.is_sorted(), "and they follow each other");
        let report = report(&scratch);
        let told = report["files"].as_array().expect("a list");
        assert_eq!(told.len(), files.len());
        for (file, name) in told.iter().zip(&files) {
            assert_eq!(file["path"], out.path(name).to_str().expect("UTF-8"));
            let size = fs::metadata(out.path(name)).expect("there").len();
            assert_eq!((file["bytes"].as_u64(), &file["complete"]), (Some(size), &json!(true)));
        }
    }
}

#[test]
fn a_file_is_ended_when_it_is_old_and_none_is_begun_in_vain() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    let (config, comm) = to(json!({"type": "jsonl", "path": out.path("x.jsonl"), "rotate": {"every": "1s"}}));
    let capture = Capture::start(&scratch, &config, &[]);
    for pause in [1200, 2500, 1200] {
        calls(&comm, 2);
        thread::sleep(Duration::from_millis(pause));
    }
    capture.stop().expect(0);
    let files = names(&out.path(""));
    let counts: Vec<usize> = files.iter().map(|name| records(&text(&out.path(name))).len()).collect();
    assert_eq!((files.len(), counts.iter().sum::<usize>()), (3, 6), "{files:?} {counts:?}");
    assert!(counts.iter().all(|count| *count > 0));
}

#[test]
fn files_are_compressed_when_they_are_whole() {
    if !root() {
        return;
    }
    for (how, ending) in [("zstd", ".zst"), ("gzip", ".gz")] {
        let (scratch, out) = (Scratch::new(), Scratch::new());
        let sink =
            json!({"type": "jsonl", "path": out.path("x.jsonl"), "compress": how, "mode": "0600", "group": "daemon"});
        let (config, comm) = to(sink);
        let capture = Capture::start(&scratch, &config, &[]);
        calls(&comm, 200);
        let ended = capture.stop().expect(0);
        assert_eq!(summary(&ended, "execsnoop"), [200, 200, 0]);
        assert_eq!(names(&out.path("")), [format!("x.jsonl{ending}")]);
        let path = out.path(&format!("x.jsonl{ending}"));
        let file = fs::File::open(&path).expect("there");
        let mut text = String::new();
        match how {
            "zstd" => zstd::Decoder::new(file).expect("zstd").read_to_string(&mut text),
            _ => flate2::read::GzDecoder::new(file).read_to_string(&mut text),
        }
        .expect("it can be read back");
        assert_eq!(records(&text).len(), 200);
        let meta = fs::metadata(&path).expect("there");
        assert_eq!(meta.mode() & 0o777, 0o600);
        assert_ne!(meta.gid(), 0, "it belongs to the group");
        assert!(meta.len() * 3 < text.len() as u64, "{} of {}", meta.len(), text.len());
    }
}

/// One sink, two programs: a table each, with columns, parts and old files of its own.
#[test]
fn a_path_with_the_probe_in_it_is_a_file_for_each() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("{{ probe }}-{{ start | date('%s') }}.csv");
    let (mut config, comm) = to(json!({"type": "csv", "path": path, "compress": "gzip", "keep": {"files": 1}}));
    config["probes"] = json!([
        {"program": "execsnoop", "name": "calls", "filters": {"comm": comm}},
        {"program": "exitsnoop", "name": "ends", "filters": {"comm": comm}},
    ]);
    // One that stays though there is a newer one, for it is another probe's; one that goes
    scratch.write("calls-1700000000.csv.gz", "");
    scratch.write("other-1700000000.csv.gz", "");
    let report_path = scratch.path("report.json");
    let capture = Capture::start(&scratch, &config, &["--report", report_path.to_str().expect("UTF-8")]);
    calls(&comm, 3);
    let ended = capture.stop().expect(0);
    assert_eq!(summary(&ended, "calls")[..2], [3, 3]);
    let report = report(&scratch);
    let [one, other] = report["files"].as_array().expect("a list").as_slice() else { panic!("two files: {report}") };
    for (file, probe, column) in [(one, "calls", "argv"), (other, "ends", "exit_code")] {
        assert_eq!((&file["sink"], &file["complete"]), (&json!("file"), &json!(true)));
        let path = Path::new(file["path"].as_str().expect("text"));
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        assert!(name.starts_with(&format!("{probe}-")) && name.ends_with(".csv.gz"), "{name}");
        let table = run(Command::new("gzip").args(["--decompress", "--stdout"]).arg(path)).expect(0).stdout;
        let header = table.lines().next().expect("a header");
        assert!(header.split(',').any(|name| name == column), "{header}");
        assert!(table.lines().skip(1).all(|row| row.split(',').nth(2) == Some(probe)), "{table}");
    }
    let left: Vec<String> = names(&scratch.path("")).into_iter().filter(|name| name.ends_with(".gz")).collect();
    assert!(left.len() == 3 && left.contains(&"other-1700000000.csv.gz".to_owned()), "{left:?}");
}

#[test]
fn old_files_go_and_strangers_stay() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    let path = out.path("{{ name }}-{{ start | date('%Y%m%dT%H%M%S') }}.jsonl");
    let (config, _) = to(json!({"type": "jsonl", "path": path, "keep": {"files": 2}}));
    let old = [
        "calls-20200101T000000.jsonl",
        "calls-20200102T000000.jsonl.zst",
        "calls-20200103T000000.jsonl.partial-20200103T000000Z",
    ];
    let strangers = ["calls-today.jsonl", "other-20200101T000000.jsonl", "calls-20200101T000000.jsonl.bak"];
    for (age, name) in old.iter().chain(&strangers).enumerate() {
        let path = out.write(name, "x\n");
        let then = std::time::SystemTime::now() - Duration::from_secs(86_400 * (10 - age as u64));
        fs::File::options().write(true).open(path).and_then(|file| file.set_modified(then)).expect("its time is set");
    }
    moment(&scratch, &config).expect(0);
    let left = names(&out.path(""));
    assert!(strangers.iter().all(|name| left.contains(&(*name).to_owned())), "{left:?}");
    assert_eq!(left.len(), strangers.len() + 2, "{left:?}");
    assert!(left.contains(&old[2].to_owned()), "the newest of the old ones: {left:?}");
}

#[test]
fn a_window_ends_before_the_disk_is_full() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let small = SmallFolder::mount(&scratch, "2m");
    let (mut config, comm) = to(json!({"type": "jsonl", "path": small.path("x.jsonl"), "min_free": "1MiB"}));
    let report_path = scratch.path("report.json");
    let capture = Capture::start(&scratch, &config, &["--report", report_path.to_str().expect("UTF-8")]);
    let load = failing_calls(&comm, 4000, 2000, |i| {
        if i.is_multiple_of(50) {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let ended = capture.wait().expect(0).says(&["warning: ", "finished after", "free disk space fell below min_free"]);
    load.join().expect("the load does not panic");
    assert!(!ended.stderr.contains("do not reconcile"), "{}", ended.stderr);
    let report = report(&scratch);
    assert_eq!((&report["window"]["ended_by"], &report["files"][0]["complete"]), (&json!("min_free"), &json!(true)));
    let [received, written, lost] = summary(&ended, "execsnoop");
    assert_eq!((records(&text(&small.path("x.jsonl"))).len() as u64, received, lost), (written, written, 0));
    // There is less than that now: the next window does not even begin
    config["window"] = json!({"duration": "1s"});
    moment(&scratch, &config).expect(1).says(&["less than `min_free` (1MiB)", "hint: "]);
    assert!(records(&text(&small.path("x.jsonl"))).len() as u64 == written, "the last one is as it was");
}

/// What a file could not take the place of is found before the window, not at its end.
#[test]
fn a_folder_with_the_name_of_a_file_is_found_at_the_start() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    fs::create_dir(out.path("x.0001.jsonl")).expect("a folder");
    fs::create_dir(out.path("y.jsonl.gz")).expect("a folder");
    let rotated = to(json!({"type": "jsonl", "path": out.path("x.jsonl"), "rotate": {"size": "1MiB"}})).0;
    let compressed = to(json!({"type": "jsonl", "path": out.path("y.jsonl"), "compress": "gzip"})).0;
    for (config, name) in [(rotated, "x.0001.jsonl"), (compressed, "y.jsonl.gz")] {
        let ended = moment(&scratch, &config).expect(1).says(&["it is a directory", name]);
        assert!(!ended.stderr.contains("attached"), "{}", ended.stderr);
    }
    assert_eq!(names(&out.path("")), ["x.0001.jsonl", "y.jsonl.gz"]);
}

/// Old files fill the disk, and `keep` says that they may go: they do before there is no room for a new one.
#[test]
fn what_is_not_to_stay_makes_room_first() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let small = SmallFolder::mount(&scratch, "2m");
    let old = small.path("io-20250101T000000Z.jsonl");
    fs::write(&old, vec![b'x'; 1_500_000]).expect("there is room");
    run(Command::new("touch").args(["-d", "2025-01-01"]).arg(&old)).expect(0);
    fs::write(small.path("io-20250102T000000Z.jsonl"), "").expect("there is room");
    let path = small.path("io-{{ start | date('%Y%m%dT%H%M%SZ') }}.jsonl");
    let (config, _) = to(json!({"type": "jsonl", "path": path, "keep": {"age": "1d"}, "min_free": "1MiB"}));
    moment(&scratch, &config).expect(0);
    assert!(!old.exists());
}

/// Files that come faster than they can be compressed do not pile up, each of them open.
#[test]
fn files_that_wait_to_be_finished_are_not_without_number() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    let rotate = json!({"size": "4KiB"});
    let (config, comm) =
        to(json!({"type": "jsonl", "path": out.path("x.jsonl"), "rotate": rotate, "compress": "zstd"}));
    let capture = Capture::start(&scratch, &config, &[]);
    let pid = rustix::process::Pid::from_raw(capture.pid() as i32);
    let limit = rustix::process::Rlimit { current: Some(200), maximum: Some(200) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).expect("root may");
    failing_calls(&comm, 6000, 1000, |_| ()).join().expect("the load does not panic");
    let ended = capture.stop();
    assert!(matches!(ended.code, Some(0 | 3)), "{}", ended.stderr);
    let parts = names(&out.path("")).len();
    assert!(parts > 200, "there were many, not {parts}:\n{}", ended.stderr);
}

#[test]
fn files_belong_to_whom_the_config_says() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    let sink = json!({"type": "csv", "path": out.path("x"), "mode": "0604", "owner": "daemon", "group": "12345"});
    let (mut config, _) = to(sink);
    moment(&scratch, &config).expect(0);
    let meta = fs::metadata(out.path("x")).expect("there");
    assert!(meta.uid() != 0 && meta.gid() == 12345, "{} {}", meta.uid(), meta.gid());
    assert_eq!(meta.permissions().mode() & 0o7777, 0o604);
    config["sinks"]["file"]["owner"] = json!("no-such-user");
    moment(&scratch, &config).expect(1).says(&["sink `file`: there is no user `no-such-user`", "hint: "]);
}

#[test]
fn nothing_is_written_through_what_others_can_change() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    fs::create_dir(out.path("open")).expect("a folder");
    out.set_mode("open", 0o777);
    fs::create_dir(out.path("open/own")).expect("a folder");
    let at = |path: &str, allowed: bool| {
        to(json!({"type": "jsonl", "path": out.path(path), "allow_unsafe_path": allowed})).0
    };
    let named = format!("every user can write to the directory {}", out.path("open").display());
    moment(&scratch, &at("open/own/x", false)).expect(1).says(&["sink `file`", &named, "hint: ", "allow_unsafe_path"]);
    moment(&scratch, &at("open/own/x", true)).expect(0);
    assert!(out.path("open/own/x").exists());
    // A link in the way: of root, and of somebody else
    fs::create_dir(out.path("real")).expect("a folder");
    symlink("real", out.path("link")).expect("a link");
    moment(&scratch, &at("link/x", false)).expect(0);
    assert!(out.path("real/x").exists());
    std::os::unix::fs::lchown(out.path("link"), Some(12345), None).expect("root may");
    moment(&scratch, &at("link/y", false)).expect(1).says(&["is a symbolic link of user 12345"]);
    assert!(!out.path("real/y").exists());
    // A folder of somebody else, where everybody can make one
    fs::create_dir(out.path("sticky")).expect("a folder");
    out.set_mode("sticky", 0o1777);
    fs::create_dir(out.path("sticky/theirs")).expect("a folder");
    chown(out.path("sticky/theirs"), Some(12345), None).expect("root may");
    moment(&scratch, &at("sticky/theirs/x", false)).expect(1).says(&["belongs to user 12345"]);
    moment(&scratch, &at("sticky/x", false)).expect(0);
}

/// The report replaces a file and nothing else, and that is known before anything is loaded.
#[test]
fn a_report_takes_no_other_place_than_a_files() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    let (config, _) = to(json!({"type": "jsonl", "path": out.path("capture")}));
    fs::write(out.path("capture"), "old").expect("a file");
    fs::create_dir(out.path("folder")).expect("a folder");
    symlink("capture", out.path("link")).expect("a link");
    let mut node = Command::new("mknod");
    run(node.arg(out.path("device")).args(["c", "1", "3"])).expect(0);
    let config = scratch.write("config.yaml", config.to_string());
    let kind = |name: &str| fs::symlink_metadata(out.path(name)).expect("it is there").file_type();
    for (name, words) in [
        ("folder", "it is a directory"),
        ("link", "it is a symbolic link"),
        ("device", "it is a device"),
        ("capture", "sink `file` and the report are the same file"),
    ] {
        let before = kind(name);
        let mut command = Command::new(BINARY);
        let ended = run(command.arg(&config).args(["--duration", "1ms", "--report"]).arg(out.path(name))).expect(1);
        let ended = ended.says(&[words, "hint: "]);
        assert!(!ended.stderr.contains("attached"), "{}", ended.stderr);
        assert_eq!(kind(name), before, "{name}");
    }
    assert_eq!(text(&out.path("capture")), "old");
    assert_eq!(names(&out.path("")), ["capture", "device", "folder", "link"]);
}

/// In a folder where everybody can make files, somebody has made a pipe, and waits.
#[test]
fn a_pipe_of_somebody_else_gets_nothing() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    out.set_mode("", 0o1777);
    run(Command::new("mkfifo").arg(out.path("pipe"))).expect(0);
    chown(out.path("pipe"), Some(12345), None).expect("root may");
    // Open for reading and writing, so that nobody waits for the other end
    let _reader = fs::OpenOptions::new().read(true).write(true).open(out.path("pipe")).expect("it opens");
    let at = |allowed: bool| to(json!({"type": "jsonl", "path": out.path("pipe"), "allow_unsafe_path": allowed})).0;
    moment(&scratch, &at(false)).expect(1).says(&["it is a pipe of user 12345", "hint: ", "allow_unsafe_path"]);
    moment(&scratch, &at(true)).expect(0);
}

/// Pipes and devices have no other name to be whole under.
#[test]
fn pipes_and_standard_output_go_on_as_before() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (config, comm) = to(json!({"type": "jsonl", "path": "/dev/stdout"}));
    let capture = Capture::start(&scratch, &config, &[]);
    calls(&comm, 4);
    assert_eq!(records(&capture.stop().expect(0).stdout).len(), 4);
    let path = scratch.path("pipe");
    let (config, comm) = to(json!({"type": "csv", "path": path, "columns": ["comm"]}));
    let (mut reader, capture) = pipe(&path, || Capture::start(&scratch, &config, &[]));
    calls(&comm, 4);
    capture.stop().expect(0);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("it can be read");
    assert_eq!(text, format!("comm\n{}", format!("{comm}\n").repeat(4)));
    assert!(!scratch.path("pipe.partial").exists());
}
