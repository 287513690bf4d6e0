//! Names of the frames of processes, where the process, or another user, does what it can against it: what that costs is
//! names, never the capture.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::inotify;
use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, records, report};
use crate::common::{BINARY, Ended, NOBODY, Scratch, run};
use crate::load::unique_name;
use crate::root;

const ODD: &str = include_str!("symbols/odd.c");
const FUSE: &str = include_str!("symbols/fuse.c");
/// What the end of a window may take for names: docs/explanation/limits.md.
const MOST_FOR_NAMES: Duration = Duration::from_secs(5);
/// And for everything else, on a machine that does other things too.
const REST: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(30);

/// Compiles `source` with frame pointers to a program of a name that nobody else has.
fn compile(scratch: &Scratch, source: &str, flags: &[&str]) -> PathBuf {
    let name = unique_name();
    let (code, program) = (scratch.write(&format!("{name}.c"), source), scratch.path(&name));
    let mut cc = Command::new("cc");
    // Not optimized: every function has a frame pointer then, those that call nothing too
    cc.args(["-O0", "-fno-omit-frame-pointer", "-pthread"]).args(flags).arg("-o");
    run(cc.arg(&program).arg(code).arg("-ldl")).expect(0);
    program
}

/// Runs `command` as a user without rights.
fn as_nobody(command: &Path) -> Command {
    let mut setpriv = Command::new("setpriv");
    setpriv.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]).arg(command);
    setpriv
}

/// A process that `odd.c` describes.
struct Odd {
    child: Child,
    /// So that what it executes may print an address too.
    _stdout: BufReader<ChildStdout>,
    pid: u32,
    address: u64,
}

impl Odd {
    fn new(program: &Path, args: &[&str]) -> Self {
        let mut command = as_nobody(program);
        Odd::of(command.args(args)).expect("it starts")
    }

    /// `None` if it could not start.
    fn of(command: &mut Command) -> Option<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("it is text");
        let mut words = line.split_whitespace().rev();
        let Some(address) = words.next() else {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        };
        let address = u64::from_str_radix(address, 16).expect("an address");
        let pid = words.next().map_or(child.id(), |pid| pid.parse().expect("a number"));
        Some(Odd { child, _stdout: stdout, pid, address })
    }

    fn map(&self) -> PathBuf {
        PathBuf::from(format!("/tmp/perf-{}.map", self.pid))
    }

    /// The line of a perf map that names its odd code.
    fn line(&self, name: &str) -> String {
        format!("{:x} 1000 {name}\n", self.address)
    }

    /// Gives it a perf map.
    fn with_map(self, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.map(), content).expect("written");
        self.own_map();
        self
    }

    fn own_map(&self) {
        chown(self.map(), Some(NOBODY), Some(NOBODY)).expect("it is there");
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.map()).or_else(|_| fs::remove_dir(self.map()));
    }
}

/// Waits until `pid` has had so much more of a CPU that a profile has samples of it, however busy the machine is.
#[track_caller]
fn wait_for_samples(pid: u32) {
    let on_cpu = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("the kernel keeps these");
        stat.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
    };
    let (until, enough) = (Instant::now() + PATIENCE, on_cpu() + 300_000_000);
    while on_cpu() < enough {
        assert!(Instant::now() < until, "{pid} does not run");
        thread::sleep(Duration::from_millis(5));
    }
}

fn profile(pids: &[u32], interval: Option<&str>) -> Json {
    let mut probe = json!({"program": "profile", "filters": {"pid": pids, "event": "cpu_clock", "frequency": "199Hz"}});
    if let Some(interval) = interval {
        probe["interval"] = json!(interval);
    }
    let sinks = json!({"out": {"type": "jsonl"}});
    json!({"version": 1, "max_loss": "100%", "probes": [probe], "sinks": sinks})
}

fn frames(row: &Json) -> Vec<&str> {
    row["user_stack"].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

/// The samples of a process by what is called the frame between the two functions whose names are known.
fn between(rows: &[Json], pid: u32) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for row in rows.iter().filter(|row| row["pid"] == pid) {
        let frames = frames(row);
        if let Some([_, odd, "outer_of_the_test", ..]) =
            frames.iter().position(|frame| *frame == "inner_of_the_test").map(|at| &frames[at..])
        {
            *found.entry((*odd).to_owned()).or_default() += row["samples"].as_u64().expect("a number");
        }
    }
    found
}

/// That the odd frame has a name, or none, where the others have theirs. On a busy machine the time may be over for some names.
#[track_caller]
fn is_named(rows: &[Json], odd: &Odd, name: &str, what: &str) {
    let mut found = between(rows, odd.pid);
    let as_wanted = found.remove(name).is_some();
    found.remove("[unknown]");
    assert!(as_wanted && found.is_empty(), "{what}: {name}, {found:?}\n{rows:#?}");
}

/// A run that ends by itself after a time; returns what it said, its rows and its report.
#[track_caller]
fn captured(scratch: &Scratch, config: &Json, time: Duration) -> (Ended, Vec<Json>, Json) {
    let path = scratch.path("report.json");
    let args = ["--report", path.to_str().expect("UTF-8"), "--duration", &format!("{}ms", time.as_millis())];
    let capture = Capture::start(scratch, config, &args);
    let attached = capture.attached;
    let ended = capture.wait().expect(0);
    let took = attached.elapsed();
    assert!(took < time + MOST_FOR_NAMES + REST, "{took:?}");
    let (rows, report) = (records(&ended.stdout), report(scratch));
    assert_eq!(report["reconciles"], true, "{report:#}");
    (ended, rows, report)
}

/// What crashes or stops a worker does so at each of a window's readings, of which there are four or more. One that has no CPU
/// for a second, on a machine that is very busy, is seldom.
#[track_caller]
fn no_crash(report: &Json) {
    assert!(report["symbol_helper_restarts"].as_u64() <= Some(2), "{report:#}");
}

fn unresolved(report: &Json, cause: &str) -> u64 {
    report["probes"][0]["symbols"]["unresolved"][cause].as_u64().unwrap_or(0)
}

/// Whether anything opened the file since this began.
struct Watched(rustix::fd::OwnedFd);

impl Watched {
    fn new(path: &Path) -> Self {
        let watched = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).expect("inotify");
        inotify::add_watch(&watched, path, inotify::WatchFlags::OPEN).expect("it is there");
        Watched(watched)
    }

    fn was_opened(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 4096]).is_ok()
    }
}

#[test]
fn a_perf_map_that_is_none_costs_its_names_and_nothing_else() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let program = compile(&scratch, ODD, &[]);
    let odd = || Odd::new(&program, &["anonymous"]);
    let others = scratch.write("others", "");
    let none = |make: &dyn Fn(&Odd)| {
        let odd = odd();
        make(&odd);
        odd
    };
    let mut all: Vec<(&str, Odd, &str)> = Vec::new();
    all.push(("a FIFO", none(&|odd| mkfifoat(CWD, odd.map(), Mode::from(0o666)).expect("made")), "[unknown]"));
    all.push(("a socket", none(&|odd| drop(UnixListener::bind(odd.map()).expect("made"))), "[unknown]"));
    all.push(("a directory", none(&|odd| fs::create_dir(odd.map()).expect("made")), "[unknown]"));
    let zero = rustix::fs::makedev(1, 5);
    let device = |odd: &Odd| {
        mknodat(CWD, odd.map(), FileType::CharacterDevice, Mode::from(0o666), zero).expect("made");
    };
    all.push(("a device", none(&device), "[unknown]"));
    all.push(("a link", none(&|odd| symlink(&others, odd.map()).expect("made")), "[unknown]"));
    all.push((
        "a file of another user",
        none(&|odd| fs::write(odd.map(), odd.line("wrong")).expect("made")),
        "[unknown]",
    ));
    let sparse = |odd: &Odd| {
        let file = File::create(odd.map()).expect("made");
        file.set_len(1 << 40).expect("a sparse file");
        odd.own_map();
    };
    all.push(("a sparse file", none(&sparse), "[unknown]"));
    let linked = |odd: &Odd| {
        let other = odd.map().with_extension("other");
        fs::write(&other, odd.line("wrong")).expect("made");
        chown(&other, Some(NOBODY), Some(NOBODY)).expect("made");
        fs::hard_link(&other, odd.map()).expect("made");
    };
    let hard = none(&linked);
    let other_name = hard.map().with_extension("other");
    all.push(("a second name of another file", hard, "[unknown]"));
    let good = odd();
    let text =
        ["\u{0}\n-1 -1 -1\nzzzz\n10 10\n", &"x".repeat(10 << 20), "\n", &good.line("good_of_the_test"), "1000 f"];
    let text = text.concat();
    all.push(("lines that are none", good.with_map(text), "good_of_the_test"));
    let secret = odd();
    let line = secret.line("good_of_the_test");
    let secret = secret.with_map(line);
    fs::set_permissions(secret.map(), fs::Permissions::from_mode(0o0)).expect("it is there");
    all.push(("mode 000", secret, "good_of_the_test"));
    all.iter().filter(|(what, ..)| *what == "a FIFO").for_each(|(_, odd, _)| odd.own_map());
    let watched = Watched::new(&others);

    let pids: Vec<u32> = all.iter().map(|(_, odd, _)| odd.pid).collect();
    let (_, rows, report) = captured(&scratch, &profile(&pids, Some("500ms")), Duration::from_secs(4));
    fs::remove_file(other_name).expect("it is there");
    for (what, odd, name) in &all {
        is_named(&rows, odd, name, what);
    }
    assert!(!watched.was_opened(), "what a link leads to");
    no_crash(&report);
    assert!(unresolved(&report, "no_file") >= 7, "{report:#}");
}

/// In namespaces of his own a user is root: he can put any file of the host's there that he finds by its path.
#[test]
fn in_a_mount_namespace_only_a_process_s_own_map_counts() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let program = compile(&scratch, ODD, &[]);
    let outside = Scratch::within(Path::new("/var/tmp")); // what is in /tmp is hidden in there
    let secret = outside.write("file", "0 ffffffffffffffff name_from_roots_file\n");
    outside.set_mode("file", 0o600);
    let path = secret.display();
    let watched = Watched::new(&secret);
    let inside = |how: &str, options: &[&str]| {
        let script = format!("mount -t tmpfs -o mode=777 none /tmp && {how} exec /proc/self/fd/9 anonymous");
        let mut command = as_nobody(Path::new("unshare"));
        command.args(options).args(["sh", "-c", &format!("exec 9<{} && {script}", program.display())]);
        Odd::of(&mut command)
    };
    let link = format!("ln -s {path} /tmp/perf-$$.map &&");
    let mount = format!("touch /tmp/perf-$$.map && mount --bind {path} /tmp/perf-$$.map &&");
    let own = "echo '0 ffffffffffffffff of_its_own' >/tmp/perf-$$.map &&";
    let user = ["--user", "--map-root-user", "--mount"];
    let found = [inside(&link, &user), inside(&mount, &user), inside(own, &user)];
    let [Some(link), Some(mount), Some(own)] = found else {
        return eprintln!("SKIPPED: users may not have namespaces here");
    };
    // By the number that it has in there
    let script = "mount -t tmpfs none /tmp && echo '0 ffffffffffffffff of_its_own' >/tmp/perf-1.map &&";
    let mut command = Command::new("unshare");
    let script = format!("exec 9<{} && {script} exec /proc/self/fd/9 anonymous", program.display());
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    let mut numbered = Odd::of(&mut command).expect("root may have namespaces");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", numbered.pid)).expect("it runs");
    numbered.pid = children.trim().parse().expect("one child");

    let pids = [link.pid, mount.pid, own.pid, numbered.pid];
    let (_, rows, _) = captured(&scratch, &profile(&pids, Some("500ms")), Duration::from_secs(2));
    assert!(!watched.was_opened());
    is_named(&rows, &link, "[unknown]", "a link");
    is_named(&rows, &mount, "[unknown]", "a mount");
    is_named(&rows, &own, "of_its_own", "its own file");
    is_named(&rows, &numbered, "of_its_own", "by its number in its pid namespace");
}

/// Rows of a capture that goes on, as they come.
struct Rows {
    capture: Capture,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Rows {
    fn start(scratch: &Scratch, config: &Json) -> Self {
        let path = scratch.path("report.json");
        let (capture, stdout) = Capture::start_piped(scratch, config, &["--report", path.to_str().expect("UTF-8")]);
        let (sender, lines) = std::sync::mpsc::channel();
        thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|l| sender.send(l)));
        Rows { capture, lines }
    }

    /// Waits for a row with this frame; returns those that came before.
    #[track_caller]
    fn wait_for(&self, frame: &str) -> Vec<Json> {
        let (until, mut seen) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no `{frame}` in {seen:#?}"));
            let row: Json = serde_json::from_str(&line).expect("JSON");
            if frames(&row).contains(&frame) {
                return seen;
            }
            seen.push(row);
        }
    }

    /// Ends it; returns the report.
    #[track_caller]
    fn stop(self, scratch: &Scratch) -> Json {
        let asked = Instant::now();
        self.capture.stop().expect(0);
        assert!(asked.elapsed() < MOST_FOR_NAMES + REST);
        report(scratch)
    }
}

#[test]
fn names_that_come_later_are_found_later() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let odd = Odd::new(&compile(&scratch, ODD, &[]), &["anonymous"]);
    let rows = Rows::start(&scratch, &profile(&[odd.pid], Some("200ms")));
    rows.wait_for("[unknown]");
    let first = odd.line("first_name");
    let odd = odd.with_map(first);
    rows.wait_for("first_name");
    let mut map = OpenOptions::new().append(true).open(odd.map()).expect("it is there");
    map.write_all(odd.line("appended_name").as_bytes()).expect("written");
    rows.wait_for("appended_name");
    fs::write(odd.map(), odd.line("rewritten_name")).expect("written");
    rows.wait_for("rewritten_name");
    no_crash(&rows.stop(&scratch));
}

/// The helper of a run: the supervisor, and its worker if it has one.
fn helpers(runner: u32) -> (Option<u32>, Option<u32>) {
    let child = |parent: u32| {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<u32> =
            children.flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
        let is_helper =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "ebpf-run-names\n");
        children.into_iter().rfind(is_helper)
    };
    let supervisor = child(runner);
    (supervisor, supervisor.and_then(child))
}

/// Waits until there is a worker other than `before`; returns it and the supervisor.
#[track_caller]
fn worker(runner: u32, before: Option<u32>) -> (u32, u32) {
    let until = Instant::now() + PATIENCE;
    loop {
        if let (Some(supervisor), Some(worker)) = helpers(runner)
            && Some(worker) != before
        {
            return (worker, supervisor);
        }
        assert!(Instant::now() < until, "there is no worker");
        thread::sleep(Duration::from_millis(2));
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("it is there");
}

#[track_caller]
fn is_gone(pid: u32) {
    let until = Instant::now() + PATIENCE;
    let name = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    while name() == "ebpf-run-names\n" {
        assert!(Instant::now() < until, "{pid} is still there");
        thread::sleep(Duration::from_millis(2));
    }
}

fn status(pid: u32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("it is there");
    line.trim().to_owned()
}

#[test]
fn a_map_that_grows_all_the_time_takes_no_memory() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let odd = Odd::new(&compile(&scratch, ODD, &[]), &["anonymous"]);
    let line = odd.line("good_of_the_test");
    let odd = odd.with_map(line);
    let rows = Rows::start(&scratch, &profile(&[odd.pid], Some("100ms")));
    let mut map = OpenOptions::new().append(true).open(odd.map()).expect("it is there");
    let lines: String =
        (0..20_000).map(|i| format!("{:x} 10 a_name_that_takes_some_room_{i}\n", 0x1000 + i * 16)).collect();
    let started = Instant::now();
    let mut highest = 0;
    while started.elapsed() < Duration::from_secs(3) {
        if map.stream_position().expect("a file") < 100 << 20 {
            map.write_all(lines.as_bytes()).expect("written");
        }
        if let (_, Some(worker)) = helpers(rows.capture.pid()) {
            let peak = fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
            let peak =
                peak.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
            highest = highest.max(peak.unwrap_or(0_u64));
        }
        thread::sleep(Duration::from_millis(20));
    }
    rows.wait_for("good_of_the_test");
    rows.stop(&scratch);
    assert!((1..64 << 10).contains(&highest), "{highest} KiB");
}

/// The bytes of an ELF file's beginning.
fn header(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = fs::read("/proc/self/exe").expect("this program");
    bytes.truncate(4096);
    change(&mut bytes);
    bytes.resize(4096, 0);
    #[cfg(target_arch = "x86_64")]
    bytes.extend([0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3]);
    #[cfg(target_arch = "aarch64")]
    bytes.extend([
        0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91, 0x00, 0x00, 0x3f, 0xd6, 0xfd, 0x7b, 0xc1, 0xa8, 0xc0, 0x03,
        0x5f, 0xd6,
    ]);
    bytes.resize(8192, 0);
    bytes
}

#[test]
fn each_frame_is_named_by_itself_whatever_memory_is_around_it() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let program = compile(&scratch, ODD, &[]);
    let mut all: Vec<(String, Odd)> = Vec::new();
    for place in ["memfd", "shm", "shared", "zero"] {
        all.push((place.into(), Odd::new(&program, &[place])));
    }
    let files: [(&str, Vec<u8>); 5] = [
        ("text", header(|bytes| bytes.fill(b'x'))),
        ("cut short", header(|_| ())),
        ("many sections", header(|bytes| bytes[40..48].copy_from_slice(&64_u64.to_ne_bytes()))),
        ("sections nowhere", header(|bytes| bytes[32..48].fill(0xff))),
        ("of another byte order", header(|bytes| bytes[5] = 2)),
    ];
    for (what, bytes) in files {
        let path = scratch.write(&unique_name(), bytes);
        all.push((what.into(), Odd::new(&program, &["file", path.to_str().expect("UTF-8")])));
    }
    let deleted = scratch.write("deleted", header(|_| ()));
    all.push(("deleted".into(), Odd::new(&program, &["file", deleted.to_str().expect("UTF-8")])));
    fs::remove_file(deleted).expect("it is there");
    // A lease keeps others from opening the file until it is given up, which its holder does not do
    let leased = scratch.write("leased", header(|_| ()));
    chown(&leased, Some(NOBODY), Some(NOBODY)).expect("it is there");
    all.push(("leased".into(), Odd::new(&program, &["leased", leased.to_str().expect("UTF-8")])));
    let pids: Vec<u32> = all.iter().map(|(_, odd)| odd.pid).collect();
    let (_, rows, report) = captured(&scratch, &profile(&pids, Some("500ms")), Duration::from_secs(4));
    for (what, odd) in &all {
        is_named(&rows, odd, "[unknown]", what);
    }
    no_crash(&report);
}

/// A library whose function, called NAME, runs what it is given.
fn library(scratch: &Scratch, name: &str) -> PathBuf {
    let source = format!(
        "volatile int steps; void {name}(void (*work)(void)) {{ work(); steps++; }}
         __attribute__((visibility(\"hidden\"))) void unused(void) {{ steps--; }}
         void (*entry)(void (*)(void)) = {name};"
    );
    compile(scratch, &source, &["-shared", "-fPIC"])
}

#[test]
fn a_library_may_be_replaced_or_cut_short_at_any_time() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("library.so");
    fs::copy(library(&scratch, "first_of_the_test"), &path).expect("copied");
    let odd = Odd::new(&compile(&scratch, ODD, &["-rdynamic"]), &["library", path.to_str().expect("UTF-8")]);
    let rows = Rows::start(&scratch, &profile(&[odd.pid], Some("200ms")));
    rows.wait_for("first_of_the_test");
    fs::rename(library(&scratch, "second_of_the_test"), &path).expect("replaced");
    rows.wait_for("second_of_the_test");
    no_crash(&rows.stop(&scratch));
    drop(odd);

    // Its tail, where the symbols are, comes and goes: what is mapped stays
    let odd_file = scratch.path("cut.so");
    let whole = header(|_| ());
    fs::write(&odd_file, &whole).expect("written");
    let odd = Odd::new(&compile(&scratch, ODD, &[]), &["file", odd_file.to_str().expect("UTF-8")]);
    let done = AtomicBool::new(false);
    let rows = thread::scope(|scope| {
        scope.spawn(|| {
            let file = OpenOptions::new().write(true).open(&odd_file).expect("it is there");
            let map = OpenOptions::new().create(true).truncate(false).write(true).open(odd.map()).expect("made");
            odd.own_map();
            while !done.load(Ordering::Relaxed) {
                for size in [8192, 1 << 30] {
                    file.set_len(size).expect("it can be cut");
                    map.set_len(size - 8192).expect("it can be cut");
                    thread::sleep(Duration::from_micros(500));
                }
            }
        });
        let rows = captured(&scratch, &profile(&[odd.pid], Some("100ms")), Duration::from_secs(2)).1;
        done.store(true, Ordering::Relaxed);
        rows
    });
    assert!(between(&rows, odd.pid).contains_key("[unknown]"), "{rows:#?}");
}

/// Programs of one layout, whose functions have the same addresses and other names.
fn twins(scratch: &Scratch) -> [(PathBuf, String, &'static str); 2] {
    ["first_program", "other_program"].map(|name| {
        let source = ODD.replace("outer_of_the_test", name);
        let program = compile(scratch, &source, &["-no-pie"]);
        let comm = program.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
        (program, comm, name)
    })
}

#[track_caller]
fn no_wrong_names(rows: &[Json], twins: &[(PathBuf, String, &'static str); 2]) -> [usize; 2] {
    let count = |of: usize, named: usize| {
        let rows = rows.iter().filter(|row| row["comm"] == twins[of].1.as_str());
        rows.filter(|row| frames(row).contains(&twins[named].2)).count()
    };
    assert_eq!((count(0, 1), count(1, 0)), (0, 0), "{rows:#?}");
    [count(0, 0), count(1, 1)]
}

#[test]
fn after_an_exec_no_frame_has_a_name_of_the_other_program() {
    if !root() {
        return;
    }
    for (interval, randomized) in [(None, true), (Some("100ms"), true), (None, false), (Some("100ms"), false)] {
        let scratch = Scratch::new();
        let twins = twins(&scratch);
        let (first, other) = (&twins[0].0, twins[1].0.to_str().expect("UTF-8"));
        let mut command = if randomized { Command::new(first) } else { Command::new("setarch") };
        if !randomized {
            command.arg("-R").arg(first);
        }
        let mut odd = Odd::of(command.args(["exec", other])).expect("it starts");
        let path = scratch.path("report.json");
        let capture =
            Capture::start(&scratch, &profile(&[odd.pid], interval), &["--report", path.to_str().expect("UTF-8")]);
        wait_for_samples(odd.pid);
        odd.child.stdin.take().expect("it is piped").write_all(b"x").expect("it waits");
        let until = Instant::now() + PATIENCE;
        while fs::read_to_string(format!("/proc/{}/comm", odd.pid)).expect("it runs").trim() != twins[1].1 {
            assert!(Instant::now() < until, "it did not execute the other");
            thread::sleep(Duration::from_millis(5));
        }
        wait_for_samples(odd.pid);
        let rows = records(&capture.stop().expect(0).stdout);
        let [before, after] = no_wrong_names(&rows, &twins);
        assert!(after > 0, "{rows:#?}");
        if interval.is_some() {
            assert!(before > 0, "{rows:#?}");
        } else {
            assert!(unresolved(&report(&scratch), "process_gone") > 0);
        }
    }
}

#[test]
fn a_number_that_is_used_again_brings_no_names_of_another_process() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let twins = twins(&scratch);
    let first = Odd::of(Command::new(&twins[0].0).arg("anonymous")).expect("it starts");
    let pid = first.pid;
    let path = scratch.path("report.json");
    let capture = Capture::start(&scratch, &profile(&[pid], None), &["--report", path.to_str().expect("UTF-8")]);
    wait_for_samples(pid);
    drop(first);
    let again = (0..300).find_map(|_| {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        Odd::of(Command::new(&twins[1].0).arg("anonymous")).filter(|odd| odd.pid == pid)
    });
    if again.is_some() {
        wait_for_samples(pid);
    }
    let rows = records(&capture.stop().expect(0).stdout);
    let Some(_again) = again else { return eprintln!("SKIPPED: the number {pid} could not be had again") };
    let [before, after] = no_wrong_names(&rows, &twins);
    assert!(before == 0 && after > 0, "{rows:#?}");
    assert!(unresolved(&report(&scratch), "process_gone") > 0);
}

#[test]
fn a_runner_in_namespaces_of_its_own_shows_no_wrong_name() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let odd = Odd::new(&compile(&scratch, ODD, &[]), &["anonymous"]);
    let line = odd.line("good_of_the_test");
    let odd = odd.with_map(line);
    let config = scratch.write("config.yaml", profile(&[odd.pid], None).to_string());
    let path = scratch.path("report.json");
    let within = |options: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(options).arg("--fork").arg(BINARY).arg(&config).arg("--report").arg(&path);
        let ended = run(unshare.args(["--duration", "1s"])).expect(0);
        (records(&ended.stdout), ended)
    };
    let (rows, ended) = within(&["--pid", "--mount-proc"]);
    ended.says(&["warning: names of user frames will be `[unknown]`: the runner is in a pid namespace"]);
    assert!(
        !rows.is_empty() && rows.iter().all(|row| frames(row).iter().all(|frame| *frame == "[unknown]")),
        "{rows:#?}"
    );
    assert!(unresolved(&report(&scratch), "pid_namespace") > 0);
    // There the kernel shows starts of processes at another time
    if !Path::new("/proc/self/ns/time").exists() {
        return eprintln!("SKIPPED: there are no time namespaces");
    }
    let (rows, _) = within(&["--time", "--boottime", "123456"]);
    is_named(&rows, &odd, "good_of_the_test", "in a time namespace");
}

#[test]
fn a_server_that_stops_answering_costs_the_names_of_its_own_files() {
    if !root() {
        return;
    }
    if !Path::new("/dev/fuse").exists() {
        return eprintln!("SKIPPED: there is no /dev/fuse");
    }
    let scratch = Scratch::new();
    let (program, server) = (compile(&scratch, ODD, &[]), compile(&scratch, FUSE, &[]));
    let file = scratch.write("file", header(|_| ()));
    let healthy = Odd::new(&program, &["anonymous"]);
    let line = healthy.line("good_of_the_test");
    let healthy = healthy.with_map(line);
    for how in ["plain", "detached", "late", "overlay"] {
        let directory = scratch.path(how);
        fs::create_dir(&directory).expect("a folder");
        fs::create_dir(scratch.path(&format!("{how}-empty"))).expect("a folder");
        let mapped = directory.join("f");
        let mut command = if how == "overlay" {
            // In a user namespace, as anybody may have one; the device may be for root alone
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount"]).arg(&server);
            command
        } else {
            Command::new(&server)
        };
        let place = if how == "late" { Path::new("/tmp") } else { &directory };
        command.arg(how).arg(place).arg(&file).arg(&program);
        if how == "late" {
            command.arg("anonymous")
        } else {
            command.arg("file").arg(mapped)
        };
        let Some(odd) = Odd::of(&mut command) else {
            eprintln!("SKIPPED: {how}: it can't be mounted here");
            continue;
        };
        let config = profile(&[odd.pid, healthy.pid], Some("500ms"));
        let (_, rows, report) = captured(&scratch, &config, Duration::from_secs(2));
        is_named(&rows, &odd, "[unknown]", how);
        is_named(&rows, &healthy, "good_of_the_test", how);
        no_crash(&report); // nor does anything wait for the server
        let cause = if how == "late" { "no_file" } else { "file_refused" };
        assert!(unresolved(&report, cause) > 0, "{how}: {report:#}");
    }
}

/// A capture of a process whose names are known, at an interval, after its first row.
fn at_work(scratch: &Scratch) -> (Odd, Rows) {
    let odd = Odd::new(&compile(scratch, ODD, &[]), &["anonymous"]);
    let line = odd.line("good_of_the_test");
    let odd = odd.with_map(line);
    let rows = Rows::start(scratch, &profile(&[odd.pid], Some("200ms")));
    rows.wait_for("good_of_the_test");
    (odd, rows)
}

#[test]
fn a_worker_that_is_killed_or_stopped_is_replaced() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (odd, rows) = at_work(&scratch);
    let (mut worker_now, _) = worker(rows.capture.pid(), None);
    for (what, name) in [(Signal::KILL, "after_kill"), (Signal::STOP, "after_stop")] {
        signal(worker_now, what);
        // What is remembered does not need it; a new name does
        fs::write(odd.map(), odd.line(name)).expect("written");
        (worker_now, _) = worker(rows.capture.pid(), Some(worker_now));
        rows.wait_for(name);
    }
    let (worker, supervisor) = worker(rows.capture.pid(), None);
    let report = rows.stop(&scratch);
    assert!(report["symbol_helper_restarts"].as_u64() >= Some(2), "{report:#}");
    [worker, supervisor].into_iter().for_each(is_gone);
}

#[test]
fn without_a_supervisor_names_are_missing_and_nothing_else() {
    if !root() {
        return;
    }
    for how in [Signal::KILL, Signal::STOP] {
        let scratch = Scratch::new();
        let (odd, rows) = at_work(&scratch);
        let (worker, supervisor) = worker(rows.capture.pid(), None);
        signal(supervisor, how);
        if how == Signal::STOP {
            signal(worker, Signal::KILL); // it stays there until its parent goes on
        } else {
            is_gone(worker);
        }
        fs::write(odd.map(), odd.line("newer_name")).expect("written");
        rows.wait_for("[unknown]");
        let report = rows.stop(&scratch);
        assert!(unresolved(&report, "no_helper") > 0, "{report:#}");
        assert_eq!((&report["reconciles"], &report["exit_code"]), (&json!(true), &json!(0)), "{report:#}");
        [worker, supervisor].into_iter().for_each(is_gone);
    }
}

/// However often workers stop answering, the end of a window is no later than the docs say.
#[test]
fn names_never_take_longer_than_they_may() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let program = compile(&scratch, ODD, &[]);
    let all: Vec<Odd> = (0..6).map(|_| Odd::new(&program, &["anonymous"])).collect();
    let pids: Vec<u32> = all.iter().map(|odd| odd.pid).collect();
    let mut config = profile(&pids, Some("500ms"));
    // Several probes have no more time together than one
    let probe = config["probes"][0].clone();
    let named = |name: &str| {
        let mut probe = probe.clone();
        probe["name"] = json!(name);
        probe
    };
    config["probes"] = json!(["a", "b", "c", "d", "e", "f"].map(named));
    let path = scratch.path("report.json");
    let capture = Capture::start(&scratch, &config, &["--report", path.to_str().expect("UTF-8")]);
    let (runner, done) = (capture.pid(), AtomicBool::new(false));
    let took = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let (_, Some(worker)) = helpers(runner) {
                    let pid = Pid::from_raw(worker as i32).expect("a pid");
                    let _ = kill_process(pid, Signal::STOP);
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        worker(runner, None);
        let asked = Instant::now();
        let ended = capture.stop();
        done.store(true, Ordering::Relaxed);
        ended.expect(0);
        asked.elapsed()
    });
    let report = report(&scratch);
    assert!(report["symbol_helper_restarts"].as_u64() > Some(0), "{report:#}");
    assert!(took < MOST_FOR_NAMES + REST, "{took:?}");
}

/// As a terminal does with Ctrl-C, and systemd with KillMode=control-group: the signal goes to all processes of a run.
#[test]
fn signals_to_all_processes_of_a_run_end_it_with_its_names() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let odd = Odd::new(&compile(&scratch, ODD, &[]), &["anonymous"]);
    let line = odd.line("good_of_the_test");
    let odd = odd.with_map(line);
    for what in [Signal::INT, Signal::TERM, Signal::HUP] {
        let capture = Capture::start(&scratch, &profile(&[odd.pid], None), &[]);
        wait_for_samples(odd.pid);
        let (supervisor, _) = helpers(capture.pid());
        signal(supervisor.expect("there is one"), what);
        if what != Signal::HUP {
            capture.signal(what);
        }
        let ended = if what == Signal::HUP { capture.stop() } else { capture.wait() };
        is_named(&records(&ended.expect(0).stdout), &odd, "good_of_the_test", &format!("{what:?}"));
    }
}

#[test]
fn the_helper_has_only_what_it_needs_and_is_not_in_the_records() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let odd = Odd::new(&compile(&scratch, ODD, &[]), &["anonymous"]);
    let comm = json!({"comm": "ebpf-run-names"});
    let config = json!({
        "version": 1,
        "max_loss": "100%",
        "window": {"lock": scratch.path("lock")},
        "probes": [
            profile(&[odd.pid], Some("100ms"))["probes"][0],
            {"program": "profile", "name": "self", "filters": {"comm": "ebpf-run-names", "event": "cpu_clock", "frequency": "499Hz"}},
            {"program": "offcputime", "filters": comm},
            {"program": "opensnoop", "filters": comm},
            {"program": "execsnoop", "filters": comm},
            {"program": "exitsnoop", "filters": comm},
            {"program": "syscount", "filters": comm},
        ],
        "sinks": {"out": {"type": "jsonl"}, "file": {"type": "jsonl", "path": scratch.path("out.jsonl")}},
    });
    let rows = Rows::start(&scratch, &config);
    let runner = rows.capture.pid();
    let (worker, supervisor) = worker(runner, None);
    rows.wait_for("inner_of_the_test");
    // DAC_READ_SEARCH, SYS_PTRACE, CHECKPOINT_RESTORE; before 5.9 SYS_ADMIN in place of the last
    let wanted = format!("{:016x}", 1_u64 << 2 | 1 << 19 | 1 << 40);
    for pid in [worker, supervisor] {
        for set in ["CapEff:", "CapPrm:"] {
            assert_eq!(status(pid, set), wanted, "{set}");
        }
        for set in ["CapInh:", "CapAmb:"] {
            assert_eq!(status(pid, set), "0000000000000000", "{set}");
        }
        assert_eq!(status(pid, "NoNewPrivs:"), "1");
        let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
        let files: Vec<_> = files.filter_map(|file| fs::read_link(file.path()).ok()).collect();
        let files: Vec<&str> = files.iter().filter_map(|path| path.to_str()).collect();
        let count = |what: &str| files.iter().filter(|path| path.starts_with(what)).count();
        assert_eq!((count("/dev/null"), count("socket:")), (3, 1), "{files:?}");
        let own = [scratch.path("lock"), scratch.path("out.jsonl")];
        assert!(own.iter().all(|path| !files.contains(&path.to_str().expect("UTF-8"))), "{files:?}");
        assert_eq!((count("anon_inode:"), count("pipe:")), (0, 0), "no maps, programs, or streams: {files:?}");
    }
    assert_eq!((status(worker, "Seccomp:"), status(runner, "Seccomp:")), ("2".into(), "0".into()));
    // Killed, it leaves nothing
    signal(runner, Signal::KILL);
    [worker, supervisor].into_iter().for_each(is_gone);
    let mine = |row: &&Json| row["pid"] == worker || row["pid"] == supervisor;
    let seen: Vec<Json> = rows.lines.iter().filter_map(|line| serde_json::from_str(&line).ok()).collect();
    assert_eq!(seen.iter().filter(mine).collect::<Vec<_>>(), Vec::<&Json>::new());
}

#[test]
fn a_run_that_lacks_the_rights_for_names_says_so_and_keeps_stacks_apart() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let odd = Odd::new(&compile(&scratch, ODD, &[]), &["anonymous"]);
    let config = scratch.write("config.yaml", profile(&[odd.pid], None).to_string());
    let path = scratch.path("report.json");
    let without = |rights: &str| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args([format!("--inh-caps={rights}"), format!("--bounding-set={rights}")]).arg(BINARY).arg(&config);
        let ended = run(setpriv.arg("--report").arg(&path).args(["--duration", "1s"])).expect(0);
        (records(&ended.stdout), report(&scratch), ended)
    };
    let (rows, _, ended) = without("-syslog");
    ended.says(&["warning: names of kernel frames will be `[unknown]`", "CAP_SYSLOG"]);
    assert!(rows.iter().any(|row| frames(row).contains(&"inner_of_the_test")), "{rows:#?}");
    let (rows, report, ended) = without("-sys_ptrace,-checkpoint_restore,-sys_admin");
    let words =
        "warning: names of user frames may be `[unknown]`: the process lacks CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE";
    ended.says(&[words, "not permitted "]);
    assert!(unresolved(&report, "not_permitted") > 0, "{report:#}");
    assert!(
        rows.len() > 1 && rows.iter().all(|row| frames(row).iter().all(|frame| *frame == "[unknown]")),
        "{rows:#?}"
    );
}

/// Distributions that strip their programs leave the names in a section of its own.
#[test]
fn names_are_found_in_a_compressed_symbol_table() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let full =
        compile(&scratch, &ODD.replace("__attribute__((noinline)) void", "__attribute__((noinline)) static void"), &[]);
    let name = unique_name();
    let script = format!(
        "set -e; objcopy -S {full} {name}; objcopy -S --keep-symbol=inner_of_the_test --keep-symbol=outer_of_the_test {full} mini; \
         xz mini; objcopy --add-section .gnu_debugdata=mini.xz {name}",
        full = full.display()
    );
    if ["objcopy", "xz"].iter().any(|tool| Command::new(tool).arg("--version").output().is_err()) {
        return eprintln!("SKIPPED: objcopy or xz is not installed");
    }
    run(Command::new("sh").args(["-c", &script]).current_dir(scratch.path(""))).expect(0);
    let odd = Odd::new(&scratch.path(&name), &["anonymous"]);
    let line = odd.line("good_of_the_test");
    let odd = odd.with_map(line);
    let (_, rows, _) = captured(&scratch, &profile(&[odd.pid], None), Duration::from_secs(1));
    is_named(&rows, &odd, "good_of_the_test", "a stripped program");
}
