//! `runqlat`: histograms of waits against the kernel's own account of them, by whatever they are kept.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::Scratch;
use crate::disk::retry;
use crate::load::unique_name;
use crate::root;
use crate::sched::{Worker, alone, hidden, one_cpu, spin_in_the_test, work};

fn number(row: &Json, column: &str) -> f64 {
    row[column].as_f64().unwrap_or_else(|| panic!("{column} of {row}"))
}

#[test]
fn the_histograms_hold_the_waits_that_the_kernel_counts() {
    if !root() {
        return;
    }
    let _alone = alone();
    retry(missing_waits);
}

/// What was seen has to be right, and most of it has to be there: the host hides switches as it hides completions, and on a busy
/// machine each is a long wait.
fn missing_waits() -> Result<(), String> {
    let scratch = Scratch::new();
    let missing = RefCell::new(Vec::new());
    let (cpu, names) = (one_cpu(), [unique_name(), unique_name()]);
    let spin = || spin_in_the_test(Duration::from_millis(600));
    let workers = names.clone().map(|name| Worker::new(&name, Some(cpu), spin));
    let tid = workers[0].tid;
    let pid = std::process::id();
    let probes = json!([
        {"program": "runqlat", "name": "both", "filters": {"comm": names}},
        {"program": "runqlat", "name": "commands", "filters": {"comm": names, "by": "command"}},
        {"program": "runqlat", "name": "process", "filters": {"comm": names, "by": "process"}},
        {"program": "runqlat", "name": "one", "filters": {"tid": tid}},
        {"program": "runqlat", "name": "nobody", "filters": {"comm": unique_name()}},
        {"program": "runqlat", "name": "everybody"},
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    let spent = work(workers);
    let records = records(&capture.stop().expect(0).stdout);
    let rows = |probe: &str, kind: &str, comm: &str| -> Vec<Json> {
        let rows = of_probe(&records, probe).into_iter();
        rows.filter(|row| row["row"] == kind && row["comm"] == comm).cloned().collect()
    };
    // One histogram: what its summary says, after its buckets have been added up and compared
    let whole = |probe: &str, comm: &str, pid: u32| -> (f64, f64) {
        let summaries = rows(probe, "summary", comm);
        assert_eq!(summaries.len(), 1, "{probe}: {summaries:?}");
        let (summary, buckets) = (&summaries[0], rows(probe, "bucket", comm));
        assert_eq!(summary["pid"], pid, "{probe}");
        let (count, sum) = (number(summary, "count"), number(summary, "sum"));
        assert_eq!(buckets.iter().map(|row| number(row, "count")).sum::<f64>(), count, "{probe}");
        let least: f64 = buckets.iter().map(|row| number(row, "count") * number(row, "bucket_low")).sum();
        let most: f64 = buckets.iter().map(|row| number(row, "count") * number(row, "bucket_high")).sum();
        assert!(least <= sum && sum <= most, "{probe}: {least} {sum} {most}");
        assert!(number(summary, "p50") <= number(summary, "p90"), "{summary}");
        assert!(number(summary, "p99") <= number(summary, "max"), "{summary}");
        (count, sum)
    };
    // A worker waits once more before it begins, and a few times while its thread ends; on a busy machine, for long
    let expect = |probe: &str, (count, sum): (f64, f64), workers: &[usize]| {
        let times: f64 = workers.iter().map(|&i| spent[i].times as f64).sum();
        let waited: f64 = workers.iter().map(|&i| spent[i].waited).sum();
        let n = workers.len() as f64;
        let least = times - n - hidden(times as usize) as f64;
        assert!(count >= least && count <= times + 6.0 * n, "{probe}: {count} waits, {spent:?}");
        assert!(sum < 1.05 * waited + 1e9 * n, "{probe}: {sum} ns, {spent:?}");
        if sum <= 0.95 * waited - 15e6 {
            missing.borrow_mut().push(format!("{probe}: {sum} ns of {waited} ns"));
        }
    };
    expect("both", whole("both", "", 0), &[0, 1]);
    expect("one", whole("one", "", 0), &[0]);
    for (i, name) in names.iter().enumerate() {
        expect("commands", whole("commands", name, 0), &[i]);
    }
    // The test's own process, by the command of its first thread
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it is there");
    expect("process", whole("process", comm.trim_end(), pid), &[0, 1]);
    assert!(whole("everybody", "", 0).0 >= whole("both", "", 0).0);
    assert_eq!(of_probe(&records, "nobody").len(), 0);
    let missing = missing.into_inner();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}
