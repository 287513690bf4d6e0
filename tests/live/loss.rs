//! Loss: every event that a program wanted to send is in the output or in the books, to the record.

use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::capture::{Capture, records, report, summary, to_jsonl};
use crate::common::{Ended, Scratch, run};
use crate::disk::Loop;
use crate::load::{copy_of, failing_calls, unique_name};
use crate::root;

/// A flood of `count` failed calls into the smallest buffer, while the runner gets hold of a CPU only now and then: what
/// a machine at its limit does to it.
fn flood(count: usize, max_loss: &str) -> Ended {
    let scratch = Scratch::new();
    let comm = unique_name();
    let probe =
        json!([{"program": "execsnoop", "name": "flood", "filters": {"comm": comm}, "buffer": {"size": "8KiB"}}]);
    let mut config = to_jsonl(probe);
    config["max_loss"] = json!(max_loss);
    let capture = Capture::start(&scratch, &config, &[]);
    capture.signal(Signal::STOP); // something is lost for certain
    let load = failing_calls(&comm, count, 10, |_| ());
    while !load.is_finished() {
        thread::sleep(Duration::from_millis(20));
        capture.signal(Signal::CONT);
        thread::sleep(Duration::from_millis(5)); // and something arrives
        capture.signal(Signal::STOP);
    }
    capture.signal(Signal::CONT);
    load.join().expect("the load does not panic");
    capture.stop()
}

/// Received and written, lost.
fn books(ended: &Ended) -> (u64, u64) {
    let [received, written, lost] = summary(ended, "flood");
    assert_eq!(records(&ended.stdout).len() as u64, written, "what is written is there");
    assert_eq!(received, written);
    assert!(received > 0 && lost > 0, "{received} received, {lost} lost");
    let cause = format!("({lost}: the buffer was full)");
    assert!(ended.stderr.contains(&cause), "`{cause}` is missing in:\n{}", ended.stderr);
    assert!(!ended.stderr.contains("do not reconcile"), "{}", ended.stderr);
    (received, lost)
}

#[test]
fn what_a_full_buffer_loses_is_counted_to_the_record() {
    if !root() {
        return;
    }
    let ended = flood(1000, "0%").expect(3);
    let (received, lost) = books(&ended);
    assert_eq!(received + lost, 1000);
    ended.says(&[&format!("error: {lost} of 1000 events were lost"), "max_loss is 0%", "hint: ", "buffer.size"]);
}

#[test]
fn loss_that_is_allowed_is_told_and_no_failure() {
    if !root() {
        return;
    }
    let ended = flood(500, "100%").expect(0);
    let (received, lost) = books(&ended);
    assert_eq!(received + lost, 500);
    assert!(!ended.stderr.contains("error"), "{}", ended.stderr);
}

#[test]
fn a_record_that_a_template_fails_on_is_lost_and_the_others_are_not() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let caller = unique_name();
    let config = json!({
        "version": 1,
        "probes": [{"program": "execsnoop", "filters": {"comm": [comm, caller]}}],
        "sinks": {
            "screen": {"type": "stdout", "template": "{{ ret }} {{ 10 // ret }}"}, // by zero, of what worked
            "table": {"type": "csv", "columns": ["ret"], "path": scratch.path("table")},
        },
    });
    let capture = Capture::start(&scratch, &config, &[]);
    failing_calls(&caller, 1, 1, |_| ()).join().expect("the load does not panic");
    run(&mut Command::new(program)).expect(0);
    failing_calls(&caller, 1, 1, |_| ()).join().expect("the load does not panic");
    let ended = capture.stop().expect(3).says(&["(1: a template failed)", "sink `screen`: ", "10 // 0"]);
    assert_eq!(summary(&ended, "execsnoop"), [3, 2, 1]);
    assert_eq!(ended.stdout, "-2 -5\n-2 -5\n");
    let table = std::fs::read_to_string(scratch.path("table")).expect("the table is there");
    assert_eq!(table, "ret\n-2\n0\n-2\n", "the other sink has it");
}

/// Four processes work on a disk at the same time, and the program may follow one request.
#[test]
fn what_a_full_map_can_not_follow_is_counted() {
    if !root() {
        return;
    }
    const READERS: u64 = 4;
    const READS: u64 = 2000;
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 8 << 20);
    let (dd, comm) = copy_of(&scratch, "dd");
    let filters = json!({"comm": comm, "device": disk.name}); // its own files it may have to read from another disk
    let buffer = json!({"size": "8MiB"}); // has room for all of them
    let probe = json!([{"program": "biosnoop", "filters": filters, "maps": {"inflight": 1}, "buffer": buffer}]);
    let path = scratch.path("report.json");
    let args = ["--report", path.to_str().expect("text")];
    let capture = Capture::start(&scratch, &to_jsonl(probe), &args);
    let path = disk.path.display();
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let args = [format!("if={path}"), "of=/dev/null".into(), "bs=4k".into(), format!("count={READS}")];
                run(Command::new(&dd).args(args).arg("iflag=direct")).expect(0);
            });
        }
    });
    let ended = capture.stop().expect(3);
    let [received, _, lost] = summary(&ended, "biosnoop");
    assert!(ended.stderr.contains(&format!("({lost}: the map `inflight` was full)")), "{}", ended.stderr);
    assert_eq!(report(&scratch)["probes"][0]["maps"], json!({"inflight": {"max_entries": 1, "insert_failures": lost}}));
    // A completion that the host hides is neither: it may have been any request's (docs/explanation/limits.md)
    assert!((READERS * READS - 100..=READERS * READS).contains(&(received + lost)), "{received} + {lost}");
    ended.says(&["hint: ", "for biosnoop, try maps: {inflight: 4}"]);
}
