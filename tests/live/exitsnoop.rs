//! `exitsnoop`: ends of every kind, of processes with one thread and with many, and every filter.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::Scratch;
use crate::load::{compiled, copy_of, unique_name, wait_until};
use crate::root;
use crate::task_filters::Cgroups;

/// Threads that end in every order. `exit()` of a thread alone is SYS_exit, of all of them exit().
const THREADS: &str = r#"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *how;
static pthread_barrier_t all;

static void *other(void *arg)
{
	prctl(PR_SET_NAME, "other-thread");
	pthread_barrier_wait(&all);
	if (!strcmp(how, "turn")) {
		usleep(10000 * (long)arg);
		return 0;
	}
	usleep(100000);
	if (!strcmp(how, "exit"))
		exit(5);
	if (!strcmp(how, "kill"))
		kill(getpid(), SIGKILL);
	if (!strcmp(how, "alone"))
		syscall(SYS_exit, 3);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	pthread_t threads[8];
	int i, others;

	how = argv[1];
	others = strcmp(how, "many") && strcmp(how, "turn") ? 1 : 8;
	pthread_barrier_init(&all, 0, others + 1);
	for (i = 0; i < others; i++)
		pthread_create(&threads[i], 0, other, (void *)(long)i);
	pthread_barrier_wait(&all);
	for (i = 0; !strcmp(how, "turn") && i < others; i++)
		pthread_join(threads[i], 0);
	if (others == 1)
		syscall(SYS_exit, 9); /* the first thread is gone before the other one */
	usleep(1000); /* so that it has an age */
	return 6;
}
"#;

/// Runs `program` to its end: its number and how it ended.
fn end_of(program: &Path, args: &[&str]) -> (u32, ExitStatus) {
    let mut child = Command::new(program).args(args).spawn().expect("it runs");
    let pid = child.id();
    (pid, child.wait().expect("it ends"))
}

/// What the kernel told the parent, as a record has it.
fn told(status: ExitStatus) -> (Json, Json, Json) {
    let signal = match status.signal() {
        None => "none",
        Some(6) => "sigabrt",
        Some(9) => "sigkill",
        Some(11) => "sigsegv",
        Some(15) => "sigterm",
        Some(other) => panic!("the test sends no signal {other}"),
    };
    (json!(status.code().unwrap_or(0)), json!(signal), json!(status.core_dumped()))
}

#[test]
fn ends_are_those_that_the_parent_is_told() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (shell, comm) = copy_of(&scratch, "sh");
    let (threads, many) = compiled(&scratch, THREADS);
    let probe = json!([{"program": "exitsnoop", "filters": {"comm": [comm, many]}, "buffer": {"size": "1MiB"}}]);
    let capture = Capture::start(&scratch, &to_jsonl(probe), &[]);
    let mut ends: Vec<(u32, ExitStatus, u64)> = Vec::new();
    let scripts = ["exit 0", "exit 3", "exit 255", "kill -KILL $$", "kill -TERM $$", "kill -SEGV $$", "kill -ABRT $$"];
    for script in scripts {
        let (pid, status) = end_of(&shell, &["-c", script]);
        ends.push((pid, status, 0));
    }
    for how in ["exit", "kill", "alone"] {
        let (pid, status) = end_of(&threads, &[how]);
        ends.push((pid, status, 100_000_000));
    }
    // Threads that all end at once: a process is still one event
    for _ in 0..100 {
        let (pid, status) = end_of(&threads, &["many"]);
        ends.push((pid, status, 1_000_000));
    }
    let codes: Vec<Option<i32>> = ends[7..11].iter().map(|(_, status, _)| status.code()).collect();
    // When each thread ended alone, newer kernels tell the last one's code, older ones the first one's
    assert!(matches!(codes[..], [Some(5), None, Some(9 | 3), Some(6)]), "the test's own programs: {codes:?}");
    let records = records(&capture.stop().expect(0).stdout);
    for (pid, status, age) in &ends {
        let mine: Vec<&Json> = records.iter().filter(|record| record["pid"] == *pid).collect();
        assert_eq!(mine.len(), 1, "events of process {pid}, which ended with {status}: {mine:?}");
        let record = mine[0];
        let seen = (record["exit_code"].clone(), record["signal"].clone(), record["core_dumped"].clone());
        assert_eq!(seen, told(*status));
        assert_eq!((&record["tid"], &record["ppid"]), (&json!(pid), &json!(std::process::id())));
        assert_eq!(record["uid"], 0);
        let lived = record["age_ns"].as_u64().expect("a number");
        assert!((*age..20_000_000_000).contains(&lived), "{lived} ns are not at least {age}");
    }
    assert_eq!(records.len(), ends.len());
}

/// A first thread that has ended stays in the cgroup where it did.
#[test]
fn a_process_is_in_the_cgroup_of_its_last_thread() {
    if !root() {
        return;
    }
    let Some(cgroups) = Cgroups::new() else {
        eprintln!("SKIPPED: cgroups of version 2 can't be made here");
        return;
    };
    let scratch = Scratch::new();
    let (program, comm) = compiled(&scratch, LATER);
    let unit = cgroups.unit.file_name().and_then(|name| name.to_str()).expect("a name of the test's own");
    let probes = json!([
        {"program": "exitsnoop", "name": "in", "filters": {"comm": comm, "unit": unit}},
        {"program": "exitsnoop", "name": "out", "filters": {"comm": comm, "unit": {"not": unit}}},
        {"program": "exitsnoop", "name": "thread", "filters": {"process_comm": comm, "unit": unit, "threads": true}},
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    let mut child = Command::new(&program).stdin(Stdio::piped()).spawn().expect("it runs");
    let pid = child.id();
    let ended = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    wait_until("the first thread does not end", ended);
    Cgroups::join(&cgroups.unit, pid);
    drop(child.stdin.take());
    child.wait().expect("it ends");
    let records = records(&capture.stop().expect(0).stdout);
    let seen = |probe: &str| of_probe(&records, probe).iter().filter(|record| record["pid"] == pid).count();
    assert_eq!((seen("in"), seen("out"), seen("thread")), (1, 0, 1));
}

/// Its first thread ends at once, the other one with standard input.
const LATER: &str = r#"
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *later(void *none)
{
	char c;

	read(0, &c, 1);
	return 0;
}

int main(void)
{
	pthread_t thread;

	pthread_create(&thread, 0, later, 0);
	syscall(SYS_exit, 0);
}
"#;

#[test]
fn every_filter_lets_through_what_it_names() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (shell, comm) = copy_of(&scratch, "sh");
    let (threads, many) = compiled(&scratch, THREADS);
    // How many ends of the shell, which are a good one, a bad one and a killed one, and of the threads of one process
    let cases: Vec<(Json, usize, usize)> = vec![
        (json!({}), 3, 1),
        (json!({"comm": [comm, many]}), 3, 1),
        (json!({"comm": unique_name()}), 0, 0),
        (json!({"comm": comm, "pid": {"not": std::process::id()}}), 3, 0),
        (json!({"comm": comm, "uid": 65534}), 0, 0),
        (json!({"comm": comm, "failed": true}), 2, 0),
        (json!({"comm": comm, "failed": false}), 1, 0),
        (json!({"comm": comm, "signal": ["sigkill", "sigsegv"]}), 1, 0),
        (json!({"comm": comm, "signal": "sigsegv"}), 0, 0),
        (json!({"comm": comm, "signal": {"not": "sigkill"}}), 2, 0),
        (json!({"comm": comm, "signal": "none"}), 2, 0),
        (json!({"comm": [comm, many, "other-thread"], "threads": true}), 3, 9),
        (json!({"comm": many, "threads": true}), 0, 1),
    ];
    let probe = |(i, (filters, ..)): (usize, &(Json, usize, usize))| json!({"program": "exitsnoop", "name": format!("p{i}"), "filters": filters});
    let probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
    let capture = Capture::start(&scratch, &to_jsonl(json!(probes)), &[]);
    for script in ["exit 0", "exit 1", "kill -KILL $$"] {
        end_of(&shell, &["-c", script]);
    }
    // One after the other: of those that end together, kernels from 7.0 on may leave some out
    let (pid, _) = end_of(&threads, &["turn"]);
    let records = records(&capture.stop().expect(0).stdout);
    for (i, (filters, of_shell, of_threads)) in cases.iter().enumerate() {
        let mine = of_probe(&records, &format!("p{i}"));
        let shells = mine.iter().filter(|record| record["comm"] == comm).count();
        let of_process = mine.iter().filter(|record| record["pid"] == pid).count();
        assert_eq!((shells, of_process), (*of_shell, *of_threads), "{filters}");
    }
}
