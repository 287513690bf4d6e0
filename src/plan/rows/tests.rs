//! What the plan makes of probes that add up in a map.

use super::*;
use crate::catalog::Catalog;
use crate::config::Source;
use crate::error::Error;
use crate::plan::{Overrides, Plan, plan};

const GOOD: &str = r#"version: 1
probes:
  - program: runqlat
    interval: 5s
    sinks: [screen, buckets, table]
  - program: profile
    clear: false
    per_cpu: true
    top: 10
    sinks: [screen]
sinks:
  screen:
    type: stdout
  buckets:
    type: jsonl
    path: buckets.jsonl
    fields: [bucket_low, count]
  table:
    type: csv
    path: table.csv
"#;

fn try_plan(yaml: &str) -> Result<Plan, Error> {
    let source = Source::parse("x.yaml".into(), "x".into(), yaml.into())?;
    plan(&source, &Catalog::embedded(), &Overrides::default())
}

#[track_caller]
fn wrong(from: &str, to: &str, at: &str, says: &str) {
    assert!(GOOD.contains(from), "{from}");
    let error = try_plan(&GOOD.replacen(from, to, 1)).expect_err("it is wrong");
    assert!(error.message.starts_with(&format!("x.yaml:{at}: ")), "{error}");
    assert!(error.message.contains(says), "{error}");
    assert_eq!(error.message.matches("x.yaml:").count(), 1, "one fault, one problem: {error}");
}

fn names(layout: &Layout) -> Vec<&str> {
    layout.fields.iter().map(|field| field.name.as_str()).collect()
}

#[test]
fn rows_have_the_key_and_the_values() {
    let plan = try_plan(GOOD).expect("it is good");
    let [histogram, counters] = plan.probes.as_slice() else { panic!("two probes") };
    let [buckets, summaries] = histogram.streams.as_slice() else { panic!("buckets and summaries") };
    assert_eq!(names(&buckets.layout), ["ts", "row", "pid", "comm", "bucket_low", "bucket_high", "count"]);
    assert_eq!(names(&summaries.layout), ["ts", "row", "pid", "comm", "count", "sum", "p50", "p90", "p99", "max"]);
    let unit = |name: &str| summaries.layout.fields[summaries.layout.index(name).expect("a field")].unit.clone();
    assert_eq!((unit("p99").as_deref(), unit("count")), (Some("ns"), None));
    let [rows] = counters.streams.as_slice() else { panic!("one sort of rows") };
    assert_eq!(
        names(&rows.layout),
        ["ts", "pid", "comm", "process_comm", "kernel_stack", "user_stack", "cpu", "samples"]
    );
    // Nothing lies upon anything else
    for stream in histogram.streams.iter().chain(&counters.streams) {
        let mut ends: Vec<(usize, usize)> =
            stream.layout.fields.iter().map(|field| (field.offset, field.offset + field.size)).collect();
        ends.sort_unstable();
        assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ends:?}");
        assert!(ends.last().expect("fields").1 <= stream.layout.min_size);
    }
}

#[test]
fn each_sort_of_rows_goes_where_its_fields_are_wanted() {
    let plan = try_plan(GOOD).expect("it is good");
    let sinks = |probe: usize, stream: usize| -> Vec<&str> {
        plan.probes[probe].streams[stream].sinks.iter().map(|index| plan.sinks[*index].name.as_str()).collect()
    };
    assert_eq!(sinks(0, 0), ["screen", "buckets", "table"]);
    assert_eq!(sinks(0, 1), ["screen", "table"], "a summary has no bucket");
    assert_eq!(sinks(1, 0), ["screen"]);
}

#[test]
fn the_plan_says_how_a_map_is_read_and_has_no_buffer() {
    let shown = crate::plan::tests::shown(GOOD, 4);
    for line in ["interval               every 5s, and at the end", "top                    the first 10"] {
        assert!(shown.contains(line), "{line} is missing in {shown}");
    }
    assert!(shown.contains("memory of buffers      0B"), "{shown}");
    assert!(shown.contains("memory of full maps    ") && !shown.contains("maps    0B"), "{shown}");
    assert!(!shown.contains("wakeup_bytes") && !shown.contains("max_latency"), "{shown}");
}

#[test]
fn what_does_not_go_together_is_refused() {
    wrong("interval: 5s", "interval: 1ms", "4:15", "at least 10ms");
    wrong("interval: 5s", "top: 3", "4:5", "`top` is for programs with counters");
    wrong("interval: 5s", "sort: count", "4:5", "`sort` is for programs with counters");
    wrong("top: 10", "sort: total", "9:11", "no counter `total`");
    wrong("interval: 5s", "buffer: {size: 1MiB}", "4:5", "`buffer` is for programs that send events");
    wrong("interval: 5s", "order: time", "4:12", "`order` is for programs that send events");
    wrong("version: 1", "version: 1\nwindow: {max_events: 5}", "2:10", "`max_events` counts events");
    wrong("bucket_low", "bucket_lo", "17:14", "did you mean `bucket_low`?");
    let events = "program: profile\n    clear: false\n    per_cpu: true\n    top: 10";
    wrong(
        events,
        "program: execsnoop\n    interval: 1s\n    sinks: [buckets]\n  - program: profile",
        "7:5",
        "sends events",
    );
    wrong(events, "program: execsnoop", "9:3", "needs a `template`");
}
