//! The command line as a user meets it: help, refusals and their words. Needs neither root nor eBPF.

mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use common::{BINARY, Ended, NOBODY, Scratch, copy_program, is_root, run};
use rustix::fs::{CWD, FileType, Mode, mknodat};

fn ebpf_run(args: &[&str]) -> Ended {
    run(Command::new(BINARY).args(args))
}

/// The binary as a user who may not load anything. `scratch` is where such a user can get at it.
fn unprivileged(scratch: &Scratch) -> Command {
    if !is_root() {
        return Command::new(BINARY);
    }
    let copy = scratch.path("ebpf-run");
    if !copy.exists() {
        // A link is faster, where it is the same file system
        fs::hard_link(BINARY, &copy).unwrap_or_else(|_| copy_program(BINARY.as_ref(), &copy));
    }
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY);
    command
}

/// A config without a fault, in which each line has something that can be broken.
const GOOD: &str = "\
version: 1
window: {duration: 10s}
probes:
  - program: biosnoop
    filters:
      min_latency: 1ms
      op: write
    buffer: {size: 1MiB, max_latency: 50ms}
    maps: {inflight: 4096}
    sinks: [screen, table]
  - program: execsnoop
    filters: {failed: true, pid: [1, 2]}
    sinks: [lines]
sinks:
  screen:
    type: stdout
    template: \"{{ time | clock }} {{ comm }}\"
  table:
    type: csv
    path: OUT/table.csv
    columns: [comm, {ms: \"{{ latency_ns / 1e6 }}\"}]
  lines:
    type: jsonl
    path: \"OUT/{{ name }}.jsonl\"
    fields: [time, argv]
";

/// Replaces `from` by `to` in the good config and expects that it is refused at line:column with `words`.
#[track_caller]
fn refused(from: &str, to: &str, at: &str, words: &str) {
    assert!(GOOD.contains(from), "{from}");
    let scratch = Scratch::new();
    let path = scratch.write("io.yaml", GOOD.replacen(from, to, 1));
    let ended = run(Command::new(BINARY).arg(&path)).expect(2);
    assert_eq!(ended.stdout, "");
    let place = format!("{}:{at}: ", path.display());
    let line = ended.stderr.lines().find(|line| line.starts_with(&place));
    let line = line.unwrap_or_else(|| panic!("{to}: no line begins with {place}:\n{}", ended.stderr));
    assert!(line.contains(words), "`{words}` is missing in `{line}`");
}

#[test]
fn help_and_version_go_to_stdout() {
    for flag in ["--help", "-h"] {
        let ended = ebpf_run(&[flag]).expect(0);
        assert_eq!(ended.stderr, "");
        assert!(ended.stdout.contains("Usage: ebpf-run"), "{}", ended.stdout);
        let (_, codes) = ended.stdout.split_once("Exit codes:").expect("the help has the exit codes");
        for code in 0..=7 {
            assert!(codes.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))), "{code}:{codes}");
        }
    }
    let ended = ebpf_run(&["--version"]).expect(0);
    assert_eq!(ended.stdout, concat!("ebpf-run ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_wrong_command_line_is_a_wrong_config() {
    assert_eq!(ebpf_run(&[]).expect(2).says(&["Usage: ebpf-run"]).stdout, "");
    ebpf_run(&["--frobnicate"]).expect(2).says(&["--frobnicate", "--help"]);
    ebpf_run(&["run"]).expect(2).says(&["<CONFIG>"]);
    ebpf_run(&["io-latency", "execsnoop"]).expect(2).says(&["execsnoop"]);
    ebpf_run(&["--duration", "10", "io-latency"]).expect(2).says(&["`10` has no unit", "`10ms`"]);
    ebpf_run(&["io-latency", "--duration", "10x"]).expect(2).says(&["`x` is no unit", "known: ns"]);
    ebpf_run(&["io-latency", "--duration=-1s"]).expect(2).says(&["-1s"]);
    ebpf_run(&["io-latency", "--duration", "0s"]).expect(2).says(&["no time"]);
}

#[test]
fn a_plan_needs_no_rights_and_goes_to_standard_output() {
    let scratch = Scratch::new();
    let ended = run(unprivileged(&scratch).args(["plan", "io-latency", "--duration", "90s"])).expect(0);
    assert_eq!(ended.stderr, "");
    for says in ["plan of io-latency", "after 90s", "auto: wakeup at 64KiB unread", "min_latency_ns"] {
        assert!(ended.stdout.contains(says), "`{says}` is missing in:\n{}", ended.stdout);
    }
    let wrong = scratch.write("wrong.yaml", GOOD.replace("op: write", "op: wriet"));
    let ended = run(unprivileged(&scratch).arg("plan").arg(wrong)).expect(2).says(&["did you mean `write`?"]);
    assert_eq!(ended.stdout, "");
}

#[test]
fn what_is_no_file_with_a_config_is_refused_in_words() {
    let scratch = Scratch::new();
    let says = |path: &Path, words: &[&str]| {
        let ended = run(Command::new(BINARY).arg(path)).expect(2);
        assert_eq!(ended.stdout, "");
        ended.says(&[&path.display().to_string()]).says(words);
    };
    says(&scratch.path("none.yaml"), &["No such file"]);
    says(&scratch.path(""), &["directory"]);
    says(&scratch.write("empty.yaml", ""), &[":1:1: ", "empty"]);
    says(&scratch.write("comment.yaml", "# nothing\n"), &["empty"]);
    says(&scratch.write("huge.yaml", "#".repeat(2 << 20)), &["1048576"]);
    says(&scratch.write("binary.yaml", b"\x7fELF\xff\xfe"), &["UTF-8"]);
    says(&scratch.write("scalar.yaml", "just words\n"), &[":1:1: ", "mapping"]);
    says(&scratch.write("open.yaml", "probes: [\n"), &["open.yaml:2:"]);
    says(Path::new("/dev/zero"), &["1048576"]); // no end, and no size that would tell
}

#[test]
fn a_file_that_may_not_be_read_is_no_config() {
    let scratch = Scratch::new();
    let path = scratch.write("secret.yaml", GOOD);
    scratch.set_mode("secret.yaml", 0o000);
    run(unprivileged(&scratch).arg(path)).expect(2).says(&["secret.yaml: E001 it can't be read", "ermission denied"]);
}

#[test]
fn a_name_that_is_not_built_in_gets_a_suggestion() {
    ebpf_run(&["io-latncy"]).expect(2).says(&["`io-latncy`", "did you mean `io-latency`?", "execsnoop"]);
    let ended = ebpf_run(&["weather"]).expect(2).says(&["`weather`", "known: ", "execsnoop"]);
    assert!(!ended.stderr.contains("did you mean"), "{}", ended.stderr);
}

#[test]
fn unknown_names_are_refused_with_place_and_suggestion() {
    refused("window:", "windw:", "2:1", "unknown key `windw` in the config, did you mean `window`?");
    refused("duration:", "duratoin:", "2:10", "did you mean `duration`?");
    refused("buffer:", "bufer:", "8:5", "did you mean `buffer`?");
    refused("max_latency:", "latency:", "8:26", "unknown key `latency`");
    refused("program: biosnoop", "program: biosnop", "4:14", "did you mean `biosnoop`?");
    refused("min_latency:", "min_latenyc:", "6:7", "did you mean `min_latency`?");
    refused("op: write", "op: wirte", "7:11", "did you mean `write`?");
    refused("inflight", "inflght", "9:12", "did you mean `inflight`?");
    refused("[screen, table]", "[screen, tabel]", "10:21", "did you mean `table`?");
    refused("failed:", "faild:", "12:15", "did you mean `failed`?");
    refused("type: csv", "type: cvs", "19:11", "did you mean `csv`?");
    refused("[comm,", "[com,", "21:15", "`com` is no field of biosnoop, did you mean `comm`?");
    refused("{{ comm }}", "{{ com }}", "17:38", "`com` is not a field of biosnoop, did you mean `comm`?");
    refused("| clock", "| clok", "17:26", "`clok` is not a template filter, did you mean `clock`?");
    refused("{{ name }}", "{{ nam }}", "24:19", "did you mean `name`?");
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_what_to_write() {
    refused("version: 1", "version: 2", "1:10", "must be 1");
    refused("duration: 10s", "duration: 10", "2:20", "`10ms`");
    refused("duration: 10s", "duration: [10s]", "2:20", "not a list");
    refused("min_latency: 1ms", "min_latency: 1", "6:20", "`1ms`");
    refused("op: write", "op: 1", "7:11", "read, write");
    refused("size: 1MiB", "size: 1MB", "8:20", "did you mean `1MiB`?");
    refused("inflight: 4096", "inflight: 0", "9:22", "at least 1");
    refused("failed: true", "failed: maybe", "12:23", "true or false");
    refused("pid: [1, 2]", "pid: [1, -2]", "12:38", "-2");
    refused("template: \"{{ time", "template: \"{{ ts", "17:24", "monotonic");
    refused("{{ comm }}", "{{ comm |", "17:43", "the template is wrong");
}

#[test]
fn all_problems_of_a_file_are_shown_at_once_in_order() {
    let scratch = Scratch::new();
    let wrong = GOOD
        .replace("min_latency:", "min_latncy:")
        .replace("op: write", "op: wrote")
        .replace("[time, argv]", "[time, agrv]")
        .replace("| clock", "| clokc");
    let path = scratch.write("io.yaml", wrong);
    let ended = run(Command::new(BINARY).arg(&path)).expect(2);
    let prefix = format!("{}:", path.display());
    let lines: Vec<usize> =
        ended.stderr.lines().filter_map(|line| line.strip_prefix(&prefix)?.split(':').next()?.parse().ok()).collect();
    assert_eq!(lines, [6, 7, 17, 25], "{}", ended.stderr);
    // Each with its line of the file and a mark under the culprit
    assert!(ended.stderr.contains("     6 |       min_latncy: 1ms\n       |       ^^^^^^^^^^"), "{}", ended.stderr);
}

#[test]
fn a_wrong_config_touches_no_file() {
    let scratch = Scratch::new();
    let out = scratch.path("").display().to_string();
    let old = scratch.write("table.csv", "the last capture\n");
    let path = scratch.write("io.yaml", GOOD.replace("OUT", &out).replace("op: write", "op: wrote"));
    run(Command::new(BINARY).arg(path)).expect(2);
    assert_eq!(fs::read_to_string(old).expect("it is still there"), "the last capture\n");
    assert!(!scratch.path("io.jsonl").exists());
}

#[test]
fn without_rights_the_message_names_them_and_no_file_is_touched() {
    let scratch = Scratch::new();
    let out = scratch.path("").display().to_string();
    scratch.set_mode("", 0o777); // what is not done is not for want of rights to the folder
    let old = scratch.write("table.csv", "the last capture\n");
    scratch.set_mode("table.csv", 0o666);
    let path = scratch.write("io.yaml", GOOD.replace("OUT", &out));
    let ended = run(unprivileged(&scratch).arg(&path)).expect(5);
    assert_eq!(ended.stdout, "");
    let ended = ended.says(&["ebpf-run: error: ", "CAP_BPF", "CAP_PERFMON", "hint: ", "sudo"]);
    assert_eq!(ended.stderr.lines().count(), 2, "{}", ended.stderr);
    run(unprivileged(&scratch).arg("--quiet").arg(&path)).expect(5).says(&["CAP_BPF"]);
    assert_eq!(fs::read_to_string(old).expect("it is still there"), "the last capture\n");
    assert!(!scratch.path("io.jsonl").exists());
}

#[test]
fn a_config_may_come_through_a_pipe_and_have_any_name() {
    let scratch = Scratch::new();
    let odd = scratch.write("$(reboot) 'a\tb'\n\u{1b}[31m{{ name }}.yaml", GOOD);
    run(unprivileged(&scratch).arg(odd)).expect(5);
    let pipe = scratch.path("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o644), 0).expect("a pipe");
    scratch.set_mode("pipe", 0o644);
    let writer = thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, GOOD)
    });
    run(unprivileged(&scratch).arg(pipe)).expect(5).says(&["CAP_BPF"]);
    writer.join().expect("it does not panic").expect("all of it is read");
}

#[test]
fn every_config_that_is_shipped_gets_past_the_check() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["probes.d", "examples"] {
        let Ok(entries) = fs::read_dir(here.join(folder)) else { continue };
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    assert!(files.len() >= 2, "{files:?}");
    let scratch = Scratch::new();
    for file in files {
        let name = file.file_name().expect("a name").to_str().expect("UTF-8");
        let copy = scratch.write(name, fs::read(&file).expect("it can be read"));
        let ended = run(unprivileged(&scratch).arg(copy));
        assert_eq!(ended.code, Some(5), "{name}: {}", ended.stderr);
        if file.parent().is_some_and(|folder| folder.ends_with("probes.d")) {
            let built_in = name.trim_end_matches(".yaml");
            run(unprivileged(&scratch).current_dir("/").arg(built_in)).expect(5).says(&["CAP_BPF"]);
        }
    }
}

#[test]
fn a_file_goes_before_a_built_in_config_of_its_name() {
    let scratch = Scratch::new();
    scratch.write("execsnoop", "version: 1\nprobe: []\n");
    let ended = run(Command::new(BINARY).current_dir(scratch.path("")).arg("execsnoop")).expect(2);
    ended.says(&["execsnoop:2:1: E010 unknown key `probe`"]);
}
