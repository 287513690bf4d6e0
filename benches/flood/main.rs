//! A flood of opens: the cost of tracing for the process that opens, the events that arrive, and the CPU time of the
//! consumer. Needs root.
//!
//! One thread opens a missing file a million times; consumers take turns, round by round, so that other load of the
//! machine affects all of them. `bare` reads the ring buffer and only counts: the upper limit. Peers are measured if they
//! are installed.
//!
//!     cargo bench --bench flood [-- PART [CALLS [ROUNDS]]]
//!
//! PART is `full` (as fast as it can), `paced` (100,000 calls a second), `policies` (every buffer with every wakeup, as fast
//! as it can) or `ours` (as `full`, without other tools, which take most of its time); without it, the first three.

mod consumers;
mod load;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use consumers::{Consumer, Family};

/// The name of the thread that makes the flood.
const COMM: &str = "opens-flood";
/// A pause for a consumer to read the remaining events.
const SETTLE: Duration = Duration::from_millis(400);
/// Time to start for tools that do not report when they are ready.
const PEER_START: Duration = Duration::from_secs(5);
/// Time for a tool to end after the signal.
const PATIENCE: Duration = Duration::from_secs(20);
/// Calls a second of the paced part.
const PACE: u32 = 100_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |i: usize, default| args.get(i).map_or(default, |text| text.parse().expect("a number"));
    match args.first().map(String::as_str) {
        Some("generate") => return load::generate(number(1, 0), number(2, 0)),
        Some("bare") => return load::bare(Path::new(&args[1])),
        _ => {}
    }
    if !rustix::process::geteuid().is_root() {
        return println!("flood: skipped, it needs root");
    }
    let part = args.first().map_or("", String::as_str);
    let (calls, rounds) = (number(1, 1_000_000), number(2, 3));
    let own = std::env::current_exe().expect("this program");
    let folder = tempfile::tempdir().expect("a directory");
    let flood = |pace| Flood { generator: own.clone(), calls, pace };
    for (name, family, pace) in [
        ("full", Family::Tools, 0),
        ("paced", Family::Tools, PACE),
        ("policies", Family::Policies, 0),
        ("ours", Family::Ours, 0),
    ] {
        if part == name || part.is_empty() && family != Family::Ours {
            measure(&flood(pace), rounds, &consumers::all(family, folder.path(), &own));
        }
    }
}

/// The load.
struct Flood {
    generator: PathBuf,
    calls: u32,
    /// Calls a second; 0: as fast as it can.
    pace: u32,
}

impl Flood {
    /// Calls per second that were made.
    fn run(&self) -> f64 {
        let args = ["generate".to_owned(), self.calls.to_string(), self.pace.to_string()];
        let output = Command::new(&self.generator).args(args).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
    }
}

/// The results of one consumer, one for each round.
#[derive(Default)]
struct Figures {
    /// Speed of the traced process, as a share of that without tracing and of that under the first consumer.
    of_untraced: Vec<f64>,
    of_first: Vec<f64>,
    arrived: Vec<u64>,
    nanoseconds: Vec<f64>,
    peak_kib: Vec<f64>,
}

fn measure(flood: &Flood, rounds: u32, consumers: &[Consumer]) {
    let mut figures: Vec<Figures> = consumers.iter().map(|_| Figures::default()).collect();
    let mut speeds = Vec::new();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        let untraced = flood.run();
        speeds.push(untraced);
        let mut first = None;
        for (consumer, figures) in consumers.iter().zip(&mut figures) {
            let Some(Run { speed, arrived, nanoseconds, peak_kib }) = one(consumer, flood) else { continue };
            figures.of_untraced.push(speed / untraced);
            figures.of_first.push(speed / *first.get_or_insert(speed));
            figures.arrived.push(arrived);
            figures.nanoseconds.push(nanoseconds / arrived.max(1) as f64);
            figures.peak_kib.push(peak_kib);
        }
    }
    let speed = median(&mut speeds) / 1e3;
    let how = if flood.pace > 0 { format!("{} calls/s", flood.pace) } else { "full speed".into() };
    println!(
        "\n{} opens at {how}, medians of {rounds} interleaved rounds; untraced {speed:.0} thousand calls/s\n",
        flood.calls
    );
    println!(
        "| consumer | arrived, least and most | speed, × untraced | × the first line | CPU ns a record | peak MiB |"
    );
    println!("|---|---|---|---|---|---|");
    for (Consumer { name, .. }, figures) in consumers.iter().zip(&mut figures) {
        if figures.arrived.is_empty() {
            println!("| {name} | skipped | | | | |");
            continue;
        }
        let (least, most) = (figures.arrived.iter().min(), figures.arrived.iter().max());
        let arrived = match (least, most) {
            (Some(least), Some(most)) if least != most => format!("{least} - {most}"),
            (least, _) if least == Some(&u64::from(flood.calls)) => "all".into(),
            (least, _) => least.copied().unwrap_or(0).to_string(),
        };
        let Figures { of_untraced, of_first, nanoseconds, peak_kib, .. } = figures;
        let (untraced, first) = (median(of_untraced), median(of_first));
        let (nanoseconds, mib) = (median(nanoseconds), median(peak_kib) / 1024.0);
        println!("| {name} | {arrived} | {untraced:.2} | {first:.2} | {nanoseconds:.0} | {mib:.1} |");
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Run {
    speed: f64,
    arrived: u64,
    nanoseconds: f64,
    peak_kib: f64,
}

/// `None` if a peer does not run here.
fn one(consumer: &Consumer, flood: &Flood) -> Option<Run> {
    let mut child = (consumer.start)();
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    match consumer.ready {
        None => {
            std::thread::sleep(PEER_START);
            if child.try_wait().expect("it can be waited for").is_some() {
                let mut words = String::new();
                let _ = stderr.read_to_string(&mut words);
                eprintln!("{}: skipped, it does not run here: {}", consumer.name, words.trim());
                return None;
            }
        }
        Some(words) => {
            let mut line = String::new();
            while !line.contains(words) {
                line.clear();
                assert!(stderr.read_line(&mut line).expect("text") > 0, "{} ended too soon", consumer.name);
            }
        }
    }
    let before = cpu_nanoseconds(child.id());
    let speed = flood.run();
    std::thread::sleep(SETTLE);
    let nanoseconds = cpu_nanoseconds(child.id()) - before;
    let peak_kib = peak_kib(child.id());
    let stdout = end(&mut child, stderr);
    Some(Run { speed, arrived: (consumer.arrived)(&stdout), nanoseconds, peak_kib })
}

/// The bare consumer ends with its standard input, the others as with Ctrl-C. Returns what was on standard output.
fn end(child: &mut Child, mut stderr: impl Read) -> String {
    if child.stdin.take().is_none() {
        let _ = kill_process(Pid::from_child(child), Signal::INT);
    }
    // Some tools do not end at the signal, and would load the machine during the next round
    let until = Instant::now() + PATIENCE;
    while child.stdout.is_none() && child.try_wait().expect("it can be waited for").is_none() {
        if Instant::now() > until {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let (mut rest, mut stdout) = (String::new(), String::new());
    let _ = stderr.read_to_string(&mut rest);
    if let Some(mut pipe) = child.stdout.take() {
        let _ = pipe.read_to_string(&mut stdout);
    }
    child.wait().expect("it ends");
    stdout
}

/// Time that the process's threads had a CPU.
fn cpu_nanoseconds(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let time = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    };
    tasks.filter_map(|task| time(task.ok()?)).sum()
}

/// The most memory that the process had at a time.
fn peak_kib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
