//! One window: what it captures, where it writes, and its run.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libc::pid_t;
use serde_json::{Value as Json, json};

use crate::place::{CALLER, DECOY, Place, USER, WITNESS};
use crate::rng::Rng;
use crate::sys;
use crate::watch::{Watch, threads};

/// How long a run may take until it is attached: other programs keep the machine busy.
const STARTUP: Duration = Duration::from_secs(20);
/// How long a run may take from the end of its window.
pub const GRACE: Duration = Duration::from_secs(10);
/// The room of the small disk.
const SMALL: &str = "size=4m,mode=755";

/// What the place of a run's output is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    Plain,
    PidNamespace,
    FullDisk,
    FileLimit,
    FewDescriptors,
    /// Root's link to the directory lies in a directory of the user, who swaps it for one of his own.
    SwappedLink,
    /// The files are in a directory of the user, who puts other things in their places.
    UsersDirectory,
}

impl Setting {
    pub const ALL: [Setting; 7] = [
        Setting::Plain,
        Setting::PidNamespace,
        Setting::FullDisk,
        Setting::FileLimit,
        Setting::FewDescriptors,
        Setting::SwappedLink,
        Setting::UsersDirectory,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Setting::Plain => "plain",
            Setting::PidNamespace => "pid-namespace",
            Setting::FullDisk => "full-disk",
            Setting::FileLimit => "file-limit",
            Setting::FewDescriptors => "few-descriptors",
            Setting::SwappedLink => "swapped-link",
            Setting::UsersDirectory => "users-directory",
        }
    }

    /// The exit codes that a run may have (docs/reference/exit-codes.md).
    pub fn codes(self) -> &'static [i32] {
        match self {
            Setting::Plain | Setting::PidNamespace => &[0, 3],
            Setting::FullDisk | Setting::FileLimit | Setting::SwappedLink | Setting::UsersDirectory => &[0, 1, 3],
            Setting::FewDescriptors => &[0, 1, 3, 5],
        }
    }

    fn draw(rng: &mut Rng) -> Self {
        if rng.once_in(2) { Setting::Plain } else { rng.pick(&Setting::ALL[1..]) }
    }

    /// Whether another user can change the files in the end.
    pub fn is_others(self) -> bool {
        matches!(self, Setting::SwappedLink | Setting::UsersDirectory)
    }
}

/// A window, drawn from the seed.
#[derive(Clone, Debug)]
pub struct Window {
    pub number: u64,
    /// The shipped config, without `.yaml`.
    pub config: String,
    pub setting: Setting,
    pub duration: Duration,
    /// Only the filter on the user, not those of the shipped config.
    pub wide: bool,
    interval: bool,
    limit: u64,
    rng: Rng,
}

/// How a run went.
#[derive(Debug, Default)]
pub struct Ran {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// The exit code of `doctor` for the config, after a run that found a program unsupported.
    pub doctor: Option<i32>,
    /// From the end of the window to that of the run.
    pub over: Duration,
    pub watch: Watch,
    /// Where its threads were when it did not end in time.
    pub hung: Option<String>,
    pub left: Vec<String>,
    /// Processes that it has left, and that ended only with the attackers: no signal ends one that waits for a FUSE server.
    pub waiting: usize,
}

impl Window {
    pub fn draw(seed: u64, number: u64, configs: &[String]) -> Self {
        let count = configs.len() as u64;
        let mut order: Vec<&String> = configs.iter().collect();
        let mut shuffle = Rng::of(!seed, number / count);
        for i in (1..order.len()).rev() {
            order.swap(i, shuffle.index(i + 1));
        }
        let mut rng = Rng::of(seed, !number);
        Window {
            number,
            config: order[(number % count) as usize].clone(),
            setting: Setting::draw(&mut rng),
            duration: rng.millis(1000, 2500),
            wide: rng.once_in(2),
            interval: rng.once_in(2),
            limit: rng.next(),
            rng,
        }
    }

    /// The directory of its files.
    pub fn directory(&self, place: &Place) -> PathBuf {
        match self.setting {
            Setting::FullDisk => place.path("small"),
            Setting::SwappedLink => place.path("links/current"),
            Setting::UsersDirectory => place.path("links"),
            _ => place.path("out"),
        }
    }

    /// Writes the config, and returns the command.
    fn command(&self, place: &Place, binary: &Path, filters: bool, aggregates: bool) -> io::Result<Command> {
        let directory = self.directory(place);
        let mut config = json!({
            "version": 1,
            "name": "hostile",
            "include": format!("{}.yaml", self.config),
            "window": {"duration": format!("{}ms", self.duration.as_millis())},
            "sinks": {
                "rows": {"type": "jsonl", "path": directory.join("rows.jsonl")},
                "table": {"type": "csv", "path": directory.join("rows.csv")},
            },
        });
        if filters {
            config["defaults"] = json!({"filters": {"uid": USER}});
        }
        if self.config == "llcstat" {
            // As the shipped config says for machines that do not count cache references
            config["defaults"]["filters"]["event"] = json!("cpu_clock");
            config["defaults"]["filters"]["period"] = json!(1_000_000);
        }
        let path = place.path("configs/window.yaml");
        fs::write(&path, config.to_string())?;
        let mut command = if self.setting == Setting::PidNamespace {
            let mut command = Command::new("unshare");
            command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]).arg(std::env::current_exe()?);
            command.arg("inside").arg(place.path("bin").join(DECOY)).arg(witnesses()).arg(binary);
            command
        } else {
            Command::new(binary)
        };
        command.arg("run").arg(path).arg("--report").arg(place.path("record/report.json"));
        if self.wide && filters && self.config != "llcstat" {
            command.arg("--set").arg(format!("probes.0.filters={{uid: {USER}}}"));
        }
        if self.interval && aggregates {
            command.args(["--set", "probes.0.interval=300ms"]);
        }
        command.current_dir(place.path("cwd")).env("TMPDIR", place.path("tmp"));
        command.stdin(Stdio::null());
        command.stdout(File::create(place.path("record/stdout"))?);
        command.stderr(File::create(place.path("record/stderr"))?);
        let limit = match self.setting {
            Setting::FileLimit => Some((libc::RLIMIT_FSIZE, 512 + self.limit % 30_000)),
            Setting::FewDescriptors => Some((libc::RLIMIT_NOFILE, 8 + self.limit % 60)),
            _ => None,
        };
        if let Some((resource, value)) = limit {
            // SAFETY: one system call
            unsafe { command.pre_exec(move || sys::limit(resource, value)) };
        }
        Ok(command)
    }

    /// Runs it among attackers.
    pub fn run(&self, place: &Place, seed: u64, binary: &Path, only: &str) -> io::Result<Ran> {
        let (filters, aggregates) = of_program(binary, &place.path(&format!("configs/{}.yaml", self.config)))?;
        self.prepare(place)?;
        let attackers = start_attackers(place, seed, self.number, only)?;
        let command = self.command(place, binary, filters, aggregates)?;
        let meddler = self.meddle(place)?;
        let ran = follow(command, place, self.duration);
        let waiting = beside(&[Some(attackers.id() as pid_t), meddler]);
        if let Some(meddler) = meddler {
            sys::kill(meddler, libc::SIGKILL);
            sys::reap(meddler, 0);
        }
        let ended = end_attackers(place, attackers);
        let mut ran = ran?;
        ended?;
        ran.left = left_over();
        ran.waiting = waiting;
        if ran.code == Some(4) {
            let config = place.path("configs/window.yaml");
            ran.doctor = Command::new(binary).arg("doctor").arg(config).output()?.status.code();
        }
        Ok(ran)
    }

    fn prepare(&self, place: &Place) -> io::Result<()> {
        match self.setting {
            Setting::FullDisk => {
                sys::mount("none", &place.path("small"), "tmpfs", 0, SMALL)?;
                let room = rustix::fs::statvfs(place.path("small"))?;
                let leave = 4096 * (1 + self.limit % 16);
                let filler = File::create(place.path("small/filler"))?;
                let size = (room.f_bavail * room.f_frsize).saturating_sub(leave);
                rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, size)?;
            }
            Setting::SwappedLink => symlink(place.path("good"), place.path("links/current"))?,
            _ => {}
        }
        Ok(())
    }

    /// The user who meddles with the directory of the output.
    fn meddle(&self, place: &Place) -> io::Result<Option<pid_t>> {
        if !self.setting.is_others() {
            return Ok(None);
        }
        let swaps = self.setting == Setting::SwappedLink;
        let mut rng = self.rng.clone();
        let work = || {
            // SAFETY: no memory is involved
            unsafe {
                sys::ok(libc::setgroups(0, std::ptr::null()))?;
                sys::ok(libc::setresgid(USER, USER, USER))?;
                sys::ok(libc::setresuid(USER, USER, USER))?;
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            }
            std::env::set_current_dir(place.path("links"))?;
            if swaps {
                symlink(place.path("evil"), "mine")?;
            } else if rng.once_in(2) {
                std::thread::sleep(rng.millis(0, 2500)); // there are files by then
            }
            loop {
                if swaps {
                    for _ in 0..50 {
                        let _ = sys::exchange(Path::new("current"), Path::new("mine"));
                    }
                } else {
                    let _ = put_something(place, &mut rng);
                }
                std::thread::sleep(Duration::from_micros(rng.range(50, 400)));
            }
        };
        sys::fork(work).map(Some)
    }

    /// Removes what this window has left.
    pub fn clear(&self, place: &Place) -> io::Result<()> {
        if self.setting == Setting::FullDisk {
            let small = sys::c(place.path("small"));
            // SAFETY: the path outlives the call
            sys::ok(unsafe { libc::umount2(small.as_ptr(), libc::MNT_DETACH) })?;
        }
        for name in ["out", "good", "links", "evil", "record"] {
            for entry in fs::read_dir(place.path(name))? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?
                } else {
                    fs::remove_file(entry.path())?
                }
            }
        }
        Ok(())
    }
}

/// The numbers of processes of the user whose functions are known, with commas.
fn witnesses() -> String {
    let all = crate::attackers::descendants(std::process::id() as pid_t);
    let known = |pid: &pid_t| {
        let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        [WITNESS, CALLER].iter().any(|name| comm.strip_suffix(b"\n") == Some(name.as_bytes()))
    };
    all.iter().filter(|pid| known(pid)).map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// `inside PROGRAM PIDS RUNNER ARGUMENTS…` in a pid namespace: starts the program under each of the numbers, and becomes the
/// runner. A program that takes the kernel's numbers for those of this namespace then finds the wrong processes.
pub fn run_inside(arguments: &[String]) -> io::Result<()> {
    let [program, pids, runner @ ..] = arguments else { return Err(io::Error::other("arguments are missing")) };
    let program = sys::c(program);
    for pid in pids.split(',').filter_map(|pid| pid.parse().ok()) {
        sys::fork_as(pid, || Err(sys::exec(&program, &[&program])))?;
    }
    Err(Command::new(&runner[0]).args(&runner[1..]).exec())
}

/// Puts something else where a file of the run may be.
fn put_something(place: &Place, rng: &mut Rng) -> io::Result<()> {
    let name = Path::new(rng.pick(&["rows.jsonl", "rows.jsonl.partial", "rows.csv", "rows.csv.partial"]));
    let other = Path::new("other");
    let _ = fs::remove_file(other).or_else(|_| fs::remove_dir(other));
    match rng.range(0, 6) {
        0 => symlink(place.path("secret/map"), other)?,
        1 => symlink(place.path("evil").join(name), other)?,
        2 => sys::mkfifo(other, 0o666)?,
        3 => fs::create_dir(other)?,
        4 => fs::write(other, "of the user\n")?,
        _ => return fs::remove_file(name),
    }
    if rng.once_in(2) { fs::rename(other, name) } else { sys::exchange(other, name) }
}

/// Whether the program of a config has the filter `uid`, and whether it is one with rows.
fn of_program(binary: &Path, config: &Path) -> io::Result<(bool, bool)> {
    let output = Command::new(binary).args(["plan", "--json"]).arg(config).output()?;
    let plan: Json = serde_json::from_slice(&output.stdout)?;
    let program = plan["probes"][0]["program"].as_str().unwrap_or_default();
    let described = Command::new(binary).args(["describe", "--json", program]).output()?;
    let described: Json = serde_json::from_slice(&described.stdout)?;
    let has_user = described["filters"].as_array().is_some_and(|all| all.iter().any(|filter| filter["name"] == "uid"));
    Ok((has_user, !plan["probes"][0]["aggregate"].is_null()))
}

fn start_attackers(place: &Place, seed: u64, number: u64, only: &str) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("attackers").arg(place.root()).args([seed.to_string(), number.to_string(), only.to_owned()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(File::create(place.path("record/attackers.stderr"))?);
    let mut child = command.spawn()?;
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().expect("a pipe")), &mut line)?;
    if line != "ready\n" {
        let status = child.wait()?;
        let words = fs::read_to_string(place.path("record/attackers.stderr"))?;
        return Err(io::Error::other(format!("the attackers did not start: {status}: {words}")));
    }
    // Some of the attacks are in their code before the window begins
    std::thread::sleep(Duration::from_millis(100));
    Ok(child)
}

fn end_attackers(place: &Place, mut child: Child) -> io::Result<()> {
    sys::kill(child.id() as pid_t, libc::SIGTERM);
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let words = fs::read_to_string(place.path("record/attackers.stderr"))?;
    Err(io::Error::other(format!("the attackers: {status}: {words}")))
}

/// Starts the runner and waits until it ends, or until it should have.
fn follow(mut command: Command, place: &Place, duration: Duration) -> io::Result<Ran> {
    let mut ran = Ran::default();
    let began = Instant::now();
    let mut child = command.spawn()?;
    drop(command);
    let pid = child.id() as pid_t;
    let (mut attached, mut sampled) = (None, None::<Instant>);
    loop {
        if let Some(status) = child.try_wait()? {
            (ran.code, ran.signal) = (status.code(), status.signal());
            break;
        }
        let now = Instant::now();
        if attached.is_none() && says_attached(place) {
            attached = Some(now);
        }
        if sampled.is_none_or(|at| now - at > Duration::from_millis(100)) {
            ran.watch.sample(pid);
            sampled = Some(now);
        }
        let deadline = attached.map_or(began + STARTUP + duration, |at| at + duration) + GRACE;
        if now > deadline {
            ran.hung = Some(threads(pid));
            for each in crate::attackers::descendants(pid) {
                sys::kill(each, libc::SIGKILL);
            }
            child.kill()?;
            break; // not waited for: it may wait for a server that does not answer
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    ran.over = attached.map_or(Duration::ZERO, |at| Instant::now().saturating_duration_since(at + duration));
    Ok(ran)
}

fn says_attached(place: &Place) -> bool {
    let words = fs::read(place.path("record/stderr")).unwrap_or_default();
    String::from_utf8_lossy(&words).contains("ebpf-run: attached")
}

/// How many processes a run that has ended has left, beside those that are known.
fn beside(known: &[Option<pid_t>]) -> usize {
    let own = std::process::id() as pid_t;
    let until = Instant::now() + Duration::from_secs(1);
    loop {
        let mut others = crate::attackers::descendants(own);
        let theirs: Vec<pid_t> = known.iter().flatten().flat_map(|of| crate::attackers::descendants(*of)).collect();
        let alive = |pid: pid_t| {
            let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2));
            state.is_some_and(|state| *state != b'Z')
        };
        others.retain(|pid| !known.contains(&Some(*pid)) && !theirs.contains(pid) && alive(*pid));
        if others.is_empty() || Instant::now() > until {
            return others.len();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Children that the runner has left, by their names. This process is their subreaper.
fn left_over() -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        while sys::reap(-1, libc::WNOHANG).is_some() {}
        let left = crate::attackers::descendants(std::process::id() as pid_t);
        if left.is_empty() {
            return Vec::new();
        }
        if Instant::now() > until {
            let name = |pid: &pid_t| fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            let names = left.iter().map(|pid| format!("{pid} {}", String::from_utf8_lossy(&name(pid)).trim_end()));
            let names = names.collect();
            for pid in left {
                sys::kill(pid, libc::SIGKILL);
            }
            return names;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
