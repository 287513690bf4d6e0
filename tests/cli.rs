//! The command line: help, errors and their messages. Requires neither root nor eBPF.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::common::{BINARY, Ended, NOBODY, Scratch, copy_program, is_root, run};
use rustix::fs::{CWD, FileType, Mode, mknodat};

fn ebpf_run(args: &[&str]) -> Ended {
    run(Command::new(BINARY).args(args))
}

/// The binary as an unprivileged user. `scratch` is a directory that this user can access.
fn unprivileged(scratch: &Scratch) -> Command {
    if !is_root() {
        return Command::new(BINARY);
    }
    let copy = scratch.path("ebpf-run");
    if !copy.exists() {
        // A link is faster, if it is on the same file system
        fs::hard_link(BINARY, &copy).unwrap_or_else(|_| copy_program(BINARY.as_ref(), &copy));
    }
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY);
    command
}

/// A valid config, each line of which has something to break.
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

/// Replaces `from` by `to` in the valid config and expects an error at line:column with `words`.
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
    ebpf_run(&["io-latency", "--duration", "10x"]).expect(2).says(&["`x` is not a unit", "known: ns"]);
    ebpf_run(&["io-latency", "--duration=-1s"]).expect(2).says(&["-1s"]);
    ebpf_run(&["io-latency", "--duration", "0s"]).expect(2).says(&["greater than 0"]);
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
    says(Path::new("/dev/zero"), &["1048576"]); // no end, and no size in its attributes
}

#[test]
fn a_file_that_may_not_be_read_is_no_config() {
    let scratch = Scratch::new();
    let path = scratch.write("secret.yaml", GOOD);
    scratch.set_mode("secret.yaml", 0o000);
    run(unprivileged(&scratch).arg(path))
        .expect(2)
        .says(&["secret.yaml: E001 can't read the file", "ermission denied"]);
}

#[test]
fn a_name_that_is_not_built_in_gets_a_suggestion() {
    ebpf_run(&["io-latncy"]).expect(2).says(&["`io-latncy`", "did you mean `io-latency`?", "execsnoop"]);
    let ended = ebpf_run(&["weather"]).expect(2).says(&["`weather`", "known: ", "execsnoop"]);
    assert!(!ended.stderr.contains("did you mean"), "{}", ended.stderr);
}

#[test]
fn a_mistyped_name_is_looked_for_among_programs_and_configs() {
    for args in
        [&["biosnop"][..], &["plan", "biosnop"], &["describe", "biosnop"], &["init", "biosnop"], &["doctor", "biosnop"]]
    {
        let ended = ebpf_run(args).expect(2).says(&["did you mean `biosnoop`?"]);
        assert!(
            ended.stderr.contains("configs of program `biosnoop`: biosnoop, io-latency"),
            "{args:?}: {}",
            ended.stderr
        );
    }
    ebpf_run(&["failed-open"]).expect(2).says(&["did you mean `failed-opens`?"]);
    ebpf_run(&["init", "io-latency"]).expect(2).says(&["`io-latency` is a config of program `biosnoop`"]);
    let scratch = Scratch::new();
    let path = scratch.write("io.yaml", "version: 1\nprobes: [{program: io-latency}]\nsinks: {out: {type: jsonl}}\n");
    let ended = run(Command::new(BINARY).arg("check").arg(path)).expect(2);
    let says = "E020 there is no program `io-latency`; `io-latency` is a config of the program `biosnoop`";
    assert!(ended.stdout.contains(says), "{}", ended.stdout);
}

#[test]
fn the_name_of_a_program_runs_it_without_filters_that_narrow_it() {
    for (name, config) in [("opensnoop", "failed-opens"), ("exitsnoop", "failed-exits"), ("biosnoop", "io-latency")] {
        let plan = |name: &str| ebpf_run(&["plan", name]).expect(0).stdout;
        let set = |text: &str| {
            let variables = text.lines().skip_while(|line| *line != " variables, set before load").skip(1);
            variables
                .take_while(|line| !line.starts_with("  left as"))
                .filter(|line| !line.contains("  runner_"))
                .count()
        };
        assert_eq!((set(&plan(name)), set(&plan(config))), (0, 1), "{name}");
    }
}

#[test]
fn shorthands_are_checked_as_the_file_is_and_a_plan_says_what_they_set() {
    let scratch = Scratch::new();
    let args = ["opensnoop", "--filter", "pid=12", "-f", "comm=nginx,php-fpm", "-f", "path_prefix='/a,b=c'"];
    let ended = run(unprivileged(&scratch).arg("plan").args(args).args(["--output", "out.csv.gz"])).expect(0);
    let lines: Vec<String> =
        ended.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for says in [
        "pid 12 [--filter #1]",
        "comm nginx, php-fpm [--filter #2]",
        "path_prefix /a,b=c [--filter #3]",
        "sinks: output [default]",
        "sink output: csv to out.csv",
        "path out.csv [--output]",
        "files compress gzip [--output]",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(says)), "`{says}` is missing in:\n{}", ended.stdout);
    }
    assert_eq!(ended.stdout.matches("\nsink ").count(), 1, "{}", ended.stdout);
    for (filter, says) in [
        ("pid=x", "--filter #1: E030 filter `pid`: must be a whole number, not `x`\n     1 | pid=x\n       |     ^"),
        ("pdi=1", "--filter #1: E021 `biosnoop` has no filter `pdi`, did you mean `pid`?"),
        ("min_latency=5", "--filter #1: E015 filter `min_latency`: `5` has no unit: write for instance `5ms`"),
        ("op=read,wriet", "--filter #1: E032 filter `op`: `wriet` is not a possible value, did you mean `write`?"),
        ("device=/dev/sda", "--filter #1: E035 filter `device`: `/dev/sda` is a path"),
        ("min_latency={not: 1ms}", "--filter #1: E034 filter `min_latency`"),
        ("pid", "--filter #1: E080 there is no `=` in it"),
    ] {
        for command in ["run", "plan"] {
            ebpf_run(&[command, "io-latency", "--filter", filter]).expect(2).says(&[says]);
        }
        let file = scratch.write("io.yaml", "version: 1\nprobes: [{program: biosnoop}]\nsinks: {out: {type: jsonl}}\n");
        let ended = run(Command::new(BINARY).arg("check").arg(file).args(["--filter", filter])).expect(2);
        assert!(ended.stdout.starts_with(says), "{}", ended.stdout);
    }
    ebpf_run(&["check", "io-latency", "-f", "pid=1", "-o", "x.csv"]).expect(0).says(&["no problems in 1 file"]);
    ebpf_run(&["check", "io-latncy"]).expect(2).says(&["did you mean `io-latency`?"]);
    ebpf_run(&["doctor", "-f", "pid=1"]).expect(2).says(&["required"]);
    ebpf_run(&["plan", "io-latency", "-f", "op={not: [read, flush]}"]).expect(0);
    ebpf_run(&["plan", "io-latency", "-f", "pid=1", "-f", "pid=2"])
        .expect(2)
        .says(&["--filter #2: E004 ", "`pid=1,2`"]);
    // `--set` overrides the others
    let ended = ebpf_run(&["plan", "io-latency", "-f", "pid=1", "--set", "probes.slow-io.filters.pid=2"]).expect(0);
    assert!(ended.stdout.contains("2  [--set #1]"), "{}", ended.stdout);
}

#[test]
fn an_output_is_a_sink_by_its_ending() {
    let sink = |path: &str| {
        let shown = ebpf_run(&["plan", "opensnoop", "--output", path]).expect(0).stdout;
        shown.lines().find(|line| line.starts_with("sink ")).expect("a sink").to_owned()
    };
    assert_eq!(sink("a.jsonl"), "sink output: jsonl to a.jsonl");
    assert_eq!(sink("a.json"), "sink output: jsonl to a.json");
    assert_eq!(sink("a.csv"), "sink output: csv to a.csv");
    assert_eq!(sink("a.log"), "sink output: stdout to a.log");
    assert_eq!(sink("-"), "sink output: stdout to standard output");
    ebpf_run(&["opensnoop", "--output", "a.cvs"]).expect(2).says(&["--output: E013 ", "did you mean `.csv`?", "`.gz`"]);
    ebpf_run(&["opensnoop", "--output", "a.csv", "--json"]).expect(2).says(&["cannot be used with"]);
    // A config without a file
    let scratch = Scratch::new();
    let yaml = "version: 1\nprobes: [{program: biosnoop}]\nsinks: {out: {type: jsonl, path: \"${NOT_SET}.jsonl\"}}\n";
    let file = scratch.write("io.yaml", yaml).display().to_string();
    let ended = ebpf_run(&["plan", &file, "--output", "-"]).expect(2);
    ended.says(&["--output: E047 ", "no sink of type `stdout`", ".jsonl or .csv"]);
    ebpf_run(&["plan", &file, "--output", "x.csv"]).expect(0);
}

#[test]
fn shorthands_of_a_config_with_several_probes_are_refused() {
    let scratch = Scratch::new();
    let out = scratch.path("").display().to_string();
    let file = scratch.write("io.yaml", GOOD.replace("OUT", &out)).display().to_string();
    let instead = "use `--set 'probes.biosnoop.filters.comm=[a, b]'`";
    ebpf_run(&[&file, "--filter", "comm=a, b"]).expect(2).says(&[
        "--filter #1: E080 ",
        "has 2 (biosnoop, execsnoop)",
        instead,
    ]);
    ebpf_run(&[&file, "--output", "x.csv"]).expect(2).says(&["--output: E080 ", "use `--set"]);
    ebpf_run(&[&file, "--json"]).expect(2).says(&["--json: E080 ", "use `--set"]);
    ebpf_run(&["plan", &file, "--set", "probes.biosnoop.filters.comm=[a, b]"]).expect(0);
}

#[test]
fn init_writes_a_config_that_passes_and_overwrites_nothing() {
    let scratch = Scratch::new();
    let within = |args: &[&str]| run(Command::new(BINARY).current_dir(scratch.path("")).arg("init").args(args));
    let ended = within(&["opensnoop", "--output", "opens.yaml"]).expect(0).says(&["ebpf-run: wrote opens.yaml"]);
    assert_eq!(ended.stdout, "");
    let written = fs::read_to_string(scratch.path("opens.yaml")).expect("it is there");
    assert_eq!(written, within(&["opensnoop"]).expect(0).stdout);
    run(Command::new(BINARY).arg("check").arg(scratch.path("opens.yaml"))).expect(0);
    // Neither a file nor the target of a link
    scratch.write("other.yaml", "mine");
    std::os::unix::fs::symlink("nowhere.yaml", scratch.path("link.yaml")).expect("a link");
    for name in ["opens.yaml", "other.yaml", "link.yaml"] {
        within(&["biosnoop", "-o", name]).expect(1).says(&[name, "exists", "hint: remove the file"]);
    }
    assert_eq!(fs::read_to_string(scratch.path("other.yaml")).expect("it is there"), "mine");
    assert!(!scratch.path("nowhere.yaml").exists());
    within(&["biosnoop", "-o", "none/x.yaml"]).expect(1).says(&["none/x.yaml can't be written: No such file"]);
    within(&["biosnop"]).expect(2).says(&["there is no program `biosnop`", "did you mean `biosnoop`?"]);
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
    refused("[comm,", "[com,", "21:15", "`com` is not a field of biosnoop, did you mean `comm`?");
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
    refused("{{ comm }}", "{{ comm |", "17:43", "invalid template");
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
    // Each with its line of the file and a caret below the value
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
    scratch.set_mode("", 0o777); // so that a failure is not caused by missing permissions on the directory
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
