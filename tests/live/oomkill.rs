//! `oomkill`: a process that eats up the memory of a cgroup of its own.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::Scratch;
use crate::load::{Held, compiled, copy_of, unique_name};
use crate::variants::{Variant, by_each_variant};

const LIMIT: u64 = 32 << 20;

/// A cgroup with little memory.
struct SmallMemory(PathBuf);

impl SmallMemory {
    /// `None` where the kernel has no such controller, or someone else's rules forbid it.
    fn new() -> Option<Self> {
        let v2 = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
        let (parent, limit, swap) = if controllers.split_whitespace().any(|name| name == "memory") {
            fs::write(v2.join("cgroup.subtree_control"), "+memory").ok()?;
            (v2.to_owned(), "memory.max", "memory.swap.max")
        } else {
            (v2.join("memory"), "memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        };
        let small = SmallMemory(parent.join(unique_name()));
        fs::create_dir(&small.0).ok()?;
        fs::write(small.0.join(limit), LIMIT.to_string()).ok()?;
        // Nothing may go to swap instead; a kernel without swap has no such file
        let none = if swap.ends_with("bytes") { LIMIT } else { 0 };
        let _ = fs::write(small.0.join(swap), none.to_string());
        Some(small)
    }
}

impl Drop for SmallMemory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Eats memory in a thread of another name; with `argv[1]` its first thread has ended by then.
const LATE: &str = r#"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *eat(void *none)
{
	int i;

	prctl(PR_SET_NAME, "hungry-thread");
	usleep(100000);
	for (i = 0; i < 512; i++)
		memset(malloc(1 << 20), 1, 1 << 20);
	_exit(3);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	pthread_create(&thread, 0, eat, 0);
	if (argc == 1)
		pthread_join(thread, 0);
	syscall(SYS_exit, 0);
}
"#;

#[test]
fn a_process_goes_by_its_own_name_also_when_its_first_thread_has_ended() {
    by_each_variant("oomkill", a_process_goes_by_its_own_name);
}

fn a_process_goes_by_its_own_name(variant: Option<&Variant>) {
    let Some(memory) = SmallMemory::new() else {
        eprintln!("SKIPPED: a cgroup with a limit of memory can't be made here");
        return;
    };
    let scratch = Scratch::new();
    let (program, comm) = compiled(&scratch, LATE);
    let (shell, _) = copy_of(&scratch, "sh");
    let loads = [vec![], vec!["x"]].map(|args| Held::new(&shell, &program, args));
    let pids = loads.each_ref().map(Held::pid);
    for pid in pids {
        fs::write(memory.0.join("cgroup.procs"), pid.to_string()).expect("a process can be moved");
    }
    let probes = json!([
        {"program": "oomkill", "name": "comm", "filters": {"comm": comm}},
        {"program": "oomkill", "name": "process", "filters": {"process_comm": comm, "tid": pids}},
        {"program": "oomkill", "name": "thread", "filters": {"comm": "hungry-thread"}},
    ]);
    let Some(capture) = Capture::start_by(variant, &scratch, &to_jsonl(probes)) else { return };
    for load in loads {
        assert_eq!(load.go(), None, "a signal ends it");
    }
    let records = records(&capture.stop().expect(0).stdout);
    for probe in ["comm", "process"] {
        let mine = of_probe(&records, probe);
        let seen: Vec<&Json> = mine.iter().map(|record| &record["pid"]).collect();
        assert_eq!(seen, [&json!(pids[0]), &json!(pids[1])], "{probe}");
        for record in mine {
            let names = ["comm", "trigger_comm", "trigger_process_comm"].map(|name| &record[name]);
            assert_eq!(names, [&json!(comm), &json!("hungry-thread"), &json!(comm)]);
            let rss = record["rss_bytes"].as_u64().expect("a number");
            assert!((LIMIT / 2..LIMIT * 5 / 4).contains(&rss), "{rss} bytes in use of {LIMIT}");
        }
    }
    assert_eq!(of_probe(&records, "thread").len(), 0, "it is no process");
}

/// Three processes of a cgroup that the kernel kills together (memory.oom.group), of which one needs too much.
#[test]
fn every_process_of_a_cgroup_that_is_killed_as_one_is_seen() {
    by_each_variant("oomkill", every_process_of_a_cgroup_is_seen);
}

fn every_process_of_a_cgroup_is_seen(variant: Option<&Variant>) {
    if variant.is_some_and(|variant| variant.name.starts_with("kill_")) {
        return; // these see one of them, see docs/explanation/limits.md
    }
    let Some(memory) = SmallMemory::new().filter(|memory| fs::write(memory.0.join("memory.oom.group"), "1").is_ok())
    else {
        eprintln!("SKIPPED: a cgroup that is killed as one can't be made here");
        return;
    };
    let scratch = Scratch::new();
    let (tail, comm) = copy_of(&scratch, "tail");
    let (shell, _) = copy_of(&scratch, "sh");
    // Two wait for a pipe that nothing is written to, and the third one keeps a line that never ends
    let pipe = scratch.path("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).expect("a pipe can be made");
    let _writer = open(&pipe, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).expect("it can be opened");
    let loads = [pipe.as_path(), &pipe, Path::new("/dev/zero")].map(|path| Held::new(&shell, &tail, [path]));
    let pids = loads.each_ref().map(Held::pid);
    for pid in pids {
        fs::write(memory.0.join("cgroup.procs"), pid.to_string()).expect("a process can be moved");
    }
    let probes = json!([{"program": "oomkill", "filters": {"process_comm": [comm, "held"], "pid": pids}}]);
    let Some(capture) = Capture::start_by(variant, &scratch, &to_jsonl(probes)) else { return };
    let threads = loads.map(|load| std::thread::spawn(move || load.go()));
    for thread in threads {
        assert_eq!(thread.join().expect("it does not panic"), None, "a signal ends each");
    }
    let events = fs::read_to_string(memory.0.join("memory.events")).expect("the kernel counts");
    let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse::<u32>().ok());
    assert!(matches!(killed, Some(3 | 4)), "the one that was chosen may count twice: {events}");
    let records = records(&capture.stop().expect(0).stdout);
    let mut seen: Vec<u64> = records.iter().map(|record| record["pid"].as_u64().expect("a number")).collect();
    seen.sort_unstable();
    let mut all = pids.map(u64::from);
    all.sort_unstable();
    assert_eq!(seen, all);
}

#[test]
fn who_runs_out_of_memory_is_seen_with_how_much_it_had() {
    by_each_variant("oomkill", who_runs_out_of_memory_is_seen_by);
}

fn who_runs_out_of_memory_is_seen_by(variant: Option<&Variant>) {
    let Some(memory) = SmallMemory::new() else {
        eprintln!("SKIPPED: a cgroup with a limit of memory can't be made here");
        return;
    };
    let scratch = Scratch::new();
    let (tail, comm) = copy_of(&scratch, "tail");
    let (shell, _) = copy_of(&scratch, "sh");
    // Keeps a line that never ends. The limit is for a kernel whose cgroup does not hold: malloc() fails there.
    let script = format!(
        "ulimit -v {}; echo 500 >/proc/self/oom_score_adj; exec {} /dev/zero",
        (16 * LIMIT) >> 10,
        tail.display()
    );
    let hungry = Held::new(&shell, &shell, ["-c", &script]);
    let pid = hungry.pid();
    fs::write(memory.0.join("cgroup.procs"), pid.to_string()).expect("a process can be moved");
    let cases: Vec<(Json, usize)> = vec![
        (json!({}), 1),
        (json!({"pid": pid}), 1),
        (json!({"comm": comm}), 1),
        (json!({"comm": unique_name()}), 0),
        (json!({"comm": {"not": comm}}), 0),
        (json!({"pid": pid, "uid": 65534}), 0),
    ];
    let probe = |(i, (filters, _)): (usize, &(Json, usize))| json!({"program": "oomkill", "name": format!("p{i}"), "filters": filters});
    let probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
    let Some(capture) = Capture::start_by(variant, &scratch, &to_jsonl(json!(probes))) else { return };
    assert_eq!(hungry.go(), None, "a signal ends it");
    let records = records(&capture.stop().expect(0).stdout);
    for (i, (filters, count)) in cases.iter().enumerate() {
        let mine = of_probe(&records, &format!("p{i}"));
        assert_eq!(mine.iter().filter(|record| record["pid"] == pid).count(), *count, "{filters}");
    }
    let record = of_probe(&records, "p1")[0];
    assert_eq!((&record["comm"], &record["uid"]), (&json!(comm), &json!(0)));
    assert_eq!((&record["trigger_pid"], &record["trigger_comm"]), (&json!(pid), &json!(comm)), "its own request");
    assert_eq!(record["oom_score_adj"], 500);
    // What the kernel counts is exact to some pages a CPU, and the cgroup has page tables and the program's file too
    let rss = record["rss_bytes"].as_u64().expect("a number");
    assert!((LIMIT / 2..LIMIT * 5 / 4).contains(&rss), "{rss} bytes in use of {LIMIT}");
    let all = record["total_vm_bytes"].as_u64().expect("a number");
    assert!((rss..16 * LIMIT).contains(&all), "{all} bytes of address space");
}
