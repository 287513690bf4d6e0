//! Of several ways to the same end the first that the kernel takes, and only that; and what is said if there is none.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_run::catalog::Catalog;
use ebpf_run::config::Source;
use ebpf_run::error::{Error, Kind};
use ebpf_run::kernel::Verdict;
use ebpf_run::plan::{Overrides, plan};
use ebpf_run::report::Report;
use ebpf_run::run::{Options, run as run_plan};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, records, report, to_jsonl};
use crate::common::{BINARY, Scratch, run};
use crate::load::{Held, copy_of};
use crate::root;
use crate::words::{alone, with_tracefs, without_tracefs};

macro_rules! object {
    ($name:literal) => {{
        let object: &'static [u8] = include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".bpf.o"));
        ($name, object)
    }};
}

fn catalog() -> Catalog {
    Catalog::from_objects([object!("alternatives"), object!("nowhere"), object!("faulty")])
}

fn try_run(config: &Json) -> Result<Report, Error> {
    let source = Source::parse("x.yaml".into(), "x".into(), config.to_string()).expect("it is a config");
    let plan = plan(&source, &catalog(), &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    run_plan(&plan, &Options { quiet: true })
}

/// A config that runs `probes` long enough for a load, and the path of its records.
fn config(scratch: &Scratch, probes: Json) -> Json {
    let mut config = to_jsonl(probes);
    config["window"] = json!({"duration": "4s"});
    config["sinks"]["out"]["path"] = json!(scratch.path("out.jsonl"));
    config["sinks"]["sign"] = json!({"type": "csv", "path": scratch.path("sign"), "columns": ["probe"]});
    config
}

/// Runs `held` when everything is attached.
fn goes_when_attached(path: &Path, held: Held) -> thread::JoinHandle<()> {
    // The header of a table is written then
    let path = path.to_owned();
    thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(60);
        while fs::metadata(&path).map_or(0, |file| file.len()) == 0 {
            assert!(Instant::now() < until, "nothing was attached");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(held.go(), Some(0));
    })
}

fn held(scratch: &Scratch) -> Held {
    let (shell, _) = copy_of(scratch, "sh");
    let (program, _) = copy_of(scratch, "true");
    Held::new(&shell, &program, [""; 0])
}

#[test]
fn exactly_one_variant_of_each_group_is_attached() {
    if !root() || !with_tracefs("alternatives::exactly_one_variant_of_each_group_is_attached") {
        return;
    }
    let scratch = Scratch::new();
    let held = held(&scratch);
    let pid = held.pid();
    let config = config(&scratch, json!([{"program": "alternatives", "filters": {"pid": pid}}]));
    let load = goes_when_attached(&scratch.path("sign.partial"), held);
    let report = try_run(&config).unwrap_or_else(|error| panic!("{error}"));
    load.join().expect("the load ran");
    let account = &report.accounts[0];
    eprintln!("{:?} {:?} {:?}", account.verdict, account.variants, account.reason);
    assert!(account.reconciles() && account.kernel.seen == 2, "{account:?}");
    let written = records(&fs::read_to_string(scratch.path("out.jsonl")).expect("records"));
    let got: Vec<_> = written.iter().map(|record| (record["what"].as_str(), record["way"].as_str())).collect();
    // The ways that records came are those that the report tells, and each thing was seen once
    let way = |group: &str| account.variants.get(group).map(String::as_str);
    assert_eq!(got, [(Some("exec"), way("exec")), (Some("exit"), way("exit"))]);
    assert_eq!(account.hooks.len(), 2, "{:?}", account.hooks);
    let firsts = (way("exec"), way("exit")) == (Some("fentry"), Some("kprobe"));
    assert_eq!(account.verdict, if firsts { Verdict::Ok } else { Verdict::Fallback });
    let reason = account.reason.as_deref().unwrap_or_default();
    for first in [("exec", "fentry"), ("exit", "kprobe")] {
        let passed_over = way(first.0) != Some(first.1);
        assert_eq!(reason.contains(&format!("not by {}: ", first.1)), passed_over, "{reason}");
    }
}

#[test]
fn where_no_variant_is_left_each_has_its_reason() {
    if !root() || !with_tracefs("alternatives::where_no_variant_is_left_each_has_its_reason") {
        return;
    }
    let error = try_run(&to_jsonl(json!([{"program": "nowhere"}]))).expect_err("no kernel has that");
    assert_eq!(error.kind, Kind::Unsupported, "{error}");
    for reason in [
        "not by fentry: there is no function no_such_function",
        "not by kprobe: there is no function no_such_function",
        "not by tracepoint: there is no tracepoint sched/no_such_tracepoint",
        "not by raw_tp: there is no tracepoint no_such_tracepoint",
    ] {
        assert!(error.message.contains(reason), "{error}");
    }
}

#[test]
fn without_tracefs_a_tracepoint_is_no_way_and_what_to_do_is_said() {
    if !root() || !without_tracefs("alternatives::without_tracefs_a_tracepoint_is_no_way_and_what_to_do_is_said") {
        return;
    }
    let error = try_run(&to_jsonl(json!([{"program": "nowhere"}]))).expect_err("no kernel has that");
    assert_eq!(error.kind, Kind::Unsupported, "{error}");
    let reason = "not by tracepoint: tracefs is not mounted (`mount -t tracefs none /sys/kernel/tracing`)";
    assert!(error.message.contains(reason), "{error}");
}

#[test]
fn a_variant_that_the_verifier_refuses_is_set_aside_or_told_as_broken() {
    if !root() || !alone("alternatives::a_variant_that_the_verifier_refuses_is_set_aside_or_told_as_broken") {
        return;
    }
    let scratch = Scratch::new();
    let held = held(&scratch);
    let config = config(&scratch, json!([{"program": "faulty", "filters": {"pid": held.pid()}}]));
    let load = goes_when_attached(&scratch.path("sign.partial"), held);
    let report = try_run(&config).unwrap_or_else(|error| panic!("{error}"));
    load.join().expect("the load ran");
    let account = &report.accounts[0];
    assert_eq!((account.verdict, account.kernel.seen), (Verdict::Fallback, 1), "{account:?}");
    assert_eq!(account.variants["exec"], "sound");
    let reason = account.reason.as_deref().expect("a reason");
    assert!(reason.starts_with("not by faulty: ") && reason.contains("invalid mem access"), "{reason}");

    let only = to_jsonl(json!([{"program": "faulty", "filters": {"only_faulty": true}}]));
    let error = try_run(&only).expect_err("no kernel takes it");
    assert_eq!((error.kind, error.kind.code()), (Kind::Broken, 4), "{error}");
    assert!(error.message.contains("not by faulty: "), "{error}");
}

#[test]
fn a_probe_that_may_be_skipped_is_and_the_others_run() {
    if !root() || !with_tracefs("alternatives::a_probe_that_may_be_skipped_is_and_the_others_run") {
        return;
    }
    let scratch = Scratch::new();
    let held = held(&scratch);
    let sound = json!({"program": "alternatives", "filters": {"pid": held.pid()}});
    let skipped = json!({"program": "nowhere", "on_unsupported": "skip"});
    let faulty = json!({"program": "faulty", "filters": {"only_faulty": true}, "on_unsupported": "skip"});
    let config = config(&scratch, json!([skipped, sound, faulty]));
    let load = goes_when_attached(&scratch.path("sign.partial"), held);
    let report = try_run(&config).unwrap_or_else(|error| panic!("{error}"));
    load.join().expect("the load ran");
    assert_eq!((report.accounts.len(), report.accounts[0].kernel.seen), (1, 2));
    let left: Vec<_> = report.skipped.iter().map(|probe| (probe.probe.as_str(), probe.verdict)).collect();
    assert_eq!(left, [("nowhere", Verdict::Unsupported), ("faulty", Verdict::Broken)]);
    assert!(report.skipped[0].reason.contains("no_such_tracepoint"), "{}", report.skipped[0].reason);
    assert!(report.to_string().contains("unsupported: "), "{report}");

    let error = try_run(&to_jsonl(json!([skipped]))).expect_err("nothing is left to run");
    assert_eq!(error.kind, Kind::Unsupported);
}

/// Whether the CPUs' own counters can be used here: the kernel has a device for them.
fn has_counters() -> bool {
    Path::new("/sys/bus/event_source/devices/cpu").exists()
}

#[test]
fn a_perf_event_that_is_not_there_is_replaced_or_named() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("report.json");
    let args = ["--report", path.to_str().expect("UTF-8")];
    let with = |filters: Json| to_jsonl(json!([{"program": "profile", "filters": filters}]));
    let none_matches = std::process::id();
    let ended = Capture::start(&scratch, &with(json!({"pid": none_matches})), &args).stop().expect(0);
    let probe = report(&scratch)["probes"][0].clone();
    if has_counters() {
        assert_eq!(probe["verdict"], "ok", "{probe}");
    } else {
        assert_eq!(probe["verdict"], "fallback", "{probe}");
        assert_eq!(probe["reason"], "this machine has no counter `cycles` (ENOENT)");
        ended.says(&["(profile, 1 hook, fallback)", "(fallback: this machine has no counter `cycles`"]);
    }
    Capture::start(&scratch, &with(json!({"pid": none_matches, "event": "cpu-clock"})), &args).stop().expect(0);
    assert_eq!(report(&scratch)["probes"][0]["verdict"], "ok", "it is what was asked for");
    if !has_counters() {
        let config = scratch.write("config.yaml", with(json!({"event": "cycles"})).to_string());
        let ended = run(std::process::Command::new(BINARY).arg(config).args(["--duration", "1s"])).expect(4);
        ended.says(&["this machine has no counter `cycles` (ENOENT)", "hint: ", "event: cpu-clock"]);
    }
    let config = scratch.write("config.yaml", with(json!({"event": "cpu_clock", "frequency": "900kHz"})).to_string());
    let ended = run(std::process::Command::new(BINARY).arg(config).args(["--duration", "1s"])).expect(4);
    ended.says(&["900000 times a second", "kernel.perf_event_max_sample_rate"]);
}
