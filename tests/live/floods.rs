//! Floods: opens as fast as a thread can make them, against buffers that are too small and sinks that stand still.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value as Json, json};

use crate::capture::{Capture, report, to_jsonl};
use crate::common::Scratch;
use crate::load::{flood_of_opens, pipe, unique_name};
use crate::root;

/// What the runner itself may take, besides the queue. Buffers and its own code are no memory of this kind.
const OWN_BYTES: u64 = 24 << 20;
/// What may wait for the sinks.
const QUEUE_BYTES: u64 = 64 << 20;

fn probe(comm: &str, buffer: &Json) -> Json {
    json!({"program": "opensnoop", "name": "opens", "filters": {"comm": comm}, "buffer": buffer})
}

/// The memory that a process has of its own now, bytes: no code, and no mapped buffers.
fn own_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// What JSON Lines say: how many records, and how many are missing by which cause.
fn told(lines: &str) -> (u64, u64, u64) {
    let (mut records, mut full, mut slow) = (0, 0, 0);
    for line in lines.lines() {
        // Most are records, and there are many
        if !line.contains("\"lost\":") {
            records += 1;
            continue;
        }
        let gap: Json = serde_json::from_str(line).expect("JSON");
        let lost = gap["lost"].as_u64().expect("a number");
        match gap["cause"].as_str() {
            Some("buffer full") => full += lost,
            Some("sinks too slow") => slow += lost,
            other => panic!("{other:?}"),
        }
    }
    (records, full, slow)
}

#[test]
fn the_smallest_ring_loses_a_lot_and_the_books_balance_to_the_record() {
    if !root() {
        return;
    }
    const CALLS: u64 = 50_000;
    for round in 0..10 {
        let (scratch, comm) = (Scratch::new(), unique_name());
        let path = scratch.path("report.json");
        // 4 KiB are full in far less than 10 ms. A reader that is woken in time may keep up, with a CPU to itself
        let loses = round % 2 == 0;
        let wakeup = if loses { json!({"interval": "10ms"}) } else { json!("auto") };
        let config = to_jsonl(json!([probe(&comm, &json!({"size": "4KiB", "wakeup": wakeup}))]));
        let capture = Capture::start(&scratch, &config, &["--report", path.to_str().expect("text")]);
        flood_of_opens(&comm, CALLS as usize, "/no/such/file").join().expect("no panic");
        let ended = capture.stop();
        let report = report(&scratch);
        let account = &report["probes"][0];
        let number = |key: &str| account[key].as_u64().expect("a number");
        let (written, lost) = (number("written"), number("lost"));
        let ended = ended.expect(if lost > 0 { 3 } else { 0 });
        assert_eq!(written + lost, CALLS, "round {round}: {report}");
        assert_eq!((&report["reconciles"], number("lost_buffer_full")), (&json!(true), lost), "round {round}");
        assert!(written > 0 && (!loses || lost > CALLS / 100), "round {round}: {lost} of {CALLS} lost");
        assert_eq!(told(&ended.stdout), (written, lost, 0), "round {round}");
    }
}

/// The reader of a pipe sleeps while more comes than may wait: the rest is dropped and counted, memory has its bound, and
/// neither the kernel nor the traced process waits for anybody.
#[test]
fn a_sink_that_sleeps_costs_a_bounded_memory_and_then_counted_losses() {
    if !root() {
        return;
    }
    const CALLS: u64 = 500_000;
    let (scratch, comm) = (Scratch::new(), unique_name());
    let (fifo, report_path) = (scratch.path("pipe"), scratch.path("report.json"));
    let mut config = to_jsonl(json!([probe(&comm, &json!({"size": "8MiB"}))]));
    config["sinks"] = json!({"pipe": {"type": "jsonl", "path": fifo}});
    let args = ["--report", report_path.to_str().expect("text")];
    let (mut reader, capture) = pipe(&fifo, || Capture::start(&scratch, &config, &args));
    // Long paths make long records: three times what may wait
    let path = format!("/no/such/{}", "f".repeat(200));
    let flood = flood_of_opens(&comm, CALLS as usize, &path);
    let (mut peak, mut over) = (0, None);
    // It is watched until some time after the flood: the last look into the buffer
    while over.is_none_or(|over: Instant| over.elapsed() < Duration::from_millis(300)) {
        if over.is_none() && flood.is_finished() {
            over = Some(Instant::now());
        }
        peak = peak.max(own_memory(capture.pid()));
        thread::sleep(Duration::from_millis(2));
    }
    let took = flood.join().expect("no panic");
    assert!(took < Duration::from_secs(15), "{took:?}: something waited");
    assert!(peak > QUEUE_BYTES / 2, "{} MiB: nothing waits for the sink", peak >> 20);
    let bound = OWN_BYTES + QUEUE_BYTES;
    assert!(peak < bound, "{} MiB of {} MiB", peak >> 20, bound >> 20);
    capture.signal(Signal::INT);
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    let ended = capture.wait().expect(3).says(&["the sinks were too slow"]);
    let text = reading.join().expect("it does not panic").expect("it can be read");
    let report = report(&scratch);
    let number = |key: &str| report["probes"][0][key].as_u64().expect("a number");
    assert_eq!(report["reconciles"], true, "{report}");
    assert_eq!(number("written") + number("lost"), CALLS, "{}", ended.stderr);
    assert!(number("lost_sink") > CALLS / 10, "{report}");
    assert_eq!(told(&text), (number("written"), number("lost_buffer_full"), number("lost_sink")));
}

/// The reader of a pipe goes away: that ends the capture quietly, and what nobody read is no loss.
#[test]
fn a_sink_that_goes_away_ends_the_capture() {
    if !root() {
        return;
    }
    const CALLS: u64 = 100_000;
    let (scratch, comm) = (Scratch::new(), unique_name());
    let (fifo, report_path) = (scratch.path("pipe"), scratch.path("report.json"));
    let mut config = to_jsonl(json!([probe(&comm, &json!({"size": "8MiB"}))]));
    config["sinks"] = json!({"pipe": {"type": "jsonl", "path": fifo}});
    let args = ["--report", report_path.to_str().expect("text")];
    let (reader, capture) = pipe(&fifo, || Capture::start(&scratch, &config, &args));
    let flood = flood_of_opens(&comm, CALLS as usize, "/no/such/file");
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a record");
    drop(reader);
    let ended = capture.wait().expect(0).says(&["the reader closed the output"]);
    flood.join().expect("no panic");
    assert!(!ended.stderr.contains("error"), "{}", ended.stderr);
    let report = report(&scratch);
    assert_eq!((&report["reconciles"], &report["window"]["ended_by"]), (&json!(true), &json!("closed")), "{report}");
    let first: Json = serde_json::from_str(&line).expect("JSON");
    assert_eq!(first["path"], "/no/such/file");
}
