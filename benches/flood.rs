//! A flood of opens: what tracing it costs the process that makes it, what arrives, and what the consumer needs. Needs root.
//!
//! One thread opens a missing file a million times, as fast as it can; variants take turns, round by round. `bare` reads a
//! ring buffer with batched wakeups and only counts: the limit of what is possible. Peers are measured if they are
//! installed. `cargo bench --bench flood [-- CALLS ROUNDS]`

use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebpf_run::catalog::Catalog;
use ebpf_run::config::Source;
use ebpf_run::kernel::{Buffer, Host, Loaded};
use ebpf_run::plan::{Overrides, plan};
use rustix::process::{Pid, Signal, kill_process};

/// The command of the process that makes the flood.
const COMM: &str = "opens-flood";
/// A pause in which a consumer gets what is still on its way.
const SETTLE: Duration = Duration::from_millis(400);
/// What tools that do not say when they are ready are given to become so.
const PEER_START: Duration = Duration::from_secs(5);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("generate") => generate(args[1].parse().expect("a number")),
        Some("bare") => bare(Path::new(&args[1])),
        _ => measure(&args),
    }
}

/// Opens what is not there; prints the calls per second.
fn generate(calls: u32) {
    let path = CString::new("/no/such/folder/and/file").expect("no NUL");
    let start = Instant::now();
    for _ in 0..calls {
        let _ = rustix::fs::openat(rustix::fs::CWD, &path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    }
    println!("{:.0}", f64::from(calls) / start.elapsed().as_secs_f64());
}

/// Reads the buffer of the first probe until standard input ends, and counts.
fn bare(config: &Path) {
    let source = Source::read(config).expect("the config is right");
    let plan = plan(&source, &Catalog::embedded(), &Overrides::default()).expect("the config is right");
    let (host, probe) = (Host::read(), &plan.probes[0]);
    let mut loaded = Loaded::load(probe, &host).expect("it loads");
    let count = std::cell::Cell::new(0u64);
    let mut buffer = Buffer::new(&loaded, &probe.buffer, |_| count.set(count.get() + 1)).expect("a buffer");
    loaded.attach(&host).expect("it attaches");
    eprintln!("attached");
    use rustix::event::epoll;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&set, buffer.wakeups(), epoll::EventData::new_u64(0), flags).expect("epoll");
    epoll::add(&set, rustix::stdio::stdin(), epoll::EventData::new_u64(1), epoll::EventFlags::IN).expect("epoll");
    let timeout = rustix::time::Timespec::try_from(probe.buffer.max_latency).expect("a timeout");
    let mut events = Vec::with_capacity(2);
    loop {
        events.clear();
        let _ = epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
        while buffer.consume().expect("it can be read") {}
        if events.iter().any(|event: &epoll::Event| event.data.u64() == 1) {
            break;
        }
    }
    println!("{}", count.get());
}

/// One consumer of the flood.
struct Variant {
    name: String,
    start: Box<dyn Fn() -> Child>,
    /// What standard error says once it is there; `None`: nothing, so it gets a while.
    ready: Option<&'static str>,
    /// How many records arrived.
    arrived: Box<dyn Fn(&str) -> u64>,
}

#[derive(Default)]
struct Figures {
    calls_per_second: Vec<f64>,
    arrived: Vec<u64>,
    cpu_seconds: Vec<f64>,
}

fn measure(args: &[String]) {
    if !rustix::process::geteuid().is_root() {
        return println!("flood: skipped, it needs root");
    }
    let number = |i: usize, default| args.get(i).map_or(default, |text| text.parse().expect("a number"));
    let (calls, rounds) = (number(0, 1_000_000), number(1, 5));
    let folder = tempfile::tempdir().expect("a folder");
    let own = std::env::current_exe().expect("this program");
    let generator = folder.path().join(COMM);
    fs::copy(&own, &generator).expect("a copy");
    let variants = variants(folder.path(), &own);

    let mut untraced = Vec::new();
    let mut figures: Vec<Figures> = variants.iter().map(|_| Figures::default()).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        untraced.push(flood(&generator, calls));
        for (variant, figures) in variants.iter().zip(&mut figures) {
            let (speed, arrived, cpu) = one(variant, &generator, calls);
            figures.calls_per_second.push(speed);
            figures.arrived.push(arrived);
            figures.cpu_seconds.push(cpu);
        }
    }
    let base = median(&mut untraced);
    println!("{rounds} interleaved rounds of {calls} opens; untraced: {:.0} thousand calls/s", base / 1e3);
    println!("{:<34} {:>16} {:>22} {:>14}", "", "speed, x untraced", "arrived of the calls", "consumer CPU s");
    for (Variant { name, .. }, figures) in variants.iter().zip(&mut figures) {
        let share = |arrived: &u64| 100.0 * *arrived as f64 / f64::from(calls);
        let least = figures.arrived.iter().map(share).fold(f64::MAX, f64::min);
        let most = figures.arrived.iter().map(share).fold(0.0, f64::max);
        let speed = median(&mut figures.calls_per_second) / base;
        let cpu = median(&mut figures.cpu_seconds);
        println!("{name:<34} {speed:>16.2} {:>22} {cpu:>14.2}", format!("{least:.1} - {most:.1} %"));
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn flood(generator: &Path, calls: u32) -> f64 {
    let output = Command::new(generator).args(["generate", &calls.to_string()]).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

/// Calls per second of the flood, records that arrived, and CPU seconds of the consumer.
fn one(variant: &Variant, generator: &Path, calls: u32) -> (f64, u64, f64) {
    let mut child = (variant.start)();
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    match variant.ready {
        None => std::thread::sleep(PEER_START),
        Some(words) => {
            let mut line = String::new();
            while !line.contains(words) {
                line.clear();
                assert!(stderr.read_line(&mut line).expect("text") > 0, "{} ended too soon", variant.name);
            }
        }
    }
    let before = cpu_seconds(child.id());
    let speed = flood(generator, calls);
    std::thread::sleep(SETTLE);
    let cpu = cpu_seconds(child.id()) - before;
    // The bare one ends with its standard input, the others as with Ctrl-C
    if child.stdin.take().is_none() {
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
    }
    let mut rest = String::new();
    let _ = stderr.read_to_string(&mut rest);
    let mut stdout = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        let _ = pipe.read_to_string(&mut stdout);
    }
    child.wait().expect("it ends");
    (speed, (variant.arrived)(&stdout), cpu)
}

/// User and system time of a process, seconds.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}

fn variants(folder: &Path, own: &Path) -> Vec<Variant> {
    let mut variants = Vec::new();
    let bare_config = config(folder, "bare", "{size: 8MiB}", "jsonl");
    let own = own.to_owned();
    variants.push(Variant {
        name: "bare: ringbuf, auto, count only".into(),
        start: Box::new(move || spawn(Command::new(&own).arg("bare").arg(&bare_config).stdin(Stdio::piped()))),
        ready: Some("attached"),
        arrived: Box::new(|stdout| stdout.trim().parse().unwrap_or(0)),
    });
    for (name, buffer) in [
        ("auto", "{size: 8MiB}"),
        ("output", "{size: 8MiB, submit: output}"),
        ("interval 10ms", "{size: 8MiB, wakeup: {interval: 10ms}}"),
        ("events 64", "{size: 8MiB, wakeup: {events: 64}}"),
        ("adaptive", "{size: 8MiB, wakeup: adaptive}"),
        ("every_event", "{size: 8MiB, wakeup: every_event}"),
        ("perfbuf auto", "{type: perfbuf, size: 8MiB}"),
        ("perfbuf every_event", "{type: perfbuf, size: 8MiB, wakeup: every_event}"),
    ] {
        variants.push(ours(folder, &format!("jsonl, {name}"), buffer, "jsonl"));
    }
    variants.push(ours(folder, "csv, auto", "{size: 8MiB}", "csv"));
    variants.extend(peers(folder));
    variants
}

fn config(folder: &Path, name: &str, buffer: &str, sink: &str) -> PathBuf {
    let path = folder.join(format!("{}.yaml", name.replace([' ', ','], "-")));
    let out = path.with_extension("out");
    let yaml = format!(
        "version: 1\nmax_loss: 100%\nprobes: [{{program: opensnoop, filters: {{comm: {COMM}}}, buffer: {buffer}}}]\n\
         sinks: {{out: {{type: {sink}, path: {}}}}}\n",
        out.display()
    );
    fs::write(&path, yaml).expect("written");
    path
}

fn ours(folder: &Path, name: &str, buffer: &str, sink: &str) -> Variant {
    let path = config(folder, name, buffer, sink);
    let out = path.with_extension("out");
    Variant {
        name: format!("ebpf-run: {name}"),
        start: Box::new(move || spawn(Command::new(env!("CARGO_BIN_EXE_ebpf-run")).arg(&path))),
        ready: Some("attached"),
        arrived: Box::new(move |_| lines_with(&out)),
    }
}

/// Other tools, to a text file as well.
fn peers(folder: &Path) -> Vec<Variant> {
    let script = format!(
        "tracepoint:syscalls:sys_enter_openat /comm == \"{COMM}\"/ {{ @path[tid] = args->filename; }} \
         tracepoint:syscalls:sys_exit_openat /@path[tid]/ {{ printf(\"%lld %d %s %d %s\\n\", nsecs, pid, comm, \
         args->ret, str(@path[tid])); delete(@path[tid]); }}"
    );
    let peers: [(&str, Vec<String>); 2] =
        [("bpftrace", vec!["-e".into(), script]), ("opensnoop", vec!["-n".into(), COMM.into()])];
    let mut found = Vec::new();
    for (tool, args) in peers {
        let Some(path) = ["/usr/bin", "/usr/sbin"].iter().map(|dir| Path::new(dir).join(tool)).find(|p| p.exists())
        else {
            println!("{tool}: skipped, it is not installed");
            continue;
        };
        let out = folder.join(format!("{tool}.out"));
        let file = out.clone();
        let start = move || {
            let stdout = fs::File::create(&file).expect("a file");
            let mut command = Command::new(&path);
            command.args(&args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().expect("it starts")
        };
        let arrived = Box::new(move |_: &str| lines_with(&out));
        found.push(Variant { name: tool.into(), start: Box::new(start), ready: None, arrived });
    }
    found
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// Lines of a file that are records of the flood.
fn lines_with(path: &Path) -> u64 {
    let text = fs::read(path).unwrap_or_default();
    let count = text.split(|&byte| byte == b'\n').filter(|line| line.windows(11).any(|w| w == b"/no/such/fo")).count();
    count as u64
}
