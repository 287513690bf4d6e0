//! The captures that the tutorial, the how-tos and the README show can be run as they stand there, and print what is shown.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{BINARY, Scratch, copy_program};
use crate::docs::commands::{Kind, Line, Workspace, arguments, kind, lines, matches, split, tested};
use crate::docs::markdown::{Block, Page};
use crate::root;

/// How long a capture may take until it is attached.
const PATIENCE: Duration = Duration::from_secs(60);

/// A page at work.
struct Reader<'a> {
    page: &'a Page,
    workspace: Workspace,
    /// A copy that every user can execute.
    binary: &'a Path,
}

impl Reader<'_> {
    /// Runs a capture while the load runs, twice as a whole; its exit code and what it printed.
    fn capture(&self, line: &Line, load: &str) -> (i32, String) {
        let printed = self.workspace.path().join("printed");
        let command = format!("exec {}", line.text);
        let output = File::create(&printed).expect("a file");
        let mut capture = self.shell(&command).stdout(output).spawn().expect("there is a shell");
        let read = || String::from_utf8(fs::read(&printed).expect("the output")).expect("all output is UTF-8");
        if wait_for(&mut capture, || read().contains("ebpf-run: attached ")) {
            for _ in 0..2 {
                // Loads may fail, as an open of a missing file does
                self.shell(load).stdout(Stdio::null()).status().expect("there is a shell");
            }
            let pid = Pid::from_child(&capture);
            kill_process(pid, Signal::INT).expect("the capture is not waited for yet");
        }
        let code = capture.wait().expect("it is a child").code().unwrap_or(-1);
        (code, read())
    }

    fn shell(&self, line: &str) -> Command {
        self.workspace.shell(line, self.binary)
    }

    fn run(&self, block: &Block) {
        let marker = block.marker.as_deref().expect("it is live");
        let (what, load) = marker.split_once(": ").expect("it has a load");
        let lines = lines(self.page, block);
        for (number, line) in lines.iter().enumerate() {
            let line =
                Line { text: line.text.replace("sudo ", ""), shown: line.shown.clone(), place: line.place.clone() };
            let place = format!("{}: {}", line.place, line.text);
            let programs = split(&line.text).expect("it is simple");
            let kind = kind(&line, &programs);
            if kind == Kind::ExitCode {
                continue;
            }
            let captures = kind == Kind::Live
                && arguments(&programs[0])
                    .is_some_and(|arguments| arguments.first().is_none_or(|first| first != "doctor"));
            let (code, printed) =
                if captures { self.capture(&line, load) } else { self.workspace.run(&line.text, self.binary) };
            if code == 4 {
                eprintln!("SKIPPED {place}: this kernel does not support it");
                return;
            }
            let expected = lines.get(number + 1).filter(|next| next.text == "echo $?");
            let expected = expected.and_then(|next| next.shown.as_deref()).map_or("0", str::trim);
            // Some hosts and kernels hide events from every tracing program (docs/explanation/limits.md)
            let is_hidden = code == 3 && expected == "0" && printed.contains(" may be missing");
            let code = if is_hidden { 0 } else { code };
            assert_eq!(code.to_string(), expected, "exit code of {place}:\n{}", own_lines(&printed));
            if captures {
                compare(&place, line.shown.as_deref().unwrap_or_default(), &printed, what == "live");
            }
        }
    }
}

/// Waits until something is so, or the process has ended.
fn wait_for(child: &mut Child, so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        if child.try_wait().expect("it is a child").is_some() {
            return so();
        }
        assert!(Instant::now() < deadline, "it is not attached after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// What the runner says. Records may be of any process, and are not shown.
fn own_lines(printed: &str) -> String {
    printed
        .lines()
        .filter(|line| line.starts_with("ebpf-run: ") || line.starts_with("  hint: "))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Which hooks a program has depends on the kernel, and that stands in parentheses.
fn without_hooks(line: &str) -> String {
    let (before, rest) = line.split_once('(').unwrap_or((line, ""));
    before.to_owned() + rest.split_once(')').map_or("", |(_, after)| after)
}

/// The line that says what is attached, and the header of a table, are as shown; and there are records if some are shown.
fn compare(place: &str, shown: &str, printed: &str, must_have_records: bool) {
    let attached = shown.lines().find(|line| line.starts_with("ebpf-run: attached "));
    assert!(attached.is_some() || shown.is_empty(), "{place}: the page does not show what is attached");
    let attached = attached.unwrap_or_default();
    let is_there = |line: &str| printed.lines().any(|other| matches(line, other));
    let known = attached.is_empty() || printed.lines().any(|line| without_hooks(line) == without_hooks(attached));
    assert!(known, "{place}: `{attached}` is not among\n{}", own_lines(printed));
    let received = printed.lines().skip_while(|line| !line.trim_start().starts_with("probe ")).nth(1);
    let received: u64 = received.and_then(|row| row.split_whitespace().nth(1)?.parse().ok()).expect("a summary");
    assert!(received > 0 || !must_have_records, "{place}: no records:\n{}", own_lines(printed));
    let is_header =
        |line: &&str| line.contains(' ') && !line.chars().any(|c| c.is_lowercase() || c.is_ascii_digit() || c == '…');
    if let Some(header) = shown.lines().skip(1).take(1).find(is_header).filter(|_| received > 0) {
        assert!(is_there(header), "{place}: the header `{header}` is not printed");
    }
}

#[test]
fn every_capture_of_the_pages_runs() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let binary = scratch.path("ebpf-run");
    copy_program(Path::new(BINARY), &binary);
    let mut count = 0;
    for page in &tested() {
        let reader = Reader { page, workspace: Workspace::new(), binary: &binary };
        let path = reader.workspace.path();
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("its mode can be set");
        for block in page.blocks() {
            reader.workspace.add(&block);
            if block.is_live() {
                reader.run(&block);
                count += 1;
            }
        }
    }
    assert!(count >= 10, "only {count} blocks were run");
}
