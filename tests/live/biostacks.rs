//! `biostacks` against reads and writes of the test's own: whose they are, how many, and how the kernel came to start them.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl_of_busy};
use crate::common::Scratch;
use crate::disk::{BLOCKS, Loop, reads_and_writes, retry};
use crate::load::{copy_of, unique_name};
use crate::root;

/// The requests of `comm` on `device` whose stacks go through `function`.
fn through(rows: &[&Json], comm: &str, device: &str, function: &str) -> u64 {
    let fits = |row: &&&Json| row["row"] == "summary" && row["comm"] == comm && row["device"] == device;
    let goes = |row: &&&Json| row["kernel_stack"].as_array().expect("a list").iter().any(|frame| frame == function);
    rows.iter().filter(fits).filter(goes).map(|row| row["count"].as_u64().expect("a count")).sum()
}

#[test]
fn stacks_are_those_of_who_started_the_requests() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 1 << 20);
    let (dd, comm) = copy_of(&scratch, "dd");
    let (all, none) = ([BLOCKS, BLOCKS], [0, 0]);
    retry(|| {
        let load = reads_and_writes(Path::new("/bin/sh"), &dd, &disk);
        let pid = load.pid();
        let cases = [
            (json!({"pid": pid}), all),
            (json!({"comm": comm, "device": disk.name, "queued": true}), all),
            (json!({"pid": pid, "op": "read"}), [BLOCKS, 0]),
            (json!({"pid": pid, "device": "nosuch0"}), none),
            (json!({"comm": unique_name()}), none),
            (json!({}), all),
        ];
        let probe = |(i, (filters, _)): (usize, &(Json, _))| json!({"program": "biostacks", "name": format!("p{i}"), "filters": filters});
        let mut probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
        let folded = scratch.path("folded");
        probes[0]["sinks"] = json!(["out", "folded"]);
        probes[1..].iter_mut().for_each(|probe| probe["sinks"] = json!(["out"]));
        let mut config = to_jsonl_of_busy(json!(probes));
        let template = "{{ comm }};{{ device }};{{ kernel_stack | folded }} {{ sum }}";
        config["sinks"]["folded"] = json!({"type": "stdout", "path": folded, "template": template});
        let capture = Capture::start(&scratch, &config, &[]);
        assert_eq!(load.go(), Some(0));
        let records = records(&capture.stop().expect(0).stdout);
        for (i, (filters, wanted)) in cases.iter().enumerate() {
            let rows = of_probe(&records, &format!("p{i}"));
            let counts = ["vfs_read", "vfs_write"].map(|function| through(&rows, &comm, &disk.name, function));
            assert!(counts[0] <= wanted[0] && counts[1] <= wanted[1], "{counts:?} of {wanted:?} with {filters}");
            if counts != *wanted {
                return Err(format!("{counts:?} of {wanted:?} with {filters}"));
            }
        }
        // One line a stack, as tools for flame graphs want it: outermost first, a number at the end
        let lines = fs::read_to_string(&folded).expect("it is there");
        let summaries = of_probe(&records, "p0").into_iter().filter(|row| row["row"] == "summary");
        let mut expected: Vec<String> = summaries
            .map(|row| {
                let frames = row["kernel_stack"].as_array().expect("a list").iter().rev();
                let frames: Vec<&str> = frames.map(|frame| frame.as_str().expect("text")).collect();
                // Nor the program itself, which is no part of the story
                assert!(frames.last().is_none_or(|innermost| !innermost.contains("bpf")), "{frames:?}");
                format!("{comm};{};{} {}", row["device"].as_str().expect("text"), frames.join(";"), row["sum"])
            })
            .collect();
        let mut lines: Vec<&str> = lines.lines().collect();
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected);
        Ok(())
    });
}
