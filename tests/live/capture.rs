//! A run of the binary that a test drives: started and attached, given something to see, ended, read.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ebpf_run::event::text::safe_json;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::common::{BINARY, Ended, Scratch};
use crate::reports::valid_report;
use crate::variants::{UNSUPPORTED, Variant};

/// A machine that does other things too, or that is emulated, may take its time.
const PATIENCE: Duration = Duration::from_secs(180);

/// A config with `probes` and one sink, JSON Lines on standard output. (JSON is YAML.)
pub fn to_jsonl(probes: Json) -> Json {
    json!({"version": 1, "probes": probes, "sinks": {"out": {"type": "jsonl"}}})
}

/// The same for hooks that are busy: kernels from 7.0 on leave some out (docs/explanation/limits.md), and then it is the test that sees
/// what is missing.
pub fn to_jsonl_of_busy(probes: Json) -> Json {
    let mut config = to_jsonl(probes);
    config["max_loss"] = json!("100%");
    config
}

/// The records of JSON Lines, without the lines that say what is missing.
#[track_caller]
pub fn records(lines: &str) -> Vec<Json> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    lines.lines().map(parse).filter(|line: &Json| line.get("lost").is_none()).collect()
}

/// The records of the probe `name`.
pub fn of_probe<'a>(records: &'a [Json], name: &str) -> Vec<&'a Json> {
    records.iter().filter(|record| record["probe"] == name).collect()
}

/// The report of a run that was started with `--report`, as report.json in `scratch`.
#[track_caller]
pub fn report(scratch: &Scratch) -> Json {
    let text = std::fs::read_to_string(scratch.path("report.json")).expect("a report");
    valid_report(&text)
}

/// What the summary says of the probe `name`: received, written and lost records.
#[track_caller]
pub fn summary(ended: &Ended, name: &str) -> [u64; 3] {
    let words = ended.stderr.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut lines = words.filter(|words| words.first() == Some(&name) && words.len() > 3);
    let line = lines.next().unwrap_or_else(|| panic!("no summary of {name} in:\n{}", ended.stderr));
    [1, 2, 3].map(|i| line[i].parse().unwrap_or_else(|_| panic!("no numbers: {line:?}")))
}

/// That all of `wanted` events were found; on a kernel that leaves hooks out, that no more are missing than the summary says
/// may be. For tests that are about something else than the count, with a config that bears losses.
#[track_caller]
pub fn complete(found: usize, wanted: usize, ended: &Ended) {
    let missed = ended.stderr.split("(up to ").skip(1).filter_map(|rest| rest.split_once(" more may be missing"));
    let missed: usize = missed.filter_map(|(count, _)| count.parse::<usize>().ok()).sum();
    let least = wanted.saturating_sub(missed);
    assert!((least..=wanted).contains(&found), "{found} of {wanted}, {missed} may be missing:\n{}", ended.stderr);
}

/// The binary, at work. Killed if the test gives up on it.
pub struct Capture {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    /// Where its records go instead.
    file: Option<PathBuf>,
    stderr: Receiver<String>,
    said: String,
    /// When the line that says so was read.
    pub attached: Instant,
}

impl Capture {
    /// Runs `config`, which is put into `scratch`, until everything is attached.
    #[track_caller]
    pub fn start(scratch: &Scratch, config: &Json, args: &[&str]) -> Self {
        let (mut capture, mut stdout) = Capture::start_piped(scratch, config, args);
        capture.stdout = Some(thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("standard output is UTF-8");
            text
        }));
        capture
    }

    /// Runs the binary with `args`, which name the config, until everything is attached.
    #[track_caller]
    pub fn start_with(args: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(args);
        let mut capture = Capture::start_command(command);
        let mut stdout = capture.child.stdout.take().expect("it is piped");
        capture.stdout = Some(thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("standard output is UTF-8");
            text
        }));
        capture
    }

    /// The same as [`start`](Self::start), as the command that `wrapper` runs; it has to execute it as the same process.
    #[track_caller]
    pub fn start_in(mut wrapper: Command, scratch: &Scratch, config: &Json, args: &[&str]) -> Self {
        let path = scratch.write("config.yaml", format!("{config:#}"));
        wrapper.arg(BINARY).arg(path).args(args);
        let mut capture = Capture::spawn_command(wrapper);
        capture.wait_for("ebpf-run: attached ");
        let mut stdout = capture.child.stdout.take().expect("it is piped");
        capture.stdout = Some(thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("standard output is UTF-8");
            text
        }));
        capture
    }

    /// Runs `command`, which becomes the binary, until everything is attached. Its standard output is not read.
    #[track_caller]
    pub fn start_command(command: Command) -> Self {
        let mut capture = Capture::spawn_command(command);
        capture.wait_for("ebpf-run: attached ");
        capture.attached = Instant::now();
        capture
    }

    /// The same, with the reading end of its standard output.
    #[track_caller]
    pub fn start_piped(scratch: &Scratch, config: &Json, args: &[&str]) -> (Self, ChildStdout) {
        let mut capture = Capture::spawn(&scratch.write("config.yaml", safe_json(&format!("{config:#}"))), args);
        capture.wait_for("ebpf-run: attached ");
        capture.attached = Instant::now();
        let stdout = capture.child.stdout.take().expect("it is piped");
        (capture, stdout)
    }

    /// Runs `config`, whose sink is the one of [`to_jsonl`], with only one variant of a group of alternatives, or as it is and
    /// with a [`report`].
    /// `None` if this kernel can't run that one, for a reason that was seen to be one.
    #[track_caller]
    pub fn start_by(variant: Option<&Variant>, scratch: &Scratch, config: &Json) -> Option<Self> {
        let Some(variant) = variant else {
            let path = scratch.path("report.json");
            return Some(Capture::start(scratch, config, &["--report", path.to_str().expect("UTF-8")]));
        };
        let (mut config, file) = (config.clone(), scratch.path("out.jsonl"));
        config["sinks"]["out"]["path"] = json!(file);
        let path = scratch.write("config.yaml", format!("{config:#}"));
        let mut capture = Capture::spawn_command(variant.runner(&path));
        match capture.said_line("ebpf-run: attached ") {
            Ok(()) => {
                capture.file = Some(file);
                capture.attached = Instant::now();
                Some(capture)
            }
            Err(said) => {
                let lacking = ["there is no function ", "there is no tracepoint ", "has no kprobes", "does not allow "];
                let reason = said.lines().find_map(|line| line.strip_prefix(UNSUPPORTED));
                let reason = reason.filter(|reason| lacking.iter().any(|lacking| reason.contains(lacking)));
                eprintln!("SKIPPED: {}", reason.unwrap_or_else(|| panic!("{variant:?}: {said}")));
                None
            }
        }
    }

    fn spawn(config: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg(config).args(args);
        Capture::spawn_command(command)
    }

    fn spawn_command(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (sender, stderr) = channel();
        let pipe = BufReader::new(child.stderr.take().expect("it is piped"));
        thread::spawn(move || pipe.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Capture { child, stdout: None, file: None, stderr, said: String::new(), attached: Instant::now() }
    }

    /// Reads standard error up to the line that begins with `words`.
    #[track_caller]
    pub fn wait_for(&mut self, words: &str) {
        self.said_line(words).unwrap_or_else(|said| panic!("`{words}` never came:\n{said}"));
    }

    /// Whether a line that begins with `words` came; what was said instead if it ended without, or took too long.
    fn said_line(&mut self, words: &str) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said += &format!("{line}\n");
                    if line.starts_with(words) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(format!("{}(it goes on)", self.said)),
                Err(RecvTimeoutError::Disconnected) => return Err(format!("{}(it ended)", self.said)),
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is still there");
    }

    /// Ends the window as Ctrl-C does.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.signal(Signal::INT);
        self.wait()
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.said);
            thread::sleep(Duration::from_millis(2));
        };
        for line in self.stderr.iter() {
            self.said += &format!("{line}\n");
        }
        let stdout = match &self.file {
            Some(file) => std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{error}:\n{}", self.said)),
            None => self.stdout.take().map_or_else(String::new, |reader| reader.join().expect("it does not panic")),
        };
        Ended { code: status.code(), stdout, stderr: std::mem::take(&mut self.said) }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Only if a test gave up on it is there anything to end
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
