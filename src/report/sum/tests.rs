use serde_json::json;

use super::*;

fn report(start: u64, end: u64, verdict: &str, lost: u64) -> Value {
    json!({
        "format": 2, "name": "io", "host": {"name": "db1", "boot_id": "b"},
        "window": {
            "start": format!("2026-01-01T00:00:{start:02}Z"), "end": format!("2026-01-01T00:00:{end:02}Z"),
            "start_monotonic_ns": start * 1_000_000_000, "end_monotonic_ns": end * 1_000_000_000,
            "ended_by": "duration",
        },
        "exit_code": if lost > 0 { 3 } else { 0 }, "error": (lost > 0).then_some("too much is lost"),
        "reconciles": true,
        "probes": [{"name": "slow", "verdict": verdict, "reason": "why", "seen": 10, "written": 10 - lost,
                    "lost": lost, "recursion_misses": 0, "warmup": 1}],
    })
}

fn json_of(sum: &ReportSum) -> Value {
    serde_json::to_value(sum.to_json()).expect("a sum is JSON")
}

fn sum(reports: &[Value]) -> ReportSum {
    let mut sum = ReportSum::default();
    for (index, report) in reports.iter().enumerate() {
        sum.add(&format!("{index}.json"), &report.to_string()).expect("it is a report");
    }
    sum
}

#[test]
fn windows_add_up_whatever_their_order() {
    let reports = [report(20, 25, "fallback", 2), report(0, 5, "ok", 0), report(10, 15, "ok", 0)];
    let json = json_of(&sum(&reports));
    let capture = &json["captures"][0];
    assert_eq!((&capture["windows"], &capture["recorded_ns"]), (&json!(3), &json!(15_000_000_000u64)));
    assert_eq!(
        capture["probes"],
        json!([{"name": "slow", "last_verdict": "fallback", "seen": 30, "written": 28, "lost": 2, "may_be_missing": 0,
                "warmup": 3}])
    );
    let gaps: Vec<_> = capture["gaps"].as_array().expect("a list").iter().map(|gap| &gap["nanoseconds"]).collect();
    assert_eq!(gaps, [&json!(5_000_000_000u64), &json!(5_000_000_000u64)]);
    assert_eq!(capture["verdict_changes"][0]["at"], "2026-01-01T00:00:20Z");
    assert_eq!(capture["failed"][0]["file"], "0.json");
}

#[test]
fn a_person_sees_what_went_wrong() {
    let shown = sum(&[report(0, 5, "ok", 0), report(4, 9, "ok", 1), report(30, 31, "unsupported", 0)]).to_string();
    for words in [
        "io on db1: 3 windows from 2026-01-01T00:00:00Z to 2026-01-01T00:00:31Z",
        "recorded 10.0s; ended by: 3 duration",
        "gaps between windows: 21.0s; longest: 21.0s after 2026-01-01T00:00:09Z",
        "two windows overlap by 1.0s at 2026-01-01T00:00:04Z",
        "slow changed from ok to unsupported at 2026-01-01T00:00:30Z: why",
        "1.json (exit code 3): too much is lost",
    ] {
        assert!(shown.contains(words), "`{words}` is missing in:\n{shown}");
    }
}

#[test]
fn a_report_that_lacks_a_count_is_refused() {
    for key in ["seen", "written", "lost", "recursion_misses", "warmup"] {
        for wrong in [json!(-1), json!("3"), json!(1.5), json!(1e30), json!([])] {
            let mut report = report(0, 5, "ok", 0);
            report["probes"][0][key] = wrong.clone();
            let added = ReportSum::default().add("x.json", &report.to_string());
            assert!(added.is_err_and(|error| error.starts_with("not a complete report: ")), "{key}: {wrong}");
        }
    }
    for key in ["seen", "written", "lost"] {
        let mut report = report(0, 5, "ok", 0);
        report["probes"][0].as_object_mut().expect("a probe").remove(key).expect("it is there");
        assert!(ReportSum::default().add("x.json", &report.to_string()).is_err(), "{key}");
    }
}

#[test]
fn sums_of_odd_reports_saturate() {
    let mut reports: Vec<Value> = (0..4).map(|at| report(10 * at, 10 * at + 5, "ok", 0)).collect();
    for (index, report) in reports.iter_mut().enumerate() {
        for key in ["seen", "written", "lost", "recursion_misses"] {
            report["probes"][0][key] = json!(u64::MAX);
        }
        // Each ends before it begins
        let at = u64::MAX - index as u64;
        report["window"]["start_monotonic_ns"] = json!(at);
        report["window"]["end_monotonic_ns"] = json!(index);
    }
    reports[0]["reconciles"] = json!(false);
    let sum = sum(&reports);
    let capture = &json_of(&sum)["captures"][0];
    assert_eq!((&capture["probes"][0]["seen"], &capture["recorded_ns"]), (&json!(u64::MAX), &json!(0)));
    let shown = sum.to_string();
    assert!(shown.contains("0.json (exit code 0): no error; its counts do not reconcile"), "{shown}");
}

#[test]
fn a_machine_that_was_started_anew_has_no_length_of_the_gap() {
    let mut other = report(0, 5, "ok", 0);
    other["host"]["boot_id"] = json!("c");
    other["window"]["start"] = json!("2026-01-02T00:00:00Z");
    let shown = sum(&[report(50, 55, "ok", 0), other]).to_string();
    assert!(shown.contains("booted 1 time ") && !shown.contains("gaps"), "{shown}");
}

#[test]
fn a_clock_that_was_set_back_makes_no_overlap() {
    let (before, mut after) = (report(20, 25, "ok", 0), report(30, 35, "ok", 0));
    after["window"]["start"] = json!("2026-01-01T00:00:10Z");
    after["window"]["end"] = json!("2026-01-01T00:00:03Z");
    after["clock_steps"] = json!([{"jump": "set"}]);
    let sum = sum(&[after, before]);
    let gaps = &json_of(&sum)["captures"][0]["gaps"];
    let gap = json!({"from": "2026-01-01T00:00:25Z", "to": "2026-01-01T00:00:10Z", "nanoseconds": 5_000_000_000u64,
                     "overlap": false});
    assert_eq!(gaps, &json!([gap]));
    let shown = sum.to_string();
    assert!(shown.contains("\n  the wall clock was stepped 1 time within windows\n"), "{shown}");
}

/// One window over a hundred seconds, and two within it.
#[test]
fn time_that_several_windows_cover_counts_once() {
    let windows =
        [report(0, 100, "ok", 0), report(10, 20, "ok", 0), report(30, 40, "ok", 0), report(110, 120, "ok", 0)];
    let sum = json_of(&sum(&windows));
    let gaps: Vec<_> = sum["captures"][0]["gaps"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|gap| (&gap["nanoseconds"], &gap["overlap"]))
        .collect();
    let seconds = |s: u64| json!(s * 1_000_000_000);
    assert_eq!(gaps, [(&seconds(10), &json!(true)), (&seconds(10), &json!(true)), (&seconds(10), &json!(false))]);
    assert_eq!(sum["captures"][0]["recorded_ns"], seconds(110));
}

#[test]
fn a_report_that_is_there_twice_counts_once() {
    let mut sum = ReportSum::default();
    let text = report(0, 5, "ok", 0).to_string();
    sum.add("a", &text).expect("it is one");
    assert!(sum.add("b", &text).expect_err("it is the same").contains("the same window as a"));
}

#[test]
fn what_is_no_report_is_refused_in_words() {
    let says = |text: &str| ReportSum::default().add("x", text).expect_err("it is none");
    assert!(says("{").contains("not JSON"));
    assert!(says("{}").contains("not a report of ebpf-run"));
    assert!(says(r#"{"format": 99}"#).contains("format 99"));
    assert!(says(r#"{"format": 1}"#).contains("not a complete report: missing field"));
}
