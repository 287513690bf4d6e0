//! Sinks: the same capture in three shapes at once, and the care that is taken of files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, summary};
use crate::common::{BINARY, Scratch, run};
use crate::load::{SmallFolder, copy_as, copy_of, failing_calls, unique_name};
use crate::root;

/// For what should not even start: it must not go on for ever if it does.
const MOMENT: [&str; 2] = ["--duration", "1s"];

/// A cell of a table as the value of a field in JSON: what a spreadsheet would run has an apostrophe in front.
fn plain(cell: &str) -> &str {
    cell.strip_prefix('\'').unwrap_or(cell)
}

/// The rows of a table by their columns.
fn rows(csv: &str) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_reader(csv.as_bytes()).deserialize().map(|row| row.expect("it is CSV")).collect()
}

#[test]
fn three_shapes_of_a_capture_agree_record_by_record() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let formula = format!("={}", unique_name());
    let program = copy_as(&scratch, "true", &formula);
    let (shell, caller) = copy_of(&scratch, "sh");
    let config = json!({
        "version": 1,
        "name": "io, twice",
        "labels": {"team": "storage"},
        "probes": [
            {"program": "execsnoop", "name": "works", "filters": {"comm": formula}, "sinks": ["screen", "table"]},
            {"program": "execsnoop", "name": "fails", "filters": {"comm": caller, "failed": true}, "sinks": ["screen", "lines"]},
            {"program": "execsnoop", "name": "every", "filters": {"comm": [formula, caller]}, "sinks": ["table", "lines"]},
        ],
        "sinks": {
            "screen": {
                "type": "stdout",
                "header": "{{ name }} of {{ labels.team }}",
                "template": "{{ probe }}\t{{ ts }}\t{{ time }}\t{{ pid }}\t{{ comm }}\t{{ ret }}\t{{ argv }}",
            },
            "table": {"type": "csv", "path": scratch.path("{{ labels.team }}.csv")},
            "lines": {"type": "jsonl", "path": scratch.path("lines")},
        },
    });
    let capture = Capture::start(&scratch, &config, &[]);
    for i in 0..20 {
        run(Command::new(&program).args([&i.to_string(), "a b", "c,\"d\"\ne"])).expect(0);
        run(Command::new(&shell).args(["-c", "exec /no/such/program \"$@\"", "sh", &i.to_string(), "f\tg"]))
            .expect(127);
    }
    let ended = capture.stop().expect(0);
    assert_eq!(summary(&ended, "works"), [20, 20, 0]);
    // The shell itself was started with its own name, so `every` has it too
    assert_eq!(summary(&ended, "fails"), [20, 20, 0]);
    assert_eq!(summary(&ended, "every"), [60, 60, 0]);

    let table = rows(&fs::read_to_string(scratch.path("storage.csv")).expect("the table is there"));
    let lines = records(&fs::read_to_string(scratch.path("lines")).expect("the lines are there"));
    assert_eq!((table.len(), lines.len()), (80, 80));
    let columns: Vec<String> =
        ["time", "ts", "probe", "pid", "ppid", "uid", "comm", "filename", "file", "argv", "ret", "process_comm"]
            .map(String::from)
            .into();
    let header = fs::read_to_string(scratch.path("storage.csv")).expect("the table is there");
    assert_eq!(header.lines().next(), Some(columns.join(",").as_str()));

    // `every` is in both files: each cell but the list's must be the member's value
    let cells: Vec<_> = table.iter().filter(|row| row["probe"] == "every").collect();
    for (row, line) in cells.iter().zip(of_probe(&lines, "every")) {
        for column in columns.iter().filter(|column| *column != "argv") {
            let member = line[column].as_str().map_or_else(|| line[column].to_string(), str::to_owned);
            assert_eq!(plain(&row[column]), member, "{column}");
        }
        assert_eq!(row["comm"].starts_with("'="), line["comm"] == formula.as_str(), "no spreadsheet runs it");
    }
    // The lines of text are those of `works` in the table and of `fails` in JSON
    let mut text = ended.stdout.lines();
    assert_eq!(text.next(), Some("io, twice of storage"));
    let shown: Vec<Vec<&str>> = text.map(|line| line.split('\t').collect()).collect();
    assert_eq!(shown.len(), 40);
    let of = |name: &str| shown.iter().filter(|line| line[0] == name).cloned().collect::<Vec<_>>();
    for (line, row) in of("works").iter().zip(table.iter().filter(|row| row["probe"] == "works")) {
        let expected = ["probe", "ts", "time", "pid", "comm", "ret", "argv"].map(|column| plain(&row[column]));
        assert_eq!(line, &expected);
        assert!(line[6].ends_with(r#" 'a b' $'c,"d"\ne'"#), "{line:?}");
    }
    for (line, object) in of("fails").iter().zip(of_probe(&lines, "fails")) {
        let expected = ["probe", "ts", "time", "pid", "comm", "ret"];
        let expected =
            expected.map(|field| object[field].as_str().map_or_else(|| object[field].to_string(), str::to_owned));
        assert_eq!(line[..6], expected);
        assert_eq!(object["argv"].as_array().map(Vec::len), Some(3));
    }
}

#[test]
fn files_are_for_the_group_and_hold_only_the_last_capture() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    scratch.write("old", "what the last capture left\n".repeat(1000));
    let (program, comm) = copy_of(&scratch, "true");
    let config = json!({
        "version": 1,
        "probes": [{"program": "execsnoop", "filters": {"comm": comm}}],
        "sinks": {
            "new": {"type": "jsonl", "path": scratch.path("new")},
            "old": {"type": "jsonl", "path": scratch.path("old")},
        },
    });
    let capture = Capture::start(&scratch, &config, &[]);
    run(&mut Command::new(program)).expect(0);
    assert_eq!(capture.stop().expect(0).stdout, "");
    let mode = |name: &str| fs::metadata(scratch.path(name)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode("new"), mode("old")), (0o640, 0o640), "the old file is replaced");
    let read = |name: &str| fs::read_to_string(scratch.path(name)).expect("it is there");
    assert_eq!(records(&read("new")).len(), 1);
    assert_eq!(read("old"), read("new"));
}

#[test]
fn a_start_that_fails_leaves_the_last_capture_alone() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let old = "what the last capture left\n";
    scratch.write("a", old);
    scratch.write("target", old);
    symlink(scratch.path("target"), scratch.path("link")).expect("a link");
    let start = |path: &str| {
        let config = json!({
            "version": 1,
            "probes": [{"program": "execsnoop", "filters": {"comm": unique_name()}}],
            "sinks": {
                "a": {"type": "jsonl", "path": scratch.path("a")},
                "b": {"type": "csv", "path": scratch.path(path)},
            },
        });
        let config = scratch.write("config.yaml", config.to_string());
        let ended = run(Command::new(BINARY).arg(config).args(MOMENT)).expect(1).says(&["sink `b`"]);
        ended.says(&[scratch.path(path).to_str().expect("UTF-8")])
    };
    start("link").says(&["symbolic link"]);
    start("no/folder").says(&["there is no directory", "hint: create"]);
    std::fs::create_dir(scratch.path("folder")).expect("a folder");
    start("folder").says(&["directory"]);
    // When it is the kernel that refuses, the files are open already
    let config = json!({
        "version": 1,
        "probes": [{"program": "biosnoop", "filters": {"comm": unique_name()}, "maps": {"inflight": u32::MAX}}],
        "sinks": {"a": {"type": "jsonl", "path": scratch.path("a")}},
    });
    let config = scratch.write("config.yaml", config.to_string());
    let ended = run(Command::new(BINARY).arg(config).args(MOMENT)).says(&["ebpf-run: error: ", "`biosnoop`"]);
    assert!(ended.code.is_some_and(|code| code != 0) && !ended.stderr.contains("attached"), "{}", ended.stderr);
    for name in ["a", "target"] {
        assert_eq!(fs::read_to_string(scratch.path(name)).expect("it is there"), old);
    }
}

#[test]
fn a_full_disk_ends_the_run_with_whole_lines() {
    if !root() {
        return;
    }
    for kind in ["jsonl", "csv"] {
        let scratch = Scratch::new();
        let small = SmallFolder::mount(&scratch, "64k");
        let (comm, path) = (unique_name(), small.path("out"));
        let config = json!({
            "version": 1,
            "probes": [{"program": "execsnoop", "filters": {"comm": comm}}],
            "sinks": {"disk": {"type": kind, "path": path}},
        });
        let capture = Capture::start(&scratch, &config, &[]);
        failing_calls(&comm, 2000, 200, |_| ()).join().expect("the load does not panic");
        let ended = capture.wait().expect(1).says(&["sink `disk` can't write to ", "No space left", "hint: "]);
        let ended = ended.says(&[path.to_str().expect("UTF-8"), "finished after", "a sink failed"]);
        let [received, written, _] = summary(&ended, "execsnoop");
        assert!(written < received && received <= 2000, "{}", ended.stderr);
        assert!(!path.exists(), "it is not whole");
        let ended = ended.says(&["out.partial is incomplete"]);
        let text = fs::read_to_string(small.path("out.partial")).expect("what was written is there");
        let whole = &text[..=text.rfind('\n').expect("a line")];
        let lines = if kind == "csv" { rows(whole).len() } else { records(whole).len() };
        assert!(lines as u64 >= written && lines > 0, "{lines} lines, and {written} are said to be written");
        assert!(!ended.stderr.contains("do not reconcile"), "{}", ended.stderr);
    }
}

#[test]
fn a_device_that_takes_nothing_fails_at_once() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let config = json!({
        "version": 1,
        "probes": [{"program": "execsnoop", "filters": {"comm": unique_name()}}],
        "sinks": {"disk": {"type": "csv", "path": "/dev/full"}},
    });
    // There is no event, and still its header can't be written
    Capture::start(&scratch, &config, &[]).wait().expect(1).says(&["/dev/full", "No space left"]);
}

/// Records of different programs in one table: what one lacks is empty, or left out.
#[test]
fn programs_share_a_sink() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let columns = json!(["probe", "comm", "sector", {"call": "{{ comm }} {{ pid }}"}]);
    let config = json!({
        "version": 1,
        "probes": [
            {"program": "execsnoop", "filters": {"comm": comm}},
            {"program": "biosnoop", "filters": {"comm": comm}},
        ],
        "sinks": {
            "table": {"type": "csv", "columns": columns, "path": scratch.path("table")},
            "lines": {"type": "jsonl", "fields": columns},
        },
    });
    let capture = Capture::start(&scratch, &config, &[]);
    let mut child = Command::new(program).spawn().expect("it runs");
    child.wait().expect("it ends");
    let ended = capture.stop().expect(0);
    let call = format!("{comm} {}", child.id());
    let table = fs::read_to_string(scratch.path("table")).expect("the table is there");
    assert!(table.starts_with(&format!("probe,comm,sector,call\nexecsnoop,{comm},,{call}\n")), "{table}");
    let first: Json = records(&ended.stdout).swap_remove(0);
    assert_eq!(first, json!({"probe": "execsnoop", "comm": comm, "call": call}));
}
