//! The output of commands into standard streams that are non-blocking, slow, full, closed, or hung up.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::PipeFlags;

use crate::common::{BINARY, Ended, Scratch, run};

/// A small config, without problems.
const CONFIG: &str = "\
version: 1
probes: [{program: opensnoop}]
sinks: {out: {type: jsonl, path: out.jsonl}}
";

/// The members of a report that `ebpf-run report` reads.
const REPORT: &str = r#"{
    "format": 2, "name": "io", "host": {"name": "db1", "boot_id": "b"}, "exit_code": 0, "reconciles": true,
    "window": {
        "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:01Z", "ended_by": "duration",
        "start_monotonic_ns": 1, "end_monotonic_ns": 1000000001
    },
    "probes": [{"name": "opensnoop", "verdict": "ok", "seen": 1, "received": 1, "written": 1, "lost": 0, "recursion_misses": 0}]
}"#;

/// Every command that prints something, with its arguments; CONFIG is a config, WRONG one with a problem, and REPORT a
/// report.
const COMMANDS: &[&[&str]] = &[
    &["schema"],
    &["list"],
    &["list", "--json"],
    &["plan", "CONFIG"],
    &["plan", "CONFIG", "--json"],
    &["plan", "CONFIG", "--diff", "io-latency"],
    &["describe", "opensnoop"],
    &["describe", "opensnoop", "--json"],
    &["describe", "CONFIG"],
    &["check", "WRONG"],
    &["check", "WRONG", "--format", "json"],
    &["doctor", "CONFIG"],
    &["doctor", "CONFIG", "--json"],
    &["test", "CONFIG"],
    &["report", "REPORT"],
    &["report", "REPORT", "--json"],
    &["emit", "cron", "scheduled.yaml", "--as", "/etc/x.yaml", "--binary", "/bin/x"],
    &["--help"],
    &["--version"],
    &["run", "--help"],
    &["man"],
    &["completions", "bash"],
];

/// The files in the arguments of the commands.
fn files() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("config.yaml", CONFIG);
    scratch.write("config.fixture.jsonl", "{\"probe\":\"opensnoop\"}\n");
    scratch.write("config.expected.out.jsonl", "something else\n");
    scratch.write("wrong.yaml", CONFIG.replace("opensnoop", "opensnop"));
    scratch.write("report.json", REPORT);
    let scheduled = CONFIG.replace("out.jsonl", "/var/log/x.jsonl");
    scratch.write("scheduled.yaml", format!("{scheduled}schedule: {{every: 1h}}\nwindow: {{duration: 1s}}\n"));
    scratch
}

fn command(scratch: &Scratch, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(scratch.path("")).stdin(Stdio::null());
    for arg in args {
        command.arg(match *arg {
            "CONFIG" => "config.yaml",
            "WRONG" => "wrong.yaml",
            "REPORT" => "report.json",
            other => other,
        });
    }
    command
}

/// Runs the command through a shell, which prepares its streams by `redirections`.
fn redirected(scratch: &Scratch, args: &[&str], redirections: &str) -> Command {
    let plain = command(scratch, args);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$@\" {redirections}"), "sh"]).arg(BINARY).args(plain.get_args());
    shell.current_dir(scratch.path("")).stdin(Stdio::null());
    shell
}

/// A full pipe with a non-blocking end for writing; and the number of bytes in it.
fn full_pipe() -> (File, OwnedFd, usize) {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    let count = fill(writer.as_fd());
    (reader.into(), writer, count)
}

fn fill(writer: impl AsFd) -> usize {
    let flags = fcntl_getfl(&writer).expect("it is open");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("it is a pipe or a socket");
    let mut count = 0;
    while let Ok(written) = rustix::io::write(&writer, &[0; 4096]) {
        count += written;
    }
    count
}

/// Waits until `child` sleeps: it waits only for its stream.
fn wait_until_asleep(child: &Child) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it has not ended");
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        assert_ne!(state, Some('Z'), "it ended without waiting");
        if state == Some('S') {
            return;
        }
        assert!(Instant::now() < until, "it does not wait");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All bytes after the first `skipped` ones.
fn read_behind(mut reader: impl std::io::Read, skipped: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("it can be read");
    bytes.split_off(skipped)
}

#[test]
fn a_full_non_blocking_standard_output_is_waited_for() {
    let scratch = files();
    for args in COMMANDS {
        let wanted = command(&scratch, args).output().expect("it runs");
        assert!(!wanted.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&wanted.stderr));
        let (reader, writer, skipped) = full_pipe();
        let mut child = command(&scratch, args).stdout(writer).stderr(Stdio::null()).spawn().expect("it starts");
        wait_until_asleep(&child);
        let read = read_behind(reader, skipped);
        assert_eq!(child.wait().expect("it ends").code(), wanted.status.code(), "{args:?}");
        assert!(read == wanted.stdout, "{args:?}: {} of {} bytes", read.len(), wanted.stdout.len());
    }
}

#[test]
fn a_socket_is_a_standard_output_too() {
    let scratch = files();
    let wanted = command(&scratch, &["schema"]).output().expect("it runs");
    let (reader, writer) = UnixStream::pair().expect("sockets");
    let skipped = fill(&writer);
    let mut child = command(&scratch, &["schema"]).stdout(OwnedFd::from(writer)).spawn().expect("it starts");
    wait_until_asleep(&child);
    assert!(read_behind(reader, skipped) == wanted.stdout);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_full_non_blocking_standard_error_is_waited_for() {
    let scratch = files();
    for args in [&["check", "WRONG"][..], &["plan", "none.yaml"], &["--frobnicate"], &["test", "CONFIG"]] {
        let wanted = command(&scratch, args).output().expect("it runs");
        let (reader, writer, skipped) = full_pipe();
        let mut child = command(&scratch, args).stdout(Stdio::null()).stderr(writer).spawn().expect("it starts");
        wait_until_asleep(&child);
        let read = read_behind(reader, skipped);
        assert_eq!(child.wait().expect("it ends").code(), wanted.status.code(), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&wanted.stderr), "{args:?}");
    }
}

/// A reader that has closed the pipe, as `head` does, has read all that it wanted.
#[test]
fn a_closed_pipe_or_socket_is_the_end_and_no_error() {
    let scratch = files();
    for args in COMMANDS {
        let wanted = command(&scratch, args).output().expect("it runs");
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        drop(reader);
        let ended = command(&scratch, args).stdout(writer).output().expect("it runs");
        assert_eq!(ended.status.code(), wanted.status.code(), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), String::from_utf8_lossy(&wanted.stderr), "{args:?}");
    }
    let (reader, writer) = UnixStream::pair().expect("sockets");
    let mut child = command(&scratch, &["schema"]).stdout(OwnedFd::from(writer)).spawn().expect("it starts");
    drop(reader);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_standard_output_that_takes_nothing_is_an_error_that_names_it() {
    let scratch = files();
    for args in COMMANDS {
        for (redirection, words) in [
            (">/dev/full", "No space left on device"),
            (">&-", "it is closed, or not open for writing"),
            ("1</dev/null", "it is closed, or not open for writing"),
        ] {
            let ended = run(&mut redirected(&scratch, args, redirection)).expect(1);
            let line = format!("ebpf-run: error: can't write to standard output: {words}");
            assert!(ended.stderr.contains(&line), "{args:?} {redirection}: {}", ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        }
    }
}

#[test]
fn a_standard_error_that_takes_nothing_changes_nothing_else() {
    let scratch = files();
    for args in COMMANDS {
        let wanted = run(&mut command(&scratch, args));
        for redirection in ["2>/dev/full", "2>&-", "<&-", "<&- 2>&-"] {
            let ended = run(&mut redirected(&scratch, args, redirection));
            assert_eq!((ended.code, &ended.stdout), (wanted.code, &wanted.stdout), "{args:?} {redirection}");
        }
    }
}

#[test]
fn a_terminal_that_has_hung_up_is_an_error() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let scratch = files();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("it can be used");
    let name = ptsname(&master, Vec::new()).expect("it has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let slave = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).expect("it opens");
    drop(master);
    run(command(&scratch, &["list"]).env("TERM", "xterm")).expect(0);
    let output = command(&scratch, &["list"]).stdout(slave).output().expect("it runs");
    Ended::from(output).expect(1).says(&["error: can't write to standard output: Input/output error"]);
}

/// A shell's completion reads from a pipe like any other reader.
#[test]
fn completions_are_answered_like_everything_else() {
    let scratch = files();
    let ask = || {
        let mut command = command(&scratch, &["--", "ebpf-run", "desc"]);
        command.envs([("EBPF_RUN_COMPLETE", "fish"), ("_CLAP_COMPLETE_INDEX", "1")]);
        command
    };
    let wanted = ask().output().expect("it runs");
    assert!(String::from_utf8_lossy(&wanted.stdout).starts_with("describe"), "{wanted:?}");
    let (reader, writer, skipped) = full_pipe();
    let mut child = ask().stdout(writer).spawn().expect("it starts");
    wait_until_asleep(&child);
    assert_eq!(read_behind(reader, skipped), wanted.stdout);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let full = File::options().write(true).open("/dev/full").expect("it is there");
    assert_eq!(ask().stdout(full).output().expect("it runs").status.code(), Some(1));
}

/// Pages and units replace existing files atomically, and a link is not followed.
#[test]
fn files_of_commands_are_replaced_as_a_whole() {
    let scratch = files();
    let folder = scratch.path("out");
    std::fs::create_dir(&folder).expect("a directory");
    scratch.write("target", "as it was");
    std::os::unix::fs::symlink(scratch.path("target"), folder.join("ebpf-run.1")).expect("a link");
    let man = || command(&scratch, &["man", "out"]);
    run(&mut man()).expect(1).says(&["ebpf-run.1 can't be written: it is a symbolic link"]);
    assert_eq!(std::fs::read_to_string(scratch.path("target")).expect("it is there"), "as it was");
    std::fs::remove_file(folder.join("ebpf-run.1")).expect("it is there");
    run(&mut man()).expect(0);
    let names = || {
        let entries = std::fs::read_dir(&folder).expect("a directory").flatten();
        entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect::<Vec<_>>()
    };
    let pages = names();
    assert!(pages.contains(&"ebpf-run.1".into()) && pages.contains(&"ebpf-run-emit-cron.1".into()), "{pages:?}");
    let page = || std::fs::read(folder.join("ebpf-run.1")).expect("it is there");
    let before = page();
    // The file size limit is reached in the middle of a page (the limit counts KiB in bash, 512 bytes in other shells)
    let mut limited = Command::new("bash");
    limited.args(["-c", "ulimit -f 1; exec \"$@\" 2>err", "bash", BINARY, "man", "out"]).current_dir(scratch.path(""));
    run(&mut limited).expect(1);
    let said = std::fs::read_to_string(scratch.path("err")).expect("it is there");
    assert!(said.contains(".1 can't be written: File too large"), "{said}");
    assert_eq!((page(), names().len()), (before, pages.len()), "nothing is left of it");
    let emit = ["emit", "cron", "scheduled.yaml", "--as", "/etc/x.yaml", "--binary", "/bin/x", "--output", "out"];
    run(&mut command(&scratch, &emit)).expect(0);
}
