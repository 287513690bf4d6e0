//! The cost of a program in the kernel, compared with its namesake of libbpf-tools if that is installed. Needs root.
//!
//! The kernel counts the time that eBPF programs run (`kernel.bpf_stats_enabled`); both tools get the same load,
//! in turns. `cargo bench --bench cost [-- ROUNDS [PROGRAM]]`. EBPF_RUN_PEERS names the directory of the peers, if it is
//! not that of the distribution.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// The command of the loads.
const COMM: &str = "cost-load";
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// The peers do not report when they are attached.
const PEER_START: Duration = Duration::from_secs(3);

/// One comparison.
struct Case {
    program: &'static str,
    /// Filters of ours, as YAML; `LOAD` is the load's process.
    filters: &'static str,
    /// Arguments of the peer, if there is one to compare with; `{}` is the load's process.
    peer: Option<&'static [&'static str]>,
    /// The load, and the number of its events.
    load: (&'static str, u32),
}

const CASES: &[Case] = &[
    Case { program: "opensnoop", filters: "{comm: cost-load}", peer: Some(&["-n", COMM]), load: ("opens", 200_000) },
    Case {
        program: "execsnoop",
        filters: "{comm: cost-*, failed: false}",
        peer: Some(&["-n", "cost-"]),
        load: ("execs", 300),
    },
    Case {
        program: "runqslower",
        filters: "{comm: no-process, min_latency: 10s}",
        // No process has this name: both tools see every wait and select none
        peer: Some(&["-p", "4194303", "10000000"]),
        load: ("switches", 100_000),
    },
    Case { program: "biosnoop", filters: "{comm: cost-load}", peer: Some(&[]), load: ("reads", 10_000) },
    Case {
        program: "syscount",
        filters: "{pid: LOAD, latency: false}",
        peer: Some(&["-p", "{}", "-i", "3600"]),
        load: ("calls", 1_000_000),
    },
    Case {
        program: "syscount",
        filters: "{pid: LOAD}",
        peer: Some(&["-L", "-p", "{}", "-i", "3600"]),
        load: ("calls", 1_000_000),
    },
    // Without a peer: the namesake does not exist, or can't be compared
    Case { program: "exitsnoop", filters: "{comm: cost-*}", peer: None, load: ("execs", 300) },
    Case { program: "runqlat", filters: "{comm: cost-load}", peer: None, load: ("switches", 100_000) },
    Case { program: "offcputime", filters: "{comm: cost-load}", peer: None, load: ("switches", 100_000) },
    Case { program: "biolatency", filters: "{comm: cost-load}", peer: None, load: ("reads", 10_000) },
    Case { program: "biostacks", filters: "{comm: cost-load}", peer: None, load: ("reads", 10_000) },
    Case { program: "biopattern", filters: "{}", peer: None, load: ("reads", 10_000) },
    Case { program: "cachestat", filters: "{comm: cost-load}", peer: None, load: ("cached", 100_000) },
    Case { program: "sigsnoop", filters: "{comm: cost-load}", peer: None, load: ("signals", 100_000) },
    Case {
        program: "tcpconnect",
        filters: "{comm: cost-load, failed: false}",
        peer: None,
        load: ("connections", 5_000),
    },
    Case { program: "tcplife", filters: "{comm: cost-load}", peer: None, load: ("connections", 5_000) },
    Case {
        program: "profile",
        filters: "{comm: cost-load, event: cpu_clock, frequency: 1000Hz}",
        peer: None,
        load: ("milliseconds", 3_000),
    },
    Case {
        program: "llcstat",
        filters: "{comm: cost-load, event: cpu_clock, period: 1000000}",
        peer: None,
        load: ("milliseconds", 3_000),
    },
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == "load") {
        return load(&args[1], args[2].parse().expect("a number"));
    }
    if !rustix::process::geteuid().is_root() {
        return println!("cost: skipped, it needs root");
    }
    let rounds = args.first().map_or(5, |text| text.parse().expect("a number"));
    let before = fs::read_to_string(STATS).unwrap_or_default();
    if fs::write(STATS, "1").is_err() {
        return println!("cost: skipped, {STATS} can't be set");
    }
    println!("{rounds} interleaved rounds; the kernel's own count of the time that programs run, medians");
    println!(
        "{:<12} {:>10} {:>22} {:>22} {:>8}",
        "program", "events", "ours, ns an event", "libbpf-tools, ns", "ratio"
    );
    for case in CASES.iter().filter(|case| args.get(1).is_none_or(|name| name == case.program)) {
        compare(case, rounds);
    }
    let _ = fs::write(STATS, before.trim());
}

fn compare(case: &Case, rounds: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let generator = folder.path().join(COMM);
    fs::copy(std::env::current_exe().expect("this program"), &generator).expect("a copy");
    let peers = std::env::var("EBPF_RUN_PEERS").map_or(vec!["/usr/sbin".into(), "/usr/bin".into()], |dir| vec![dir]);
    let (mut ours, mut theirs, mut words) =
        (Vec::new(), Vec::new(), String::from(if case.peer.is_some() { "not installed" } else { "" }));
    for _ in 0..rounds {
        ours.extend(measure(&generator, case, |load| Ok(start_ours(folder.path(), case, load))));
        let peer = peers.iter().map(|dir| Path::new(dir).join(case.program)).find(|path| path.exists());
        if let Some((peer, args)) = peer.zip(case.peer) {
            match measure(&generator, case, |load| start_peer(&peer, args, load)) {
                Some(cost) => theirs.push(cost),
                None => words = "does not run here".into(),
            }
        }
    }
    let shown = |values: &mut Vec<f64>, none: &str| {
        if values.is_empty() { none.into() } else { format!("{:.0}", median(values)) }
    };
    let ratio = if ours.is_empty() || theirs.is_empty() {
        "".into()
    } else {
        format!("{:.2}", median(&mut ours) / median(&mut theirs))
    };
    let (a, b) = (shown(&mut ours, "does not run here"), shown(&mut theirs, &words));
    println!("{:<12} {:>10} {a:>22} {b:>22} {ratio:>8}", case.program, case.load.1);
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds an event of the load.
fn measure(generator: &Path, case: &Case, start: impl Fn(u32) -> Result<Child, String>) -> Option<f64> {
    let mut load = Command::new(generator)
        .args(["load", case.load.0, &case.load.1.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let tool = start(load.id());
    let cost = tool.ok().map(|mut tool| {
        let before = run_time(tool.id());
        load.stdin.take().expect("it is piped").write_all(b"go\n").expect("it waits");
        let mut done = String::new();
        let _ = load.stdout.take().expect("it is piped").read_to_string(&mut done);
        let after = run_time(tool.id());
        let _ = kill_process(Pid::from_child(&tool), Signal::INT);
        let _ = tool.wait();
        (after - before) as f64 / f64::from(case.load.1)
    });
    drop(load.stdin.take());
    let _ = load.wait();
    cost
}

/// Run time of a tool's programs, ns, from the descriptors of its programs (fdinfo).
fn run_time(pid: u32) -> u64 {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut programs = std::collections::BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        if let (Some(id), Some(time)) = (value("prog_id:"), value("run_time_ns:")) {
            programs.insert(id, time);
        }
    }
    programs.values().sum()
}

fn start_ours(folder: &Path, case: &Case, load: u32) -> Child {
    let path: PathBuf = folder.join("config.yaml");
    let (program, filters) = (case.program, case.filters.replace("LOAD", &load.to_string()));
    let yaml = format!(
        "version: 1\nmax_loss: 100%\nprobes: [{{program: {program}, filters: {filters}}}]\n\
         sinks: {{out: {{type: jsonl, path: {}}}}}\n",
        folder.join("out").display()
    );
    fs::write(&path, yaml).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebpf-run"));
    let mut child = command.arg(&path).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("attached") {
        line.clear();
        assert!(stderr.read_line(&mut line).expect("text") > 0, "{} ended too soon", case.program);
    }
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    child
}

fn start_peer(peer: &Path, args: &[&str], load: u32) -> Result<Child, String> {
    let args = args.iter().map(|arg| arg.replace("{}", &load.to_string()));
    let mut command = Command::new(peer);
    let command = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    std::thread::sleep(PEER_START);
    match child.try_wait() {
        Ok(None) => Ok(child),
        _ => Err("it ended".into()),
    }
}

/// Waits for a line, then makes `count` events.
fn load(what: &str, count: u32) {
    let mut word = String::new();
    let _ = std::io::stdin().read_line(&mut word);
    if word.is_empty() {
        return;
    }
    let missing = c"/no/such/directory/and/file";
    match what {
        "opens" => {
            for _ in 0..count {
                let _ =
                    rustix::fs::openat(rustix::fs::CWD, missing, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
            }
        }
        "calls" => {
            for _ in 0..count {
                let _ = rustix::process::getppid();
            }
        }
        "execs" => {
            let own = std::env::current_exe().expect("this program");
            for _ in 0..count {
                let _ = Command::new(&own).args(["load", "nothing", "0"]).stdin(Stdio::null()).status();
            }
        }
        "switches" => switches(count),
        "reads" => reads(count),
        "cached" => cached(count),
        "signals" => {
            for _ in 0..count {
                // Ignored by default
                let _ = kill_process(rustix::process::getpid(), Signal::URG);
            }
        }
        "connections" => connections(count),
        "milliseconds" => {
            let end = std::time::Instant::now() + Duration::from_millis(u64::from(count));
            while std::time::Instant::now() < end {
                std::hint::spin_loop();
            }
        }
        _ => {}
    }
}

/// Two threads that send a byte back and forth: each waits for the other.
fn switches(count: u32) {
    let (here, there) = (rustix::pipe::pipe().expect("a pipe"), rustix::pipe::pipe().expect("a pipe"));
    let other = std::thread::spawn(move || {
        let mut byte = [0];
        while rustix::io::read(&here.0, &mut byte).is_ok_and(|n| n > 0) {
            let _ = rustix::io::write(&there.1, &byte);
        }
    });
    let mut byte = [0];
    for _ in 0..count / 2 {
        let _ = rustix::io::write(&here.1, &[1]);
        let _ = rustix::io::read(&there.0, &mut byte);
    }
    drop(here.1);
    let _ = other.join();
}

/// Reads of 4 KiB past the page cache, of a file in the temporary directory.
fn reads(count: u32) {
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    let path = std::env::temp_dir().join(format!("{COMM}-{}", std::process::id()));
    fs::write(&path, vec![1; 4 << 20]).expect("written");
    let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
    if let Ok(file) = fs::OpenOptions::new().read(true).custom_flags(direct).open(&path) {
        let mut room = vec![0u8; 8192];
        let start = room.as_ptr().align_offset(4096);
        for i in 0..count {
            let _ = file.read_at(&mut room[start..start + 4096], u64::from(i % 1024) * 4096);
        }
    }
    let _ = fs::remove_file(&path);
}

/// Reads of 4 KiB that the page cache has.
fn cached(count: u32) {
    use std::os::unix::fs::FileExt;
    let Ok(mut file) = tempfile::tempfile() else { return };
    let mut page = [1; 4096];
    let _ = file.write_all(&page);
    for _ in 0..count {
        let _ = file.read_at(&mut page, 0);
    }
}

/// Connections to this process, closed at once. Both ends are sockets, and tools that count sockets count both.
fn connections(count: u32) {
    let Ok(listener) = std::net::TcpListener::bind("127.0.0.1:0") else { return };
    let Ok(address) = listener.local_addr() else { return };
    for _ in 0..count {
        let (_here, _there) = (std::net::TcpStream::connect(address), listener.accept());
    }
}
