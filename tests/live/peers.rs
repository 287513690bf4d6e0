//! Side by side with the tools of libbpf-tools, where they are installed: the same load, the same events.
//!
//! What differs and why is said at each comparison. A tool that is not here, or that does not run on this kernel, is
//! skipped with a word: `SKIPPED`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, records, to_jsonl, to_jsonl_of_busy};
use crate::common::{Scratch, run};
use crate::disk::Loop;
use crate::load::{Held, copy_of};
use crate::root;

/// These tools do not say when they are attached.
const START: Duration = Duration::from_secs(3);

/// One of the tools at work.
struct Peer {
    child: Child,
    out: PathBuf,
}

impl Peer {
    /// `None`, with a word, if it is not installed or does not run here.
    fn start(scratch: &Scratch, tool: &str, args: &[&str]) -> Option<Self> {
        let Some(path) = ["/usr/sbin", "/usr/bin"].iter().map(|dir| Path::new(dir).join(tool)).find(|p| p.exists())
        else {
            eprintln!("SKIPPED: libbpf-tools' {tool} is not installed");
            return None;
        };
        let out = scratch.path(tool);
        let file = File::create(&out).expect("a file");
        let errors = File::create(scratch.path("errors")).expect("a file");
        let child = Command::new(path).args(args).stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        let mut child = child.expect("it starts");
        thread::sleep(START);
        if child.try_wait().expect("it can be waited for").is_some() {
            let words = fs::read_to_string(scratch.path("errors")).unwrap_or_default();
            eprintln!("SKIPPED: {tool} does not run on this kernel: {}", words.lines().last().unwrap_or_default());
            return None;
        }
        Some(Peer { child, out })
    }

    /// Its lines, as words.
    fn stop(mut self) -> Vec<Vec<String>> {
        thread::sleep(Duration::from_millis(500)); // it may still have something to read
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        self.child.wait().expect("it ends");
        let text = String::from_utf8_lossy(&fs::read(&self.out).expect("its output")).into_owned();
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    items.into_iter().fold(BTreeMap::new(), |mut counts, item| {
        *counts.entry(item).or_default() += 1;
        counts
    })
}

fn number(record: &Json, field: &str) -> i64 {
    record[field].as_i64().unwrap_or_else(|| panic!("{field}: {record}"))
}

/// Every open of a program from its start to its end.
#[test]
fn opensnoop_sees_the_same_opens() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (cat, comm) = copy_of(&scratch, "cat");
    let Some(peer) = Peer::start(&scratch, "opensnoop", &["-n", &comm]) else { return };
    let capture =
        Capture::start(&scratch, &to_jsonl(json!([{"program": "opensnoop", "filters": {"comm": comm}}])), &[]);
    let missing = scratch.path("missing");
    for _ in 0..20 {
        run(Command::new(&cat).args([Path::new("/etc/hostname"), &missing])).expect(1);
    }
    let ours = records(&capture.stop().expect(0).stdout);
    // PID COMM FD ERR PATH. It shows the error without its sign, and a descriptor of -1 with it
    let theirs = peer.stop();
    let theirs = theirs.iter().filter(|words| words.len() == 5 && words[1] == comm).map(|words| {
        let (fd, error): (i64, i64) = (words[2].parse().expect("a number"), words[3].parse().expect("a number"));
        (words[0].clone(), if error == 0 { fd } else { -error }, words[4].clone())
    });
    let ours = ours.iter().map(|record| {
        (record["pid"].to_string(), number(record, "ret"), record["path"].as_str().expect("text").to_owned())
    });
    let (ours, theirs) = (count(ours), count(theirs));
    assert!(ours.len() > 40, "{ours:?}");
    assert_eq!(ours, theirs);
}

/// Executions that work and that fail.
#[test]
fn execsnoop_sees_the_same_executions() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let (shell, caller) = copy_of(&scratch, "sh");
    // Both names begin alike; it matches a part of the command
    let common = comm.split('-').next().expect("a part");
    let Some(peer) = Peer::start(&scratch, "execsnoop", &["-x", "-n", common]) else { return };
    let probes = json!([{"program": "execsnoop", "filters": {"comm": [comm, caller]}}]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    for i in 0..20 {
        let target = if i % 4 == 0 { Path::new("/no/such/program") } else { &program };
        Held::new(&shell, target, ["a", "b c"]).go();
    }
    let ours = records(&capture.stop().expect(0).stdout);
    // PCOMM PID PPID RET ARGS
    let theirs = peer.stop();
    let theirs = theirs.iter().filter(|words| words.len() > 3 && (words[0] == comm || words[0] == caller));
    let theirs = count(theirs.map(|words| (words[0].clone(), words[1].clone(), words[2].clone(), words[3].clone())));
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let ours = ours.iter().map(|r| (text(&r["comm"]), text(&r["pid"]), text(&r["ppid"]), text(&r["ret"])));
    let ours = count(ours);
    assert_eq!(ours.len(), 40, "each shell, and what it runs: {ours:?}");
    assert_eq!(ours, theirs);
}

/// Requests of a disk that nobody else uses.
#[test]
fn biosnoop_sees_the_same_requests() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 8 << 20);
    let (dd, comm) = copy_of(&scratch, "dd");
    let Some(peer) = Peer::start(&scratch, "biosnoop", &["-d", &disk.name]) else { return };
    let filters = json!({"device": disk.name, "comm": comm});
    let capture =
        Capture::start(&scratch, &to_jsonl_of_busy(json!([{"program": "biosnoop", "filters": filters}])), &[]);
    let path = disk.path.display();
    run(Command::new(dd).args([&format!("if={path}"), "of=/dev/null", "bs=64k", "iflag=direct"])).expect(0);
    let ours = records(&capture.stop().expect(0).stdout);
    // TIME(s) COMM PID DISK T SECTOR BYTES LAT(ms)
    let theirs = peer.stop();
    let theirs: BTreeMap<i64, (i64, f64)> = theirs
        .iter()
        .filter(|words| words.len() == 8 && words[3] == disk.name && words[1] == comm)
        .map(|words| {
            let number = |i: usize| words[i].parse::<f64>().expect("a number");
            (number(5) as i64, (number(6) as i64, number(7)))
        })
        .collect();
    let ours: BTreeMap<i64, (i64, f64)> = ours
        .iter()
        .map(|r| (number(r, "sector"), (number(r, "bytes"), number(r, "latency_ns") as f64 / 1e6)))
        .collect();
    assert_eq!(ours.len(), 128);
    let sizes =
        |side: &BTreeMap<i64, (i64, f64)>| side.iter().map(|(at, (bytes, _))| (*at, *bytes)).collect::<Vec<_>>();
    assert_eq!(sizes(&ours), sizes(&theirs));
    // Two programs on the same hooks: one is called after the other
    let apart = |(at, (_, ms)): (&i64, &(i64, f64))| (ms - theirs[at].1).abs();
    let mut apart: Vec<f64> = ours.iter().map(apart).collect();
    apart.sort_by(f64::total_cmp);
    assert!(apart[64] < 0.1, "half of them differ by more than {} ms", apart[64]);
}

/// Reads and writes of a process, one by one.
#[test]
fn syscount_counts_the_same_calls() {
    if !root() {
        return;
    }
    const CALLS: i64 = 20_000;
    let scratch = Scratch::new();
    let (shell, _) = copy_of(&scratch, "sh");
    let dd = ["if=/dev/zero".into(), "of=/dev/null".into(), "bs=1".into(), format!("count={CALLS}")];
    let load = Held::new(&shell, Path::new("/bin/dd"), dd);
    let pid = load.pid();
    let Some(peer) = Peer::start(&scratch, "syscount", &["-T", "500", "-p", &pid.to_string()]) else { return };
    let capture = Capture::start(&scratch, &to_jsonl(json!([{"program": "syscount", "filters": {"pid": pid}}])), &[]);
    assert_eq!(load.go(), Some(0));
    let ours = records(&capture.stop().expect(0).stdout);
    let theirs = peer.stop();
    // SYSCALL COUNT
    let theirs = theirs
        .iter()
        .filter(|words| words.len() == 2)
        .filter_map(|words| Some((words[0].clone(), words[1].parse::<i64>().ok()?)));
    let theirs: BTreeMap<String, i64> = theirs.collect();
    let ours: BTreeMap<String, i64> =
        ours.iter().map(|row| (row["syscall"].as_str().expect("a name").to_owned(), number(row, "calls"))).collect();
    for call in ["read", "write", "openat", "close"] {
        let [ours, theirs] = [&ours, &theirs].map(|calls| calls.get(call).copied().unwrap_or(0));
        // The call in which the load waits for its word began before the capture: it has no time, and is not in ours
        let before = i64::from(call == "read");
        assert!(ours > 0 && (ours..=ours + before).contains(&theirs), "{call}: {ours} and {theirs}");
    }
    assert!(ours["write"] >= CALLS);
}

/// As many requests of a disk that nobody else uses.
#[test]
fn biolatency_counts_the_same_requests() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 8 << 20);
    let Some(peer) = Peer::start(&scratch, "biolatency", &["-d", &disk.name]) else { return };
    let filters = json!({"device": disk.name});
    let capture =
        Capture::start(&scratch, &to_jsonl_of_busy(json!([{"program": "biolatency", "filters": filters}])), &[]);
    let path = disk.path.display();
    run(Command::new("dd").args([&format!("if={path}"), "of=/dev/null", "bs=64k", "iflag=direct"])).expect(0);
    let ours = records(&capture.stop().expect(0).stdout);
    let ours: i64 = ours.iter().filter(|row| row["row"] == "bucket").map(|row| number(row, "count")).sum();
    // LOW -> HIGH : COUNT |****|
    let theirs = peer.stop();
    let theirs = theirs.iter().filter(|words| words.len() > 4 && words[1] == "->" && words[3] == ":");
    let theirs: i64 = theirs.map(|words| words[4].parse::<i64>().expect("a number")).sum();
    assert!(ours >= 120, "{ours} of 128 (docs/explanation/limits.md)");
    assert!((ours - theirs).abs() <= 8, "{ours} and {theirs}: a host may hide a completion from one of them");
}

/// Waits of a process that shares a CPU with another one.
#[test]
fn runqslower_sees_the_same_waits() {
    if !root() {
        return;
    }
    let _alone = crate::sched::alone();
    let scratch = Scratch::new();
    let (shell, _) = copy_of(&scratch, "sh");
    let cpu = crate::sched::one_cpu().to_string();
    let dd = ["-c", &cpu, "dd", "if=/dev/zero", "of=/dev/null", "bs=1M", "count=5000"];
    let loads = [(); 2].map(|()| Held::new(&shell, Path::new("/usr/bin/taskset"), dd));
    let pid = loads[0].pid();
    let Some(peer) = Peer::start(&scratch, "runqslower", &["-p", &pid.to_string(), "1000"]) else { return };
    let filters = json!({"pid": pid, "min_latency": "1ms"});
    let capture = Capture::start(&scratch, &to_jsonl(json!([{"program": "runqslower", "filters": filters}])), &[]);
    let running = loads.map(|load| thread::spawn(move || load.go()));
    running.into_iter().for_each(|load| assert_eq!(load.join().expect("no panic"), Some(0)));
    let ours = records(&capture.stop().expect(0).stdout);
    // TIME COMM TID LAT(us); it leaves out a wait of just the limit
    let theirs = peer.stop();
    let theirs = theirs.iter().filter(|words| words.len() == 4 && words[2] == pid.to_string());
    let mut theirs: Vec<i64> = theirs.map(|words| words[3].parse().expect("a number")).collect();
    let mut ours: Vec<i64> = ours.iter().map(|record| number(record, "latency_ns") / 1000).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert!(ours.len() > 5, "{ours:?}");
    // Near the limit one of them may see a wait as just long enough and the other not
    assert!(ours.len().abs_diff(theirs.len()) <= 2 + ours.len() / 20, "{} and {}", ours.len(), theirs.len());
    let (a, b) = (ours[ours.len() / 2], theirs[theirs.len() / 2]);
    assert!((a - b).abs() < 50 + a / 20, "half of the waits are longer than {a} us, or {b} us");
}
