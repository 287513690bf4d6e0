//! `syscount` against calls that the test makes and counts.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl_of_busy};
use crate::common::Scratch;
use crate::disk::retry;
use crate::load::{Held, as_command, copy_of, unique_name};
use crate::root;
use crate::sched::pin;

const CALLS: u64 = 1000;

fn number(row: &Json, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("{column} of {row}"))
}

#[test]
fn calls_are_counted_by_name_and_by_process() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (comm, pid) = (unique_name(), std::process::id());
    let own = |filters: Json| {
        let mut filters = filters;
        filters["comm"] = json!(comm);
        filters
    };
    // Filters, and what they leave: the row's call and process, its calls and failures, and whether times are taken
    let cases = [
        (own(json!({"syscall": "openat"})), Some(("openat", 0, "", CALLS, true))),
        (own(json!({"syscall": ["read", "openat"], "latency": false})), Some(("openat", 0, "", CALLS, false))),
        (own(json!({"syscall": "openat", "failed": true})), Some(("openat", 0, "", CALLS, true))),
        (own(json!({"syscall": "openat", "by": "process"})), Some(("all", pid, comm.as_str(), CALLS, true))),
        (own(json!({"syscall": "openat", "by": "both"})), Some(("openat", pid, comm.as_str(), CALLS, true))),
        (own(json!({"syscall": "openat", "pid": pid})), Some(("openat", 0, "", CALLS, true))),
        (own(json!({"syscall": "openat", "failed": false})), None),
        (own(json!({"syscall": "openat", "pid": {"not": pid}})), None),
        (own(json!({"syscall": "openat2"})), None),
        (json!({"comm": unique_name()}), None),
    ];
    retry(|| {
        let probe = |(i, (filters, _)): (usize, &(Json, _))| json!({"program": "syscount", "name": format!("p{i}"), "filters": filters});
        let mut probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
        probes.push(json!({"program": "syscount", "name": "any"}));
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(json!(probes)), &[]);
        let start = Instant::now();
        as_command(&comm, || (0..CALLS).for_each(|_| _ = File::open("/no/such/file").expect_err("it is not there")));
        let took = start.elapsed();
        let records = records(&capture.stop().expect(0).stdout);
        for (i, (filters, wanted)) in cases.iter().enumerate() {
            let rows = of_probe(&records, &format!("p{i}"));
            let Some((syscall, pid, comm, calls, timed)) = *wanted else {
                assert_eq!(rows.len(), 0, "{filters}: {rows:?}");
                continue;
            };
            let [row] = rows.as_slice() else { return Err(format!("{filters}: {rows:?}")) };
            assert_eq!((row["syscall"].as_str(), row["comm"].as_str()), (Some(syscall), Some(comm)), "{filters}");
            assert_eq!(number(row, "pid"), u64::from(pid), "{filters}");
            let found = (number(row, "calls"), number(row, "failed"));
            assert!(found.0 <= calls && found.1 <= found.0, "{found:?} of {calls} with {filters}");
            if found != (calls, calls) {
                return Err(format!("{found:?} of {calls} with {filters}"));
            }
            let total = number(row, "total_ns");
            assert!(
                if timed { total > 0 && u128::from(total) < took.as_nanos() } else { total == 0 },
                "{took:?}: {row}"
            );
        }
        let all = of_probe(&records, "any").into_iter().find(|row| row["syscall"] == "openat").expect("a row");
        let enough = number(all, "calls") >= CALLS && number(all, "failed") >= CALLS;
        if enough { Ok(()) } else { Err(format!("{all}")) }
    });
}

/// The trap of maps with a value for each CPU: a reader needs room for every possible one. Each gets calls of its own number.
#[test]
fn each_cpu_has_its_own_counters() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let comm = unique_name();
    let filters = json!({"comm": comm, "syscall": "getppid"});
    let capture = Capture::start(
        &scratch,
        &to_jsonl_of_busy(json!([
            {"program": "syscount", "name": "each", "per_cpu": true, "filters": filters},
            {"program": "syscount", "name": "together", "filters": filters},
        ])),
        &[],
    );
    let set = rustix::thread::sched_getaffinity(None).expect("CPUs");
    let cpus: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
    let calls = |cpu: usize| CALLS + 10 * cpu as u64;
    let load = {
        let cpus = cpus.clone();
        move || {
            for cpu in cpus {
                pin(None, cpu);
                (0..calls(cpu)).for_each(|_| _ = rustix::process::getppid());
            }
        }
    };
    as_command(&comm, load);
    let records = records(&capture.stop().expect(0).stdout);
    let each = of_probe(&records, "each");
    let mut found: Vec<(usize, u64)> =
        each.iter().map(|row| (number(row, "cpu") as usize, number(row, "calls"))).collect();
    found.sort_unstable();
    assert_eq!(found, cpus.iter().map(|&cpu| (cpu, calls(cpu))).collect::<Vec<_>>());
    let together = of_probe(&records, "together");
    assert_eq!(together.len(), 1, "{together:?}");
    assert_eq!(number(together[0], "calls"), cpus.iter().map(|&cpu| calls(cpu)).sum::<u64>());
}

/// A child returns from a call that its parent made, and after a signal a call returns that has lost its number.
#[test]
fn forks_count_once_and_signals_do_not_confuse() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (shell, comm) = copy_of(&scratch, "sh");
    let script = "trap : USR1; i=0; while [ $i -lt 7 ]; do (:); kill -USR1 $$; i=$((i + 1)); done";
    let load = Held::new(Path::new("/bin/sh"), &shell, ["-c", script]);
    let pid = load.pid();
    let forks = ["clone", "clone3", "fork", "vfork"];
    let probes = json!([
        {"program": "syscount", "name": "timed", "filters": {"comm": comm, "syscall": forks}},
        {"program": "syscount", "name": "untimed", "filters": {"comm": comm, "syscall": forks, "latency": false}},
        {"program": "syscount", "name": "signals", "filters": {"pid": pid, "comm": comm, "syscall": ["rt_sigreturn", "kill"]}},
        {"program": "syscount", "name": "untimed-signals", "filters": {"pid": pid, "comm": comm, "syscall": ["rt_sigreturn", "kill"], "latency": false}},
    ]);
    let capture = Capture::start(&scratch, &to_jsonl_of_busy(probes), &[]);
    let start = Instant::now();
    assert_eq!(load.go(), Some(0));
    let took = start.elapsed().as_nanos() as u64;
    let records = records(&capture.stop().expect(0).stdout);
    let calls = |probe: &str, names: &[&str]| -> u64 {
        let rows = of_probe(&records, probe).into_iter();
        rows.filter(|row| names.iter().any(|name| row["syscall"] == *name))
            .inspect(|row| assert!(number(row, "total_ns") < took, "{row}"))
            .map(|row| number(row, "calls"))
            .sum()
    };
    assert_eq!((calls("timed", &forks), calls("untimed", &forks)), (7, 7), "{records:#?}");
    for probe in ["signals", "untimed-signals"] {
        assert_eq!(calls(probe, &["kill"]), 7, "{records:#?}");
        // A shell may take SIGCHLD too
        let returns = calls(probe, &["rt_sigreturn"]);
        assert!((7..=14).contains(&returns), "{returns}: {records:#?}");
    }
}
