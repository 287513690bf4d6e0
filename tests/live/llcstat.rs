//! `llcstat`: by a clock, which every machine has, against the CPU time of a thread; and by the caches' own counters.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::{BINARY, Scratch, run};
use crate::load::unique_name;
use crate::root;
use crate::sched::{Worker, alone, burn_in_the_test, one_cpu, work};

#[test]
fn what_is_counted_is_charged_to_who_ran_and_where() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let _alone = alone();
    let (cpu, name) = (one_cpu(), unique_name());
    let worker = Worker::new(&name, Some(cpu), || burn_in_the_test(Duration::from_millis(1000)));
    let probe = |name: &str, mut filters: Json, cpus: bool| {
        filters["event"] = json!("cpu_clock");
        filters["period"] = json!(5_000_000);
        json!({"program": "llcstat", "name": name, "filters": filters, "per_cpu": cpus})
    };
    let probes = json!([
        probe("one", json!({"comm": name}), false),
        probe("cpus", json!({"tid": worker.tid}), true),
        probe("none", json!({}), false),
        probe("nobody", json!({"comm": unique_name()}), false),
        probe("elsewhere", json!({"pid": {"not": std::process::id()}, "comm": name}), false),
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    let [spent] = work([worker]);
    let rows = records(&capture.stop().expect(0).stdout);
    for probe in ["one", "cpus", "none"] {
        let mine =
            of_probe(&rows, probe).into_iter().filter(|row| row["pid"] == std::process::id()).collect::<Vec<_>>();
        let ns: f64 = mine.iter().map(|row| row["references"].as_f64().expect("a number")).sum();
        // Samples are an estimate: a CPU that is stopped from outside, as that of a virtual machine, loses ticks, and where
        // threads take turns, a tick may go to whoever just got the CPU
        assert!(ns > 0.4 * spent.cpu && ns < 1.4 * spent.cpu + 10e6, "{probe}: {ns} of {spent:?}");
        assert!(mine.iter().all(|row| row["misses"] == 0 && row["pid"] == std::process::id()), "{mine:?}");
        if probe == "cpus" {
            assert!(mine.iter().all(|row| row["cpu"] == cpu), "it was on CPU {cpu} only: {mine:?}");
        }
    }
    for probe in ["nobody", "elsewhere"] {
        assert_eq!(of_probe(&rows, probe).len(), 0, "{probe}");
    }
}

/// Where the machine counts references and misses, there are some; where it doesn't, that is what it says.
#[test]
fn the_caches_are_counted_or_said_to_be_unsupported() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let config = to_jsonl(json!([{"program": "llcstat", "filters": {"pid": std::process::id()}}]));
    let path = scratch.write("config.yaml", format!("{config:#}"));
    let worker = Worker::new(&unique_name(), None, || {
        let mut big = vec![1u64; 8 << 20];
        (0..5).for_each(|round| big.iter_mut().step_by(7).for_each(|word| *word += round));
        std::hint::black_box(&big);
    });
    worker.go();
    let ended = run(std::process::Command::new(BINARY).arg(path).args(["--duration", "2s"]));
    worker.join();
    match ended.code {
        Some(0) => {
            let rows = records(&ended.stdout);
            assert!(rows.iter().any(|row| row["references"].as_u64() > Some(0)), "{rows:?}");
        }
        _ => drop(ended.expect(4).says(&["no counter", "event: cpu"])),
    }
}
