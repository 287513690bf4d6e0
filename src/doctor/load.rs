//! The loads for trials of programs. A child process generates one: it prepares, waits until the program is attached,
//! and performs its operations.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstat, fsync, major, minor};
use rustix::process::{Signal, getpid, getppid, kill_process};
use rustix::time::{ClockId, clock_gettime};

use crate::catalog::Load;

/// The first argument of a process that generates a load. Internal: not a command for users.
const REQUEST: &str = "__make-load";
/// The path of this program, even if its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// Printed by a process when it is ready for its load.
const READY: &str = "ready";
/// Printed after its load.
const DONE: &str = "done";

/// The time limit of a process for its preparation, and for its load.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number of operations.
const TIMES: u32 = 20;
/// As many processes as the filter `pid` accepts.
const PROCESSES: u32 = 16;
/// How long a CPU is kept busy: 25 samples at 99 Hz.
const BUSY: Duration = Duration::from_millis(250);
/// The memory that the busy process writes to: larger than most L2 caches.
const MEMORY: usize = 16 << 20;
/// Bytes of a read.
const PAGE: usize = 4096;
/// The directory of the file for direct I/O: more often on a disk than /tmp.
const DIRECTORY: &str = "/var/tmp";

/// The events that a load causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LoadEffect {
    /// Number of events of its processes.
    pub events: u32,
    /// What the events are, plural.
    pub noun: &'static str,
    /// Whether there are exactly this many. Otherwise there can be more: a process also waits for a CPU, or makes other
    /// system calls.
    pub exact: bool,
    /// Whether some hosts hide some of them from all tracing programs: docs/explanation/limits.md.
    pub hidden_at_times: bool,
}

/// The events of each load.
pub(super) fn effect(load: Load) -> LoadEffect {
    let (events, noun, exact) = match load {
        Load::Exec => (TIMES, "executions", true),
        Load::Exit => (PROCESSES, "exits", true),
        Load::Open => (TIMES, "opens", true),
        Load::Signal => (TIMES, "signals", true),
        Load::Connect => (TIMES, "connects", true),
        Load::Connection => (2 * TIMES, "ends of connections", true),
        Load::Syscall => (TIMES, "system calls", false),
        Load::Sleep => (TIMES, "waits", false),
        Load::Spin => (TIMES / 2, "samples", false),
        Load::CachedRead => (TIMES, "page cache accesses", false),
        Load::DirectRead => (TIMES, "requests", false),
    };
    // Context switches, and completions of requests
    let hidden_at_times = matches!(load, Load::Sleep | Load::DirectRead);
    LoadEffect { events, noun, exact, hidden_at_times }
}

/// Processes that are ready for a load. They are killed when this is dropped: events of their exits are not part of the
/// load, unless exits are the load.
#[derive(Debug)]
pub(super) struct ReadyLoad {
    load: Load,
    processes: Vec<Child>,
    /// The disk that the load reads from, if it does.
    pub disk: Option<String>,
}

impl ReadyLoad {
    /// Starts the processes; `program` is this program. An error has the reason why the load is not possible here.
    pub fn start(load: Load, program: &Path) -> Result<Self, String> {
        let count = if load == Load::Exit { PROCESSES } else { 1 };
        let mut ready = ReadyLoad { load, processes: Vec::new(), disk: None };
        for _ in 0..count {
            let mut command = Command::new(program);
            command.args([REQUEST, load.name()]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            ready.processes.push(command.spawn().map_err(|error| format!("no process can be started: {error}"))?);
        }
        let until = Instant::now() + PATIENCE;
        for process in &mut ready.processes {
            let line = answer(process, until)?;
            let rest = line.strip_prefix(READY).ok_or_else(|| refusal(&line))?.trim();
            ready.disk = Some(rest.to_owned()).filter(|disk| !disk.is_empty());
        }
        Ok(ready)
    }

    /// The pids of the processes.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(Child::id)
    }

    /// Starts the load, and waits until it is done.
    pub fn run(&mut self) -> Result<(), String> {
        for process in &mut self.processes {
            // An error is in the process's answer
            let _ = process.stdin.as_mut().map(|stdin| stdin.write_all(b"\n"));
        }
        let until = Instant::now() + PATIENCE;
        for process in &mut self.processes {
            let line = answer(process, until)?;
            match self.load {
                // Ignored: this process has SIGCHLD ignored, and the other one has ended nevertheless
                Load::Exit if line.is_empty() => drop(process.wait()),
                _ if line.trim_end() == DONE => {}
                _ => return Err(refusal(&line)),
            }
        }
        Ok(())
    }
}

impl Drop for ReadyLoad {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn refusal(words: &str) -> String {
    match words.trim() {
        "" => "its process ended too early".into(),
        words => words.into(),
    }
}

/// The next line that `process` prints; a partial line if the process ends.
fn answer(process: &mut Child, until: Instant) -> Result<String, String> {
    let Some(stdout) = &mut process.stdout else { return Ok(String::new()) };
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(&*stdout, PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return Err(format!("its process took longer than {} s", PATIENCE.as_secs())),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.to_string()),
        }
        let mut piece = [0; 256];
        match stdout.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Generates the load that the command line requests; returns the exit code, or `None` if it requests something else.
pub fn make_requested() -> Option<u8> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != REQUEST {
        return None;
    }
    let made = make(args.next(), args.next());
    let words = made.as_ref().err().map_or(DONE, String::as_str);
    let _ = writeln!(io::stdout(), "{words}");
    // Until it is killed, or its parent ends
    let _ = io::stdin().read_to_end(&mut Vec::new());
    Some(u8::from(made.is_err()))
}

/// Generates a load. With `left`, the number of further executions, this process is one of a started chain.
fn make(name: Option<OsString>, left: Option<OsString>) -> Result<(), String> {
    let name = name.unwrap_or_default();
    let load = name.to_str().and_then(Load::by_name).ok_or("there is no such load")?;
    if let Some(left) = left {
        let left: u32 = left.to_str().and_then(|left| left.parse().ok()).ok_or("not a number")?;
        return execute(left.min(TIMES));
    }
    let words = |error: io::Error| error.to_string();
    match load {
        Load::Exec => {
            begin("")?;
            execute(TIMES)
        }
        Load::Exit => {
            begin("")?;
            std::process::exit(0)
        }
        Load::Open => {
            begin("")?;
            (0..TIMES).try_for_each(|_| File::open("/dev/null").map(drop)).map_err(words)
        }
        Load::Signal => {
            begin("")?;
            // Ignored by default
            let send = |_| kill_process(getpid(), Signal::URG);
            (0..TIMES).try_for_each(send).map_err(|error| error.to_string())
        }
        Load::Connect | Load::Connection => connect(),
        Load::Syscall => {
            begin("")?;
            for _ in 0..TIMES {
                let _ = getppid();
            }
            Ok(())
        }
        Load::Sleep => {
            begin("")?;
            (0..TIMES).for_each(|_| std::thread::sleep(Duration::from_millis(2)));
            Ok(())
        }
        Load::Spin => spin(),
        Load::CachedRead => {
            let file = File::open(OWN_PROGRAM).map_err(words)?;
            // Reads of a tmpfs are not counted, and those of a network file system may bypass the page cache
            block_device(&file).ok_or("the file of ebpf-run is not on a disk")?;
            let mut page = [0; PAGE];
            let mut read = || (0..u64::from(TIMES)).try_for_each(|i| file.read_exact_at(&mut page, i * PAGE as u64));
            read().map_err(words)?;
            begin("")?;
            read().map_err(words)
        }
        Load::DirectRead => read_from_disk(),
    }
}

/// Reports that the process is ready, and waits for the start.
///
/// # Errors
/// If the parent has ended.
fn begin(about: &str) -> Result<(), String> {
    let line = format!("{READY} {about}\n");
    io::stdout().write_all(line.as_bytes()).map_err(|error| error.to_string())?;
    io::stdin().read_exact(&mut [0]).map_err(|error| error.to_string())
}

/// Executes this program `left` times, one after the other in this process.
fn execute(left: u32) -> Result<(), String> {
    match left.checked_sub(1) {
        None => Ok(()),
        Some(left) => {
            let mut command = Command::new(OWN_PROGRAM);
            let error = command.args([REQUEST, Load::Exec.name(), &left.to_string()]).exec();
            Err(format!("{OWN_PROGRAM} can't be executed: {error}"))
        }
    }
}

/// Connects to itself, and closes both ends in order.
fn connect() -> Result<(), String> {
    let words = |error: io::Error| format!("no connection to 127.0.0.1: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(words)?;
    let at = listener.local_addr().map_err(words)?;
    begin("")?;
    for _ in 0..TIMES {
        let mut client = TcpStream::connect_timeout(&at, PATIENCE / 2).map_err(words)?;
        let (server, _) = listener.accept().map_err(words)?;
        client.shutdown(std::net::Shutdown::Write).map_err(words)?;
        drop(server);
        client.read(&mut [0]).map_err(words)?;
    }
    // The last acknowledgement may still be in flight
    let until = Instant::now() + Duration::from_secs(1);
    while is_open(at.port()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether a connection to `port` of 127.0.0.1 has a side that is not closed.
fn is_open(port: u16) -> bool {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next(), words.next(), words.next());
        let here = [local, remote].iter().flatten().any(|address| address.ends_with(&port));
        here && !matches!(state, Some(TIME_WAIT | LISTEN))
    })
}

fn spin() -> Result<(), String> {
    let mut memory = vec![1_u8; MEMORY];
    let used = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    };
    begin("")?;
    let (from, until) = (used(), Instant::now() + PATIENCE / 2);
    while used() - from < BUSY && Instant::now() < until {
        for byte in memory.iter_mut().step_by(64) {
            *byte = byte.wrapping_add(1);
        }
        std::hint::black_box(&mut memory);
    }
    if used() - from < BUSY {
        return Err(format!("the CPUs are too busy: less than {} ms in 5 s", BUSY.as_millis()));
    }
    Ok(())
}

/// A page with the alignment of direct I/O.
#[repr(align(4096))]
struct Page([u8; PAGE]);

/// Reads an unnamed file with direct I/O; the file is removed when this process ends.
fn read_from_disk() -> Result<(), String> {
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::DIRECT | OFlags::NOATIME;
    let file = rustix::fs::open(DIRECTORY, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| format!("no file for direct I/O in {DIRECTORY}: {error}"))?;
    let disk = disk_of(&file)?;
    let mut page = Box::new(Page([0x5a; PAGE]));
    let places = || (0..u64::from(TIMES)).map(|i| i * PAGE as u64);
    let words = |error: rustix::io::Errno| format!("direct I/O in {DIRECTORY}: {error}");
    for at in places() {
        rustix::io::pwrite(&file, &page.0, at).map_err(words)?;
    }
    fsync(&file).map_err(words)?;
    begin(&disk)?;
    for at in places() {
        rustix::io::pread(&file, &mut page.0[..], at).map_err(words)?;
    }
    // Not closed before this process ends: freeing its blocks can take requests too
    std::mem::forget(file);
    Ok(())
}

/// The name of the disk of `file`, if reads of the file are requests of this process to that disk.
fn disk_of(file: &OwnedFd) -> Result<String, String> {
    let not_one = || format!("{DIRECTORY} is not on one disk");
    let mut place = block_device(file).ok_or_else(not_one)?;
    if place.join("partition").exists() {
        place.pop();
    }
    let name = place.file_name().and_then(|name| name.to_str()).ok_or_else(not_one)?;
    let stacked = fs::read_dir(place.join("slaves")).is_ok_and(|mut slaves| slaves.next().is_some());
    if stacked || !place.join("mq").is_dir() {
        return Err(format!("{DIRECTORY} is on `{name}`, which has no requests of its own"));
    }
    Ok(name.to_owned())
}

/// The block device of `file`, in sysfs. `None` for a file system in memory, on the network, or on several layers or
/// disks.
fn block_device(file: &impl AsFd) -> Option<PathBuf> {
    let device = fstat(file).ok()?.st_dev;
    fs::canonicalize(format!("/sys/dev/block/{}:{}", major(device), minor(device))).ok()
}

#[cfg(test)]
mod tests;
