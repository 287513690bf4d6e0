//! Buffers and wakeups: every combination brings every record, in time, and nothing stays behind.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::time::ClockId;
use serde_json::{Value as Json, json};

use crate::capture::{Capture, complete, records, report, to_jsonl, to_jsonl_of_busy};
use crate::common::Scratch;
use crate::load::{clock, failing_calls, unique_name, wait_until};
use crate::root;
use crate::sched::{one_cpu, pin};

/// Every kind of buffer with every wakeup that it can have.
fn all() -> Vec<Json> {
    let wakeups = [
        json!("auto"),
        json!("every_event"),
        json!({"events": 7}),
        json!({"bytes": "8KiB"}),
        json!({"interval": "20ms"}),
    ];
    let mut buffers = vec![json!({"wakeup": "adaptive"}), json!({"submit": "output", "wakeup": "adaptive"})];
    for wakeup in wakeups {
        buffers.push(json!({"type": "ringbuf", "submit": "reserve", "wakeup": wakeup}));
        buffers.push(json!({"type": "ringbuf", "submit": "output", "wakeup": wakeup}));
        buffers.push(json!({"type": "perfbuf", "wakeup": wakeup}));
    }
    buffers
}

fn probe(comm: &str, buffer: &Json) -> Json {
    json!({"program": "execsnoop", "name": "p", "filters": {"comm": comm}, "buffer": buffer})
}

#[test]
fn every_combination_brings_every_record_and_the_books_balance() {
    if !root() {
        return;
    }
    for buffer in all() {
        let (scratch, comm) = (Scratch::new(), unique_name());
        let path = scratch.path("report.json");
        let args = ["--report", path.to_str().expect("text")];
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(json!([probe(&comm, &buffer)])), &args);
        // Slow enough for the smallest buffer; and the last ones cross no threshold: only the end of the window fetches them
        failing_calls(&comm, 300, 10, |_| thread::sleep(Duration::from_micros(50))).join().expect("no panic");
        let ended = capture.stop().expect(0);
        let found = records(&ended.stdout).len();
        complete(found, 300, &ended);
        let report = report(&scratch);
        let account = &report["probes"][0];
        assert_eq!(report["reconciles"], true, "{buffer}: {report}");
        assert_eq!(
            (&account["seen"], &account["written"], &account["lost"]),
            (&json!(found), &json!(found), &json!(0)),
            "{buffer}"
        );
    }
}

#[test]
fn no_record_waits_longer_than_max_latency_whatever_the_wakeup() {
    if !root() {
        return;
    }
    for mut buffer in all() {
        if buffer["wakeup"].get("interval").is_none() {
            buffer["max_latency"] = json!("50ms");
        }
        let (scratch, comm) = (Scratch::new(), unique_name());
        let (capture, stdout) = Capture::start_piped(&scratch, &to_jsonl_of_busy(json!([probe(&comm, &buffer)])), &[]);
        let mut lines = BufReader::new(stdout).lines();
        let mut best = i64::MAX;
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(30));
            failing_calls(&comm, 1, 10, |_| ()).join().expect("no panic");
            let line = lines.next().expect("a line").expect("text");
            let record: Json = serde_json::from_str(&line).expect("JSON");
            best = best.min(clock(ClockId::Monotonic) - record["ts"].as_i64().expect("a number"));
        }
        // A busy machine may be late once; if it is late five times, it is the buffer
        assert!(best < 70_000_000, "{buffer}: {best} ns at best");
        assert_eq!(capture.stop().code, Some(0));
    }
}

/// Does `work` while the runner is stopped, all of its threads.
fn asleep(capture: &Capture, work: impl FnOnce()) {
    capture.signal(Signal::STOP);
    let tasks = format!("/proc/{}/task", capture.pid());
    let stopped = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat"))).unwrap_or_default();
        stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('T')
    };
    wait_until("it does not stop", || std::fs::read_dir(&tasks).expect("it is there").all(stopped));
    work();
    capture.signal(Signal::CONT);
}

/// A flood while the runner is asleep: what does not fit is lost, and said in the stream where it is missing.
#[test]
fn the_stream_says_how_many_records_are_missing() {
    if !root() {
        return;
    }
    for buffer in [
        json!({"size": "16KiB"}),
        json!({"size": "16KiB", "submit": "output"}),
        json!({"type": "perfbuf", "size": "16KiB"}),
    ] {
        let (scratch, comm) = (Scratch::new(), unique_name());
        let path = scratch.path("report.json");
        let args = ["--report", path.to_str().expect("text")];
        let (capture, stdout) = Capture::start_piped(&scratch, &to_jsonl(json!([probe(&comm, &buffer)])), &args);
        let (sender, written) = channel();
        let reading = thread::spawn(move || {
            let mut read = BufReader::new(stdout).lines().map(|line| line.expect("text"));
            read.try_for_each(|line| sender.send(line))
        });
        let json = |line: String| serde_json::from_str::<Json>(&line).expect("JSON");
        let (mut told, mut lines) = (Vec::new(), Vec::<Json>::new());
        // Of one CPU: a perf buffer is one for each, and the size below is for all that this one was given
        let cpu = one_cpu();
        let flood = || failing_calls(&comm, 100, 10, move |_| pin(None, cpu)).join().expect("no panic");
        for _ in 0..3 {
            asleep(&capture, flood);
            // Until it has found out
            while lines.last().is_none_or(|line| line.get("lost").is_none()) {
                lines.push(json(written.recv_timeout(Duration::from_secs(60)).expect("a line")));
            }
            told.append(&mut lines);
        }
        capture.stop().expect(3);
        reading.join().expect("no panic").expect("it is read");
        told.extend(written.iter().map(json));
        let (gaps, events): (Vec<&Json>, Vec<&Json>) = told.iter().partition(|line| line.get("lost").is_some());
        let missing: u64 = gaps.iter().map(|gap| gap["lost"].as_u64().expect("a number")).sum();
        assert_eq!(missing + events.len() as u64, 300, "{buffer}: {gaps:?}");
        assert!(gaps.len() >= 3, "one for each flood: {gaps:?}");
        assert!(gaps.iter().all(|gap| gap["cause"] == "buffer full" && gap["probe"] == "p"), "{gaps:?}");
        let report = report(&scratch);
        let account = &report["probes"][0];
        assert_eq!((&account["lost_buffer_full"], &report["reconciles"]), (&json!(missing), &json!(true)), "{report}");
        assert_eq!(report["exit_code"], 3);

        // And the size that the report asks for would have held it
        let size = account["buffer"]["suggested_size"].as_u64().expect("a number");
        let mut larger = buffer.clone();
        larger["size"] = json!(format!("{size}B"));
        let capture = Capture::start(&scratch, &to_jsonl(json!([probe(&comm, &larger)])), &args);
        asleep(&capture, flood);
        let ended = capture.stop().expect(0);
        assert_eq!(records(&ended.stdout).len(), 100, "{larger}");
    }
}

#[test]
fn records_of_several_cpus_are_sorted_on_demand() {
    if !root() {
        return;
    }
    let (scratch, comm) = (Scratch::new(), unique_name());
    let mut probe = probe(&comm, &json!({"type": "perfbuf", "wakeup": {"interval": "20ms"}}));
    probe["order"] = json!("time");
    let capture = Capture::start(&scratch, &to_jsonl_of_busy(json!([probe])), &[]);
    let started = Instant::now();
    let loads: Vec<_> =
        (0..4).map(|_| failing_calls(&comm, 100, 10, |_| thread::sleep(Duration::from_micros(300)))).collect();
    loads.into_iter().for_each(|load| load.join().expect("no panic"));
    assert!(started.elapsed() < Duration::from_secs(10));
    let ended = capture.stop().expect(0);
    let times: Vec<u64> =
        records(&ended.stdout).iter().map(|record| record["ts"].as_u64().expect("a number")).collect();
    complete(times.len(), 400, &ended);
    assert!(times.is_sorted());
    assert!(!ended.stderr.contains("out of order"), "{}", ended.stderr);
}

/// The three ways of `examples/`: the same load gives the same records.
#[test]
fn the_three_ways_of_sending_an_event_bring_the_same_records() {
    if !root() {
        return;
    }
    let ways = ["perfbuf", "ringbuf-output", "ringbuf-reserve"];
    let (scratch, comm) = (Scratch::new(), unique_name());
    let probes: Vec<Json> = ways
        .iter()
        .map(|way| {
            let path = format!("{}/examples/exec-{way}.yaml", env!("CARGO_MANIFEST_DIR"));
            let yaml = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let config: Json = serde_yaml::from_str(&yaml).expect("YAML");
            let mut probe = config["probes"][0].clone();
            probe["name"] = json!(way);
            probe["filters"] = json!({"comm": comm});
            probe
        })
        .collect();
    let capture = Capture::start(&scratch, &to_jsonl_of_busy(json!(probes)), &[]);
    failing_calls(&comm, 200, 30, |_| thread::sleep(Duration::from_micros(100))).join().expect("no panic");
    let ended = capture.stop().expect(0);
    let records = records(&ended.stdout);
    let of = |way: &str| -> Vec<Json> {
        let mine = records.iter().filter(|record| record["probe"] == way).cloned();
        // Each program takes its own time stamp
        let mut mine: Vec<(u64, Json)> = mine
            .map(|mut record| {
                let ts = record["ts"].as_u64().expect("a number");
                for key in ["ts", "time", "probe"] {
                    record.as_object_mut().expect("an object").remove(key);
                }
                (ts, record)
            })
            .collect();
        mine.sort_by_key(|(ts, _)| *ts);
        mine.into_iter().map(|(_, record)| record).collect()
    };
    let all = ways.map(of);
    all.iter().for_each(|records| complete(records.len(), 200, &ended));
    if all.iter().all(|records| records.len() == 200) {
        assert_eq!(all[0], all[1]);
        assert_eq!(all[0], all[2]);
    }
}
