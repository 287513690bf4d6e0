//! Sinks in what the runner has inherited: streams that are non-blocking, slow, closed, or none.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::capture::records;
use crate::common::{BINARY, Scratch, run};
use crate::load::{failing_calls, unique_name};
use crate::reports::valid_report;
use crate::root;

/// A config that writes the calls of the returned command to `path`, as JSON Lines.
fn to(scratch: &Scratch, path: &str) -> (std::path::PathBuf, String) {
    let comm = unique_name();
    let config = json!({
        "version": 1,
        "max_loss": "100%", // on kernels from 7.0 on, what others make the kernel leave out
        "probes": [{"program": "execsnoop", "filters": {"comm": comm}}],
        "sinks": {"out": {"type": "jsonl", "path": path}},
    });
    (scratch.write("config.yaml", config.to_string()), comm)
}

/// Fills a pipe or a socket, which does not block from then on; returns how much is in it.
fn fill(writer: &OwnedFd) -> usize {
    let flags = fcntl_getfl(writer).expect("it is open");
    fcntl_setfl(writer, flags | OFlags::NONBLOCK).expect("it is a pipe or a socket");
    let mut count = 0;
    while let Ok(written) = rustix::io::write(writer, &[b' '; 4096]) {
        count += written;
    }
    count
}

fn calls(comm: &str, count: usize) {
    failing_calls(comm, count, 1000, |_| ()).join().expect("the load does not panic");
}

/// Reads `count` bytes, which were there before, and then all the rest.
fn reads_behind(mut reader: impl std::io::Read + Send + 'static, count: usize) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).expect("it can be read");
        bytes.split_off(count)
    })
}

/// The lines of standard error up to the one that says that everything is attached; the rest can be read on.
fn wait_until_attached(child: &mut Child) -> BufReader<ChildStderr> {
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut said = String::new();
    while !said.contains("ebpf-run: attached ") {
        assert_ne!(stderr.read_line(&mut said).expect("text"), 0, "it ended:\n{said}");
    }
    stderr
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(child.id() as i32).expect("it has a number");
    kill_process(pid, Signal::INT).expect("it is there");
}

/// Waits until the writer of `child` sleeps in poll(2) or write(2), because its stream takes nothing.
fn wait_until_stuck(child: &Child) {
    let until = Instant::now() + Duration::from_secs(60);
    let tasks = format!("/proc/{}/task", child.id());
    loop {
        let writer = fs::read_dir(&tasks)
            .expect("it has not ended")
            .flatten()
            .find(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm == "ebpf-run-writer\n"));
        let place = writer.and_then(|task| fs::read_to_string(task.path().join("wchan")).ok()).unwrap_or_default();
        if ["poll", "pipe", "sock", "unix"].iter().any(|word| place.contains(word)) {
            return;
        }
        assert!(Instant::now() < until, "it does not wait for its stream, but at `{place}`");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_full_non_blocking_stream_gets_every_record_in_time() {
    if !root() {
        return;
    }
    for (path, through) in
        [("-", "stdout"), ("/dev/stdout", "socket"), ("/dev/fd/3", "stdout"), ("/proc/self/fd/3", "stdout")]
    {
        let scratch = Scratch::new();
        let (config, comm) = to(&scratch, path);
        let (reader, writer): (OwnedFd, OwnedFd) = match through {
            "socket" => UnixStream::pair().map(|(reader, writer)| (reader.into(), writer.into())).expect("sockets"),
            _ => rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe"),
        };
        let filled = fill(&writer);
        // The third descriptor is a shell's to make: Rust gives a child only three
        let mut shell = Command::new("sh");
        let script = if path.ends_with('3') { "exec \"$@\" 3>&1 >/dev/null" } else { "exec \"$@\"" };
        shell.args(["-c", script, "sh", BINARY]).arg(config).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let mut child = shell.spawn().expect("it starts");
        drop(shell);
        let mut stderr = wait_until_attached(&mut child);
        calls(&comm, 50);
        wait_until_stuck(&child);
        let read = reads_behind(File::from(reader), filled);
        interrupt(&child);
        let mut said = String::new();
        stderr.read_to_string(&mut said).expect("text");
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{path}: {said}");
        let read = String::from_utf8(read.join().expect("it does not panic")).expect("UTF-8");
        assert_eq!(records(&read).len(), 50, "{path}: {said}");
    }
}

/// Standard error as a sink, with the messages between the records.
#[test]
fn records_on_a_full_non_blocking_standard_error_arrive_too() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (config, comm) = to(&scratch, "/dev/stderr");
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    let count = fill(&writer);
    let mut command = Command::new(BINARY);
    command.arg(config).args(["--duration", "3s"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
    let mut child = command.spawn().expect("it starts");
    drop(command);
    // A message is waited for before there is a record
    let mut bytes = Vec::new();
    let mut reader = BufReader::new(File::from(reader));
    while !String::from_utf8_lossy(&bytes).contains("attached ") {
        assert_ne!(reader.read_until(b'\n', &mut bytes).expect("it can be read"), 0, "it ended");
    }
    assert!(bytes.len() > count);
    let rest = thread::spawn(move || {
        let mut rest = String::new();
        reader.read_to_string(&mut rest).map(|_| rest).expect("text")
    });
    calls(&comm, 50);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let rest = rest.join().expect("it does not panic");
    let lines: String = rest.lines().filter(|line| line.starts_with('{')).map(|line| format!("{line}\n")).collect();
    assert_eq!(records(&lines).len(), 50, "{rest}");
}

/// What reads the messages may stop doing so. The capture goes on, and ends when it is to.
#[test]
fn a_standard_error_that_nobody_reads_costs_messages_only() {
    if !root() {
        return;
    }
    for blocks in [true, false] {
        let scratch = Scratch::new();
        let path = scratch.path("out.jsonl");
        let (config, _) = to(&scratch, path.to_str().expect("UTF-8"));
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        fill(&writer);
        if blocks {
            let flags = fcntl_getfl(&writer).expect("it is open");
            fcntl_setfl(&writer, flags - OFlags::NONBLOCK).expect("it is a pipe");
        }
        let mut command = Command::new(BINARY);
        command.arg(config).args(["--duration", "1s"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
        let status = command.spawn().expect("it starts").wait().expect("it ends");
        assert_eq!(status.code(), Some(0));
        assert!(path.exists(), "the file is complete");
        drop(reader);
    }
}

#[test]
fn a_stream_that_can_t_be_written_to_is_found_before_anything_is_attached() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    for (path, redirections) in [
        ("-", ">&-"),
        ("/dev/stdout", "1</dev/null"),
        ("/dev/stderr", "2>&- 2</dev/null"),
        ("/dev/fd/3", ""),
        ("/dev/fd/3", "3</dev/null"),
        ("/proc/self/fd/9", "8>/dev/null"),
    ] {
        let (config, _) = to(&scratch, path);
        let script = format!("exec \"$@\" {redirections}");
        let report = scratch.path("report.json");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh", BINARY]).arg(config).args(["--duration", "1ms", "--report"]).arg(&report);
        let ended = run(&mut shell).expect(1);
        if !redirections.contains("2<") {
            let words = ["sink `out` can't write to ", "it is closed, or not open for writing", "hint: "];
            assert!(!ended.says(&words).stderr.contains("attached"));
        }
        assert!(!report.exists());
    }
}

/// The number of a file of the runner's own is no inherited stream, whatever the config says.
#[test]
fn the_runner_s_own_files_are_no_streams() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let lock = scratch.path("lock");
    for number in 3..20 {
        let (config, _) = to(&scratch, &format!("/dev/fd/{number}"));
        let mut command = Command::new(BINARY);
        run(command.arg(config).args(["--duration", "1ms", "--lock"]).arg(&lock)).expect(1).says(&["it is closed"]);
    }
    let text = fs::read_to_string(&lock).expect("it stays");
    assert!(text.trim().parse::<u32>().is_ok(), "nothing but a number is in it: {text}");
}

/// A file that is opened must not become a standard stream, which messages are written to.
#[test]
fn closed_standard_streams_do_not_mix_with_files() {
    if !root() {
        return;
    }
    for redirections in ["<&- >&- 2>&-", "2>&-", ">&-", "<&-"] {
        let scratch = Scratch::new();
        let (config, comm) = to(&scratch, scratch.path("out.jsonl").to_str().expect("UTF-8"));
        let script = format!("exec \"$@\" {redirections}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh", BINARY]).arg(config).arg("--report").arg(scratch.path("report.json"));
        let mut child =
            shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        wait_until_recording(&child, &scratch.path("out.jsonl.partial"));
        calls(&comm, 5);
        interrupt(&child);
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{redirections}");
        let text = fs::read_to_string(scratch.path("out.jsonl")).expect("it is there");
        assert_eq!(records(&text).len(), 5, "{redirections}");
        let report: Json = valid_report(&fs::read_to_string(scratch.path("report.json")).expect("a report"));
        assert_eq!(report["exit_code"], 0);
    }
}

/// Waits until the writer of `child` is at work: everything is attached then.
fn wait_until_recording(child: &Child, partial: &Path) {
    let until = Instant::now() + Duration::from_secs(60);
    let has_thread = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).expect("it has not ended");
        tasks
            .flatten()
            .any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm == "ebpf-run-writer\n"))
    };
    while !(partial.exists() && has_thread()) {
        assert!(Instant::now() < until, "it does not begin");
        thread::sleep(Duration::from_millis(5));
    }
}

/// An inherited descriptor may be a file as well.
#[test]
fn an_inherited_file_is_written_to_where_it_is() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (config, comm) = to(&scratch, "/dev/fd/3");
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 3>\"$1\"; echo before >&3; shift; exec \"$@\"", "sh"]).arg(scratch.path("out"));
    shell.arg(BINARY).arg(config).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = shell.spawn().expect("it starts");
    let mut stderr = wait_until_attached(&mut child);
    calls(&comm, 5);
    interrupt(&child);
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{said}");
    let text = fs::read_to_string(scratch.path("out")).expect("it is there");
    let text = text.strip_prefix("before\n").expect("what was there stays");
    assert_eq!(records(text).len(), 5);
}
