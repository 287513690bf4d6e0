//! `runqslower`: waits for a CPU against the kernel's own account of them, and the filters.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::{NOBODY, Scratch, run};
use crate::load::{Held, copy_of, unique_name};
use crate::root;
use crate::sched::{Spent, Worker, alone, hidden, one_cpu, pin, spin_in_the_test, work};
use crate::task_filters::Cgroups;

const SPIN: Duration = Duration::from_millis(600);

fn latency(record: &Json) -> f64 {
    record["latency_ns"].as_f64().expect("a number")
}

/// Holds the records of a thread's waits against the kernel's account of them; returns how long they took together.
#[track_caller]
fn expect_books<'a>(waits: impl Iterator<Item = &'a Json>, spent: &Spent) -> f64 {
    let waits: Vec<f64> = waits.map(latency).collect();
    let (sum, count) = (waits.iter().sum::<f64>(), waits.len());
    assert!(count <= spent.times + 1 && count + 1 + hidden(spent.times) >= spent.times, "{count} waits of {spent:?}");
    // The two look at their clocks one after the other; where a hypervisor stops the CPU in between, it shows
    assert!((sum - spent.waited).abs() < 0.05 * spent.waited + 15e6, "{sum} of {spent:?}");
    sum
}

/// Two threads that both want one CPU: one always waits for the other.
#[test]
fn the_waits_are_those_that_the_kernel_counts() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let _alone = alone();
    let (cpu, names) = (one_cpu(), [unique_name(), unique_name()]);
    let workers = names.clone().map(|name| Worker::new(&name, Some(cpu), || spin_in_the_test(SPIN)));
    let tids = [workers[0].tid, workers[1].tid];
    let probes = json!([
        {"program": "runqslower", "name": "all", "filters": {"comm": names}},
        {"program": "runqslower", "name": "slow", "filters": {"comm": names, "min_latency": "1ms"}},
        {"program": "runqslower", "name": "one", "filters": {"tid": tids[0]}},
        {"program": "runqslower", "name": "process", "filters": {"pid": std::process::id(), "min_latency": "1ms"}},
        {"program": "runqslower", "name": "nobody", "filters": {"comm": unique_name()}},
        {"program": "runqslower", "name": "elsewhere", "filters": {"pid": {"not": std::process::id()}, "comm": names}},
        {"program": "runqslower", "name": "everybody", "filters": {"min_latency": "1ms"}},
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    let spent: [Spent; 2] = work(workers);
    let records = records(&capture.stop().expect(0).stdout);
    // Those of a worker, by its number, that took at least so long
    let waits = |probe: &str, tid: u32, least: f64| -> Vec<&Json> {
        let records = of_probe(&records, probe).into_iter();
        records.filter(|record| record["tid"] == tid && latency(record) >= least).collect()
    };
    for (i, tid) in tids.into_iter().enumerate() {
        let (spent, other) = (&spent[i], &names[1 - i]);
        assert!(spent.waited > 0.2 * spent.wall, "there was something to see: {spent:?}");
        let all = waits("all", tid, 0.0);
        expect_books(all.iter().copied().filter(|record| spent.covers(record)), spent);
        for record in &all {
            assert_eq!((&record["pid"], &record["cpu"]), (&json!(std::process::id()), &json!(cpu)), "{record}");
            assert_eq!(record["comm"], names[i], "{record}");
        }
        let for_other: Vec<_> = all.iter().filter(|record| record["prev_comm"] == *other).collect();
        assert!(for_other.iter().all(|record| record["prev_pid"] == std::process::id()), "{for_other:?}");
        // On a busy machine it may always be a third one
        assert!(!for_other.is_empty() || spent.cpu < 0.4 * spent.wall, "{all:?}");

        for probe in ["slow", "process", "everybody"] {
            assert!(of_probe(&records, probe).into_iter().all(|record| latency(record) >= 1e6), "{probe}");
            // Each probe looks at the clock for itself
            let count = waits(probe, tid, 0.0).len();
            let (least, most) = (waits("all", tid, 1.1e6).len(), waits("all", tid, 0.9e6).len());
            assert!(count + 1 >= least && count <= most + 1, "{probe}: {count}, not {least} to {most}");
        }
    }
    assert_eq!(waits("one", tids[0], 0.0).len(), waits("all", tids[0], 0.0).len());
    assert_eq!(of_probe(&records, "one").len(), waits("one", tids[0], 0.0).len());
    assert_eq!(of_probe(&records, "nobody").len(), 0);
    assert_eq!(of_probe(&records, "elsewhere").len(), 0);
}

/// A thread that sleeps and wakes while another one has its CPU.
#[test]
fn a_wait_begins_when_the_sleeper_is_woken() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let _alone = alone();
    let (cpu, name) = (one_cpu(), unique_name());
    let hog = Worker::new(&unique_name(), Some(cpu), || spin_in_the_test(SPIN));
    let naps = || (0..40).for_each(|_| std::thread::sleep(Duration::from_millis(5)));
    let sleeper = Worker::new(&name, Some(cpu), naps);
    let probes = json!([{"program": "runqslower", "filters": {"comm": name}}]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    let [_, spent] = work([hog, sleeper]);
    let records = records(&capture.stop().expect(0).stdout);
    let count = records.len();
    assert!(count + hidden(40) >= 40, "each nap ends with a wakeup, and a wait of some length: {count}");
    let sum = expect_books(records.iter().filter(|record| spent.covers(record)), &spent);
    assert!(sum < 0.9 * spent.wall, "the naps are no waits: {sum} of {spent:?}");
}

/// The filters are on the task that waits, which is not the one that runs when it is woken.
#[test]
fn the_filters_are_on_the_process_that_waits() {
    if !root() {
        return;
    }
    let Some(cgroups) = Cgroups::new() else {
        eprintln!("SKIPPED: cgroups of version 2 can't be made here");
        return;
    };
    let scratch = Scratch::new();
    let _alone = alone();
    let cpu = one_cpu();
    let (program, comm) = copy_of(&scratch, "sh");
    let (shell, before) = copy_of(&scratch, "sh");
    let count = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let held = [(); 3].map(|()| Held::new(&shell, &program, ["-c", count]));
    let [outer, inner, outside] = [0, 1, 2].map(|i: usize| held[i].pid());
    Cgroups::join(&cgroups.outer, outer);
    Cgroups::join(&cgroups.unit, inner);
    [outer, inner, outside].into_iter().for_each(|pid| pin(Some(pid), cpu));
    let name = |path: &std::path::Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let path = format!("/{}", name(&cgroups.outer));
    let start = format!("{}*", &comm[..comm.len() - 1]);
    let all = vec![outer, inner, outside];
    // Few probes: under emulation each takes seconds to load
    let cases: Vec<(Json, Vec<u32>)> = vec![
        (json!({"comm": start, "uid": "root", "pid": all}), all.clone()),
        (json!({"comm": {"not": [start, before]}, "pid": all}), vec![]),
        (json!({"uid": NOBODY, "pid": all}), vec![]),
        (json!({"pid": {"not": inner}, "comm": comm}), vec![outer, outside]),
        (json!({"cgroup": path, "comm": comm}), vec![outer, inner]),
        (json!({"cgroup": {"not": path}, "unit": {"not": name(&cgroups.unit)}, "comm": comm}), vec![outside]),
        (json!({"unit": name(&cgroups.unit), "comm": comm}), vec![inner]),
    ];
    let probes: Vec<Json> = (cases.iter().enumerate())
        .map(|(i, (filters, _))| json!({"program": "runqslower", "name": format!("p{i}"), "filters": filters}))
        .collect();
    let capture = Capture::start(&scratch, &to_jsonl(json!(probes)), &[]);
    let ends = held.map(|held| std::thread::spawn(|| held.go()));
    ends.into_iter().for_each(|end| assert_eq!(end.join().expect("no panic"), Some(0)));
    let records = records(&capture.stop().expect(0).stdout);
    for (i, (filters, expected)) in cases.iter().enumerate() {
        let mine = of_probe(&records, &format!("p{i}"));
        let seen = all.iter().copied().filter(|pid| mine.iter().any(|record| record["pid"] == *pid));
        assert_eq!(seen.collect::<Vec<_>>(), *expected, "{filters}");
    }
}

/// Thousands of threads that come and go leave nothing behind: the map has room for four.
#[test]
fn entries_go_with_their_threads() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let probes = |room: u32| json!([{"program": "runqslower", "filters": {"comm": comm}, "maps": {"waiting": room}}]);
    let capture = Capture::start(&scratch, &to_jsonl(probes(4)), &[]);
    (0..200).for_each(|_| drop(run(&mut Command::new(&program)).expect(0)));
    let ended = capture.stop().expect(0);
    assert!(records(&ended.stdout).len() >= 100, "{}", ended.stderr);
}
