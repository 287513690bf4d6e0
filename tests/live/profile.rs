//! `profile`: a thread that is known to be busy, in its own function.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::{Scratch, run};
use crate::load::unique_name;
use crate::root;
use crate::sched::{Worker, alone, burn_in_the_test, work};

fn samples<'a>(rows: impl IntoIterator<Item = &'a Json>) -> f64 {
    rows.into_iter().map(|row| row["samples"].as_f64().expect("a number")).sum()
}

#[test]
fn a_busy_loop_is_found_as_often_as_it_runs_and_by_name() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let _alone = alone();
    let name = unique_name();
    let worker = Worker::new(&name, None, || burn_in_the_test(Duration::from_millis(1500)));
    let tid = worker.tid;
    let probe = |name: &str, filters: Json| json!({"program": "profile", "name": name, "filters": filters});
    let probes = json!([
        probe("clock", json!({"comm": name, "event": "cpu_clock"})),
        probe("often", json!({"tid": tid, "event": "cpu_clock", "frequency": "497Hz", "user_stacks": false})),
        probe("auto", json!({"comm": name, "user_stacks": false})),
        probe("none", json!({"event": "cpu_clock", "user_stacks": false})),
        probe("elsewhere", json!({"pid": {"not": std::process::id()}, "comm": name})),
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    let [spent] = work([worker]);
    let rows = records(&capture.stop().expect(0).stdout);
    let seconds = spent.cpu / 1e9;
    let expect = |what: &str, found: f64, hz: f64| {
        // A CPU that is stopped from outside, as that of a virtual machine, loses ticks
        let sound = (0.4 * hz * seconds - 5.0)..=(1.2 * hz * seconds + 5.0);
        assert!(sound.contains(&found), "{what}: {found} samples in {seconds} s on a CPU");
    };
    expect("clock", samples(of_probe(&rows, "clock")), 99.0);
    expect("often", samples(of_probe(&rows, "often")), 497.0);
    let mine = |probe| samples(of_probe(&rows, probe).into_iter().filter(|row| row["comm"] == name));
    expect("none", mine("none"), 99.0);
    assert!(samples(of_probe(&rows, "auto")) > 20.0 * seconds, "whatever it is sampled by");
    let frames = |row: &Json, stack: &str| {
        let frames = row[stack].as_array().cloned().unwrap_or_default();
        frames.iter().filter_map(|frame| frame.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let named = of_probe(&rows, "clock").into_iter();
    let named = named.filter(|row| frames(row, "user_stack").iter().any(|f| f.contains("burn_in_the_test")));
    assert!(samples(named) > 0.8 * samples(of_probe(&rows, "clock")), "{rows:#?}");
    assert!(of_probe(&rows, "often").into_iter().all(|row| frames(row, "user_stack").is_empty()));
    assert!(of_probe(&rows, "none").into_iter().all(|row| row["pid"] != 0), "idle CPUs are not asked for");
    assert_eq!(of_probe(&rows, "elsewhere").len(), 0);
}

/// Built with frame pointers, as a stack of several functions needs them. It burns half a second of CPU time once it gets
/// a byte, answers with one, and stays until its input ends, as symbols are read from the process.
const NESTED: &str = r#"
#include <time.h>
#include <unistd.h>
static volatile unsigned long steps;
__attribute__((noinline)) void inner_of_the_test(void)
{
	while (clock() < CLOCKS_PER_SEC / 2)
		for (int i = 0; i < 1000000; i++)
			steps++;
	steps++;
}
__attribute__((noinline)) void outer_of_the_test(void)
{
	inner_of_the_test();
	steps++;
}
int main(void)
{
	char byte;
	if (read(0, &byte, 1) != 1)
		return 1;
	outer_of_the_test();
	if (write(1, &byte, 1) != 1)
		return 1;
	return read(0, &byte, 1) != 0;
}
"#;

/// One line a stack, outermost function first, as the tools for flame graphs read it.
#[test]
fn folded_stacks_are_lines_for_flame_graphs() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let name = unique_name();
    let (source, program) = (scratch.write("nested.c", NESTED), scratch.path(&name));
    run(Command::new("cc").args(["-O1", "-fno-omit-frame-pointer", "-o"]).arg(&program).arg(&source)).expect(0);
    let mut load = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let template = "{{ comm }};{{ user_stack | folded }} {{ samples }}";
    let config = json!({
        "version": 1,
        "probes": [{"program": "profile", "filters": {"comm": name, "event": "cpu_clock", "frequency": "199Hz"}}],
        "sinks": {"out": {"type": "stdout", "template": template}},
    });
    let capture = Capture::start(&scratch, &config, &[]);
    load.stdin.as_mut().expect("it is piped").write_all(b"x").expect("it waits");
    load.stdout.as_mut().expect("it is piped").read_exact(&mut [0]).expect("it answers");
    let out = capture.stop().expect(0).stdout;
    drop(load.stdin.take());
    assert!(load.wait().expect("it ends").success());
    let mut found = 0;
    for line in out.lines() {
        let (stack, samples) = line.rsplit_once(' ').expect("a number at its end");
        assert!(stack.starts_with(&format!("{name};")), "{line}");
        if stack.contains(";main;outer_of_the_test;inner_of_the_test") {
            found += samples.parse::<u32>().expect("a number");
        }
    }
    assert!(found > 20, "of about 100 samples {found} are in this stack:\n{out}");
}
