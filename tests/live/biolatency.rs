//! `biolatency` against reads and writes that the test counts.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl_of_busy};
use crate::common::Scratch;
use crate::disk::{BLOCKS, Loop, reads_and_writes, retry, starts_are_traced};
use crate::load::{copy_of, unique_name};
use crate::root;

fn number(row: &Json, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("{column} of {row}"))
}

/// Count and sum of the histogram of `op` on `device`, after its rows were compared with each other; 0 if there is none.
fn histogram(rows: &[&Json], device: &str, op: &str) -> (u64, u64) {
    let of = |kind: &str| -> Vec<&Json> {
        let fits = |row: &&&Json| row["row"] == kind && row["device"] == device && row["op"] == op;
        rows.iter().filter(fits).copied().collect()
    };
    let (summary, buckets) = (of("summary"), of("bucket"));
    let [summary] = summary.as_slice() else {
        assert!(summary.is_empty() && buckets.is_empty(), "more than one histogram: {summary:?}");
        return (0, 0);
    };
    let (count, sum, max) = (number(summary, "count"), number(summary, "sum"), number(summary, "max"));
    assert_eq!(buckets.iter().map(|row| number(row, "count")).sum::<u64>(), count, "{summary}");
    let least: u64 = buckets.iter().map(|row| number(row, "count") * number(row, "bucket_low")).sum();
    let most: u64 = buckets.iter().map(|row| number(row, "count") * number(row, "bucket_high")).sum();
    assert!(least <= sum && sum <= most && max <= sum, "{least} {most} {summary}");
    (count, sum)
}

/// One probe for each way to set each filter, all over the same load.
#[test]
fn the_histograms_hold_the_requests_that_the_filters_let_through() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 1 << 20);
    let (dd, comm) = copy_of(&scratch, "dd");
    let (all, none, reads, writes) = ([BLOCKS, BLOCKS], [0, 0], [BLOCKS, 0], [0, BLOCKS]);
    retry(|| {
        let load = reads_and_writes(Path::new("/bin/sh"), &dd, &disk);
        let pid = load.pid();
        let cases = [
            (json!({"pid": pid}), all),
            (json!({"pid": pid, "queued": true}), all),
            (json!({"comm": comm, "device": disk.name}), all),
            (json!({"comm": comm, "device": {"not": disk.name}}), none),
            (json!({"comm": unique_name(), "device": disk.name}), none),
            (json!({"pid": pid, "op": "read"}), reads),
            (json!({"pid": pid, "op": ["write", "flush"]}), writes),
            (json!({}), all),
        ];
        let probe = |(i, (filters, _)): (usize, &(Json, _))| json!({"program": "biolatency", "name": format!("p{i}"), "filters": filters});
        let probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(json!(probes)), &[]);
        let start = Instant::now();
        assert_eq!(load.go(), Some(0));
        let took = start.elapsed().as_nanos() as u64;
        let records = records(&capture.stop().expect(0).stdout);
        let mut sums = Vec::new();
        let mut result = Ok(());
        for (i, (filters, wanted)) in cases.iter().enumerate() {
            let rows = of_probe(&records, &format!("p{i}"));
            let found = ["read", "write"].map(|op| histogram(&rows, &disk.name, op));
            let counts = found.map(|(count, _)| count);
            // Without a filter, whoever looks at a new disk is counted too
            let right = counts == *wanted || (filters == &json!({}) && counts >= *wanted);
            assert!(counts <= *wanted || right, "{counts:?} of {wanted:?} with {filters}");
            if !right {
                result = Err(format!("{counts:?} of {wanted:?} with {filters}"));
            }
            sums.push(found.map(|(_, sum)| sum));
        }
        result?;
        assert!(sums[0].iter().sum::<u64>() < took, "one request after the other: {sums:?} of {took} ns");
        // Before 6.5 a request that no scheduler has is first seen when it is issued: it has no time in the queue
        assert!(
            sums[0][0] > 0 && (!starts_are_traced() || sums[1][0] > sums[0][0] && sums[1][1] > sums[0][1]),
            "with time in the queue: {sums:?}"
        );
        Ok(())
    });
}
