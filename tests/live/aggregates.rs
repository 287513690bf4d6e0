//! What programs add up in maps, with programs of the tests' own: calls of lseek() whose arguments a test chooses, so that
//! every row is known to the last digit.

use std::fs::{self, File};
use std::io::{BufRead, Seek, SeekFrom, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ebpf_run::catalog::Catalog;
use ebpf_run::config::Source;
use ebpf_run::plan::{Overrides, plan};
use ebpf_run::report::Report;
use ebpf_run::run::{Options, run as run_plan};
use serde_json::{Value as Json, json};

use crate::capture::records;
use crate::common::Scratch;
use crate::load::wait_until;
use crate::root;
use crate::words::alone;

static OBJECTS: [(&str, &[u8]); 3] = [
    ("tally", include_bytes!(concat!(env!("OUT_DIR"), "/tally.bpf.o"))),
    ("spread", include_bytes!(concat!(env!("OUT_DIR"), "/spread.bpf.o"))),
    ("callers", include_bytes!(concat!(env!("OUT_DIR"), "/callers.bpf.o"))),
];
/// Says to a process of this binary that it is to make calls, and which.
const CALLS: &str = "EBPF_RUN_TEST_CALLS";
/// Longer than any of the loads here takes.
const WINDOW: &str = "2s";

/// One step of a load: so many calls to an offset, from the start of a file or from where it is.
fn calls(count: u64, offset: u64, whence: &str) -> Json {
    json!({"count": count, "offset": offset, "whence": whence})
}

/// The same on one CPU only.
fn calls_on(cpu: u64, count: u64, offset: u64) -> Json {
    json!({"count": count, "offset": offset, "whence": "set", "cpu": cpu})
}

fn pause(ms: u64) -> Json {
    json!({"pause": ms})
}

/// Whether this process is there to make calls. They are made when it reads a line.
fn is_load() -> bool {
    let Ok(steps) = std::env::var(CALLS) else { return false };
    let steps: Vec<Json> = serde_json::from_str(&steps).expect("steps");
    let mut file = File::open("/dev/null").expect("it is there");
    std::io::stdin().lock().read_line(&mut String::new()).expect("a line");
    for step in steps {
        let number = |name: &str| step[name].as_u64();
        if let Some(ms) = number("pause") {
            thread::sleep(Duration::from_millis(ms));
        }
        if let Some(cpu) = number("cpu") {
            let mut set = rustix::thread::CpuSet::new();
            set.set(cpu as usize);
            rustix::thread::sched_setaffinity(None, &set).expect("the CPU is there");
        }
        let offset = number("offset").unwrap_or(0);
        let to = if step["whence"] == "cur" { SeekFrom::Current(offset as i64) } else { SeekFrom::Start(offset) };
        for _ in 0..number("count").unwrap_or(0) {
            file.seek(to).expect("it can be sought in");
        }
    }
    true
}

fn start_load(test: &str, steps: &[Json]) -> Child {
    let binary = std::env::current_exe().expect("there is a binary");
    let mut command = Command::new(binary);
    command.args(["--exact", &format!("live::{test}")]).env(CALLS, Json::from(steps).to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts")
}

/// What a run left behind.
struct Ran {
    report: Report,
    /// The rows as JSON Lines, by their kind if they have one.
    rows: Vec<Json>,
    /// What a person would see.
    drawn: String,
}

impl Ran {
    fn of_kind(&self, kind: &str) -> Vec<&Json> {
        self.rows.iter().filter(|row| row["row"] == kind).collect()
    }

    /// Some fields of each row.
    fn fields(&self, names: &[&str]) -> Vec<Vec<u64>> {
        let field = |row: &Json, name: &str| row[name].as_u64().unwrap_or_else(|| panic!("{name} in {row}"));
        self.rows.iter().map(|row| names.iter().map(|name| field(row, name)).collect()).collect()
    }
}

/// Runs `probe` while a process of the test's own takes `steps`.
fn observed(test: &str, probe: Json, steps: &[Json]) -> Ran {
    let scratch = Scratch::new();
    let mut load = start_load(test, steps);
    let mut probe = probe;
    probe["filters"] = json!({"pid": load.id()});
    let path = |name: &str| scratch.path(name);
    let config = json!({"version": 1, "window": {"duration": WINDOW}, "max_loss": "100%", "probes": [probe], "sinks": {
        "rows": {"type": "jsonl", "path": path("rows")},
        "table": {"type": "csv", "path": path("table")},
        "screen": {"type": "stdout", "path": path("screen")},
    }});
    let source = Source::parse("x.yaml".into(), "x".into(), config.to_string()).expect("it is a config");
    let plan = plan(&source, &Catalog::from_objects(OBJECTS), &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
    let run = thread::spawn(move || run_plan(&plan, &Options { quiet: true }));
    // The header of a table is written once everything is attached
    let until = Instant::now() + Duration::from_secs(20);
    while fs::metadata(path("table.partial")).map_or(0, |file| file.len()) == 0 {
        assert!(Instant::now() < until && !run.is_finished(), "it never starts");
        thread::sleep(Duration::from_millis(2));
    }
    load.stdin.take().expect("it is piped").write_all(b"go\n").expect("it waits for this");
    assert!(load.wait().expect("it ends").success());
    let report = run.join().expect("it does not panic").unwrap_or_else(|error| panic!("{error}"));
    let read = |name: &str| fs::read_to_string(path(name)).expect("it is there");
    let rows = records(&read("rows"));
    assert_eq!(read("table").lines().count(), rows.len() + 1, "the table has the same rows");
    assert!(report.accounts[0].reconciles(), "{report}");
    Ran { report, rows, drawn: read("screen") }
}

#[test]
fn counters_of_a_hash_are_exact_and_the_largest_come_first() {
    const TEST: &str = "aggregates::counters_of_a_hash_are_exact_and_the_largest_come_first";
    if is_load() || !root() || !alone(TEST) {
        return;
    }
    let steps = [calls(300, 7, "set"), calls(5, 1 << 40, "set"), calls(1000, 64, "set"), calls(1, 9, "set")];
    let ran = observed(TEST, json!({"program": "tally"}), &steps);
    let expected = [[64, 1000, 64_000], [7, 300, 2100], [1 << 40, 5, 5 << 40], [9, 1, 9]].map(Vec::from);
    assert_eq!(ran.fields(&["offset", "calls", "total_bytes"]), expected);
    assert_eq!((ran.report.accounts[0].kernel.seen, ran.report.accounts[0].counted), (1306, Some(1306)));
    let lines: Vec<Vec<&str>> = ran.drawn.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][1..], ["tally"]);
    assert_eq!(lines[1..3], [vec!["OFFSET", "CALLS", "TOTAL"], vec!["64", "1000", "62.5KiB"]]);
    let top = observed(TEST, json!({"program": "tally", "top": 2}), &steps);
    assert_eq!(top.fields(&["offset"]), [[64], [7]].map(Vec::from));
    let by_bytes = observed(TEST, json!({"program": "tally", "sort": "total_bytes"}), &steps);
    assert_eq!(by_bytes.fields(&["offset"]), [[1 << 40], [64], [7], [9]].map(Vec::from));
}

#[test]
fn rows_of_intervals_add_up_or_tell_it_all() {
    const TEST: &str = "aggregates::rows_of_intervals_add_up_or_tell_it_all";
    if is_load() || !root() || !alone(TEST) {
        return;
    }
    let steps = [calls(300, 7, "set"), pause(500), calls(20, 7, "set"), pause(500), calls(1, 8, "set")];
    let ran = observed(TEST, json!({"program": "tally", "interval": "200ms"}), &steps);
    let rows = ran.fields(&["offset", "calls"]);
    let sum = |offset: u64| rows.iter().filter(|row| row[0] == offset).map(|row| row[1]).sum::<u64>();
    assert_eq!((sum(7), sum(8)), (320, 1), "{rows:?}");
    assert!((3..=5).contains(&rows.len()), "what has not changed makes no row: {rows:?}");
    // On the beat: readings are a multiple of the interval apart, give or take what a busy machine needs
    let times = ran.fields(&["ts"]);
    let beat = |pair: &[Vec<u64>]| (pair[1][0] - pair[0][0] + 60_000_000) % 200_000_000;
    let off: Vec<u64> = times.windows(2).map(beat).filter(|off| *off > 120_000_000).collect();
    assert!(off.len() <= 1, "off the beat: {off:?}, {times:?}");

    let ran = observed(TEST, json!({"program": "tally", "interval": "200ms", "clear": false}), &steps);
    let rows = ran.fields(&["offset", "calls"]);
    assert!(rows.len() >= 10, "every reading has all that there is: {rows:?}");
    assert_eq!(rows[rows.len() - 2..], [[7, 320], [8, 1]].map(Vec::from));
    assert!(rows.iter().filter(|row| row[0] == 7).is_sorted(), "nothing is taken away: {rows:?}");
}

#[test]
fn cpus_are_kept_apart_in_a_hash_and_in_an_array() {
    const TEST: &str = "aggregates::cpus_are_kept_apart_in_a_hash_and_in_an_array";
    if is_load() || !root() || !alone(TEST) {
        return;
    }
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return eprintln!("SKIPPED: one CPU can't be told from another");
    }
    let steps = [calls_on(0, 30, 100), calls_on(1, 70, 100), calls_on(0, 5, 100)];
    let ran = observed(TEST, json!({"program": "tally", "per_cpu": true}), &steps);
    assert_eq!(ran.fields(&["offset", "cpu", "calls"]), [[100, 1, 70], [100, 0, 35]].map(Vec::from));
    let together = observed(TEST, json!({"program": "tally"}), &steps);
    assert_eq!(together.fields(&["offset", "calls"]), [[100, 105]].map(Vec::from));
    assert!(together.rows[0].get("cpu").is_none());

    let ran = observed(TEST, json!({"program": "spread", "per_cpu": true}), &steps);
    let buckets: Vec<_> =
        ran.of_kind("bucket").iter().map(|row| [row["cpu"].as_u64(), row["count"].as_u64()]).collect();
    assert_eq!(buckets, [[Some(0), Some(35)], [Some(1), Some(70)]]);
    assert!(ran.drawn.contains("whence=set cpu=0") && ran.drawn.contains("whence=set cpu=1"), "{}", ran.drawn);
}

#[test]
fn a_histogram_of_an_array_is_exact() {
    const TEST: &str = "aggregates::a_histogram_of_an_array_is_exact";
    if is_load() || !root() || !alone(TEST) {
        return;
    }
    let steps = [
        calls(1, 0, "set"),
        calls(2, 1, "set"),
        calls(50, 1500, "set"),
        calls(46, 1600, "set"),
        calls(1, 1 << 20, "set"),
        calls(3, 4096, "cur"),
        calls(1, 1 << 60, "cur"),
    ];
    let ran = observed(TEST, json!({"program": "spread"}), &steps);
    let bucket = |row: &&Json| {
        let number = |name: &str| row[name].as_u64().expect("a number");
        (
            row["whence"].as_str().expect("a name").to_owned(),
            number("bucket_low"),
            number("bucket_high"),
            number("count"),
        )
    };
    let set = |low, high, count| ("set".to_owned(), low, high, count);
    let cur = |low, high, count| ("cur".to_owned(), low, high, count);
    assert_eq!(
        ran.of_kind("bucket").iter().map(bucket).collect::<Vec<_>>(),
        [
            set(0, 1, 3),
            set(1024, 2047, 96),
            set(1 << 20, (1 << 21) - 1, 1),
            cur(4096, 8191, 3),
            cur(1 << 47, u64::MAX, 1),
        ]
    );
    let [set, cur] = ran.of_kind("summary")[..] else { panic!("{:#?}", ran.rows) };
    assert_eq!((set["count"].as_u64(), set["sum"].as_u64()), (Some(100), Some(2 + 50 * 1500 + 46 * 1600 + (1 << 20))));
    let within = |row: &Json, name: &str, low: u64, high: u64| {
        let value = row[name].as_u64().expect("a number");
        assert!((low..=high).contains(&value), "{name} of {row}");
    };
    within(set, "p50", 1024, 2047);
    within(set, "p99", 1024, 2047);
    within(set, "max", 1 << 20, 1 << 20);
    within(cur, "max", 1 << 60, 1 << 60);
    within(cur, "p99", 1 << 47, 1 << 60);
    for words in ["whence=set", "whence=cur", "100 in all", "p99 2KiB", "max 1MiB", "128TiB or more", "|***"] {
        assert!(ran.drawn.contains(words), "`{words}` is missing in:\n{}", ran.drawn);
    }
}

#[test]
fn what_a_full_map_refuses_is_counted_and_said() {
    const TEST: &str = "aggregates::what_a_full_map_refuses_is_counted_and_said";
    if is_load() || !root() || !alone(TEST) {
        return;
    }
    let steps: Vec<Json> = (1..=64).map(|i| calls(2, i, "set")).collect();
    let ran = observed(TEST, json!({"program": "tally", "maps": {"tallies": 16}}), &steps);
    let account = &ran.report.accounts[0];
    let there: u64 = ran.fields(&["calls"]).iter().map(|row| row[0]).sum();
    assert_eq!(account.kernel.seen, 128);
    assert!(account.kernel.lost_map_full > 0 && ran.rows.len() < 64, "{}", ran.report);
    assert_eq!(there + account.kernel.lost_map_full, 128, "each call is in a row or lost");
    let refused = account.maps.iter().find(|map| map.name == "tallies").expect("the map").insert_failures;
    assert_eq!(refused, account.kernel.lost_map_full);
    assert!(ran.report.to_string().contains("the map `tallies` was full"), "{}", ran.report);
}

/// It has to hold the keys of one interval: here 160 go through a map of 64, twenty at a time.
#[test]
fn a_map_that_is_read_at_an_interval_never_fills_for_good() {
    const TEST: &str = "aggregates::a_map_that_is_read_at_an_interval_never_fills_for_good";
    if is_load() || !root() || !alone(TEST) {
        return;
    }
    let mut steps = Vec::new();
    for round in 0..8 {
        steps.extend((1..=20).map(|i| calls(3, round * 100 + i, "set")));
        steps.push(pause(100));
    }
    let probe = json!({"program": "tally", "interval": "50ms", "maps": {"tallies": 64}});
    let ran = observed(TEST, probe, &steps);
    let account = &ran.report.accounts[0];
    assert_eq!((account.kernel.seen, account.kernel.lost()), (8 * 20 * 3, 0), "{}", ran.report);
    assert_eq!(ran.fields(&["calls"]).iter().map(|row| row[0]).sum::<u64>(), 8 * 20 * 3);
    assert!(account.reconciles(), "{}", ran.report);

    // One that keeps CPUs apart only on demand has to hold all of them
    let ran = observed(TEST, json!({"program": "tally", "interval": "50ms", "per_cpu": true}), &steps);
    let account = &ran.report.accounts[0];
    assert_eq!((account.kernel.seen, account.kernel.lost()), (8 * 20 * 3, 0), "{}", ran.report);
    assert_eq!(ran.fields(&["calls"]).iter().map(|row| row[0]).sum::<u64>(), 8 * 20 * 3);
}

#[test]
fn stacks_have_names_and_go_as_lists() {
    const TEST: &str = "aggregates::stacks_have_names_and_go_as_lists";
    if is_load() || !root() || !alone(TEST) {
        return;
    }
    // The process must still be there when the map is read
    let steps = [calls(40, 3, "set"), pause(2500)];
    let ran = observed(TEST, json!({"program": "callers", "interval": "300ms"}), &steps);
    assert_eq!(ran.fields(&["calls"]).iter().map(|row| row[0]).sum::<u64>(), 40);
    let frames = |name: &str| -> Vec<&str> {
        ran.rows[0][name].as_array().expect("a list").iter().map(|frame| frame.as_str().expect("text")).collect()
    };
    let (kernel, user) = (frames("kernel_stack"), frames("user_stack"));
    assert!(kernel.iter().any(|frame| frame.contains("syscall")), "{kernel:?}");
    assert!(user.iter().any(|frame| frame.contains("lseek")), "{user:?}");
    assert!(!kernel.iter().chain(&user).any(|frame| frame.contains('+')), "names without offsets");
}

#[test]
fn rows_go_through_templates_that_they_have_the_fields_of() {
    const TEST: &str = "aggregates::rows_go_through_templates_that_they_have_the_fields_of";
    if is_load() || !root() || !alone(TEST) {
        return;
    }
    let scratch = Scratch::new();
    let mut load = start_load(TEST, &[calls(9, 100, "set")]);
    let sink = |name: &str, template: &str| json!({"type": "stdout", "path": scratch.path(name), "template": template});
    let config = json!({"version": 1, "window": {"duration": WINDOW},
        "probes": [{"program": "spread", "filters": {"pid": load.id()}}],
        "sinks": {
            "summaries": sink("summaries", "{{ probe }} {{ whence }} {{ p99 }} of {{ count }}"),
            "buckets": sink("buckets", "{{ bucket_low | bytes }} {{ count }}"),
            "both": sink("both", "{{ row }} {{ count }}"),
            "table": {"type": "csv", "path": scratch.path("table"), "columns": ["whence", "max"]},
        },
    });
    let source = Source::parse("x.yaml".into(), "x".into(), config.to_string()).expect("it is a config");
    let plan = plan(&source, &Catalog::from_objects(OBJECTS), &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
    let run = thread::spawn(move || run_plan(&plan, &Options { quiet: true }));
    wait_until("it never starts", || fs::metadata(scratch.path("table.partial")).map_or(0, |file| file.len()) > 0);
    load.stdin.take().expect("it is piped").write_all(b"go\n").expect("it waits for this");
    assert!(load.wait().expect("it ends").success());
    run.join().expect("it does not panic").unwrap_or_else(|error| panic!("{error}"));
    let read = |name: &str| fs::read_to_string(scratch.path(name)).expect("it is there");
    assert_eq!(read("summaries"), "spread set 100 of 9\n");
    assert_eq!(read("buckets"), "64B 9\n");
    assert_eq!(read("both"), "bucket 9\nsummary 9\n");
    assert_eq!(read("table"), "whence,max\nset,100\n");
}
