//! The parts of a config: includes, defaults, the environment and `--set`, in checks and plans. Requires neither root
//! nor eBPF.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::common::{BINARY, Ended, Scratch, run};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value as Json;

const MAIN: &str = "\
version: 1
include: [shared/team.yaml]
window: {duration: 10s}
labels: {host: \"${EBPF_RUN_TEST_HOST}\"}
probes:
  - program: biosnoop
    name: slow-io
    filters: {min_latency: 1ms}
    buffer: {wakeup: every_event}
  - program: runqlat
";

const TEAM: &str = "\
version: 1
part: true
include: ../sinks.yaml
window: {duration: 1min, max_events: 7}
labels: {team: storage, host: none}
defaults:
  buffer: {size: 4MiB, wakeup: {events: 9}}
  filters: {comm: [dd, fio]}
  interval: 2s
  sinks: [out]
";

const SINKS: &str = "\
version: 1
part: true
sinks:
  out: {type: jsonl, path: \"/tmp/${EBPF_RUN_TEST_HOST:-x}/{{ name }}.jsonl\"}
  for-others: {type: csv, path: /tmp/others.csv}
";

fn folder() -> Scratch {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("shared")).expect("a directory");
    scratch.write("io.yaml", MAIN);
    scratch.write("shared/team.yaml", TEAM);
    scratch.write("sinks.yaml", SINKS);
    scratch
}

/// `ebpf-run` in the directory.
fn within(scratch: &Scratch, args: &[&str]) -> Ended {
    run(Command::new(BINARY).args(args).current_dir(scratch.path("")).env("EBPF_RUN_TEST_HOST", "web2"))
}

#[test]
fn a_plan_says_what_each_value_comes_from() {
    let scratch = folder();
    let set = "probes.slow-io.filters.min_latency=5ms";
    let args = ["plan", "io.yaml", "--set", set, "--set", "probes.1.top=null", "--duration", "3s"];
    let text = within(&scratch, &args).expect(0).stdout;
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for says in [
        "window ends after 3s [--duration], or after 7 events [shared/team.yaml:4], or when interrupted",
        "max_loss 0% [default]",
        "label host web2 [io.yaml:4, environment EBPF_RUN_TEST_HOST]",
        "label team storage [shared/team.yaml:5]",
        "min_latency_ns 5ms [--set #1] (8 bytes",
        "comm dd, fio [defaults, shared/team.yaml:8] (",
        "runner_wakeup_flags 2 [io.yaml:9] (4 bytes",
        "runner_transport 0 [default] (4 bytes",
        "inflight 16384 entries [program] Requests",
        "size 4MiB (asked: 4MiB) [defaults, shared/team.yaml:7]",
        "wakeup every_event [io.yaml:9]",
        "interval every 2s, and at the end [defaults, shared/team.yaml:9]",
        "sinks: out [defaults, shared/team.yaml:10]",
        "sink out: jsonl to /tmp/web2/io.jsonl",
        "path /tmp/web2/{{ name }}.jsonl [sinks.yaml:4, environment EBPF_RUN_TEST_HOST]",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(says)), "`{says}` is missing in:\n{text}");
    }
    assert!(!text.contains("for-others"), "no probe writes to this sink of an included file:\n{text}");

    let json = within(&scratch, &[&args[..], &["--json"]].concat()).expect(0).stdout;
    let plan: Json = serde_json::from_str(&json).expect("JSON");
    let from =
        |path: &str| plan.pointer(&format!("{path}/from")).and_then(Json::as_str).unwrap_or_else(|| panic!("{path}"));
    for (path, expected) in [
        ("/name", "default"),
        ("/window/duration", "--duration"),
        ("/window/max_events", "shared/team.yaml:4"),
        ("/window/lock", "default"),
        ("/labels/host", "io.yaml:4, environment EBPF_RUN_TEST_HOST"),
        ("/probes/0/variables/min_latency_ns", "--set #1"),
        ("/probes/0/variables/comm", "defaults, shared/team.yaml:8"),
        ("/probes/0/buffer/size", "defaults, shared/team.yaml:7"),
        ("/probes/0/buffer/wakeup", "io.yaml:9"),
        ("/probes/0/maps/inflight", "program"),
        ("/probes/1/aggregate/interval", "defaults, shared/team.yaml:9"),
        ("/probes/1/aggregate/top", "default"),
        ("/probes/1/on_unsupported", "default"),
        ("/sinks/0/path", "sinks.yaml:4, environment EBPF_RUN_TEST_HOST"),
        ("/sinks/0/files/mode", "default"),
    ] {
        let expected = if path.ends_with("top") { "--set #2" } else { expected };
        assert_eq!(from(path), expected, "{path}");
    }
    assert_eq!(plan["sinks"][0]["path"]["now"], "/tmp/web2/io.jsonl");
    assert_eq!(plan["probes"][0]["variables"]["min_latency_ns"]["value"], "5ms");
}

#[test]
fn a_difference_shows_what_an_argument_changes_and_not_where_values_stand() {
    let scratch = folder();
    let set = "defaults.filters.comm=fio";
    let ended = within(&scratch, &["plan", "io.yaml", "--set", set, "--diff", "io.yaml"]).expect(0);
    let probe = |name: &str| format!("- probes.{name}.variables.comm: dd, fio\n+ probes.{name}.variables.comm: fio\n");
    assert_eq!(ended.stdout, probe("runqlat") + &probe("slow-io"));
    scratch.write("same.yaml", MAIN.replace("version: 1\n", "# moved\nversion: 1\nname: io\n"));
    assert_eq!(within(&scratch, &["plan", "same.yaml", "--diff", "io.yaml"]).expect(0).stdout, "");
}

#[test]
fn parts_are_checked_with_the_others_and_not_run() {
    let scratch = folder();
    within(&scratch, &["check", "."]).expect(0).says(&["no problems in 3 files"]);
    for command in ["run", "plan"] {
        let ended = within(&scratch, &[command, "shared/../sinks.yaml"]).expect(2);
        ended.says(&["shared/../sinks.yaml:2:1: E019 this file is a part of other configs", "\n     2 | part: true\n"]);
    }
    // A problem of a file that several files include is reported once
    scratch.write("other.yaml", MAIN);
    scratch.write("sinks.yaml", SINKS.replace("jsonl,", "jsnl,"));
    let ended = within(&scratch, &["check", "."]).expect(2).says(&["1 problem in 3 of 4 files"]);
    assert!(ended.stdout.starts_with("./sinks.yaml:4:15: E013 `jsnl` is not a sink type"), "{}", ended.stdout);
    assert_eq!(ended.stdout.matches("E0").count(), 1, "{}", ended.stdout);
}

#[test]
fn a_problem_of_an_argument_is_shown_in_it() {
    let scratch = folder();
    let sets = ["--set", "probes.slow-io.filters.min_latenc=5ms", "--set", "window.duration=10"];
    let expected = "\
--set #1: E021 `biosnoop` has no filter `min_latenc`, did you mean `min_latency`?";
    let caret = "     1 | probes.slow-io.filters.min_latenc=5ms\n       |                        ^^^^^^^^^^\n";
    let unit = "--set #2: E015 `duration`: `10` has no unit: write for instance `10ms` (ns, us, ms, s, min, m, h, d)\n     \
                1 | window.duration=10\n       |                 ^^\n";
    for command in ["check", "plan", "run"] {
        let ended = within(&scratch, &[&[command, "io.yaml"], &sets[..]].concat()).expect(2);
        let said = ended.stdout + &ended.stderr;
        assert!(said.contains(expected) && said.contains(caret) && said.contains(unit), "{said}");
    }
    let ended = within(&scratch, &[&["check", "io.yaml", "sinks.yaml"], &sets[..]].concat()).expect(2);
    assert!(ended.stdout.contains("--set #2 on sinks.yaml: E015 `duration`"), "{}", ended.stdout);
    let sets = [&["check", "--format", "json", "io.yaml"], &sets[..]].concat();
    let first = within(&scratch, &sets).expect(2).stdout;
    let first: Json = serde_json::from_str(first.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["file"], &first["column"]), (&"--set #1".into(), &24.into()));
}

#[test]
fn a_variable_that_is_not_set_is_an_error() {
    let scratch = folder();
    let mut command = Command::new(BINARY);
    command.args(["plan", "io.yaml"]).current_dir(scratch.path("")).env_remove("EBPF_RUN_TEST_HOST");
    let ended = run(&mut command).expect(2);
    ended.says(&["io.yaml:4:17: E090 environment variable `EBPF_RUN_TEST_HOST` is not set", "^^^^^^^^^^^^^^^^^^^^^\n"]);
    let text = "version: 1\nprobes:\n  - program: execsnoop\n    filters:\n      pid: ['${EBPF_RUN_TEST_HOST}', 2]\n      \
                failed: ${EBPF_RUN_TEST_HOST}\nsinks: {out: {type: jsonl}}\n";
    scratch.write("pids.yaml", text);
    let plan = |value: &str| {
        run(Command::new(BINARY)
            .args(["plan", "pids.yaml"])
            .current_dir(scratch.path(""))
            .env("EBPF_RUN_TEST_HOST", value))
    };
    let ended = plan("true").expect(2).says(&["pids.yaml:5:13: E030 filter `pid`: must be a whole number, not true"]);
    assert!(!ended.stderr.contains("failed"), "{}", ended.stderr);
    plan("17").expect(2).says(&["pids.yaml:6:15: E030 filter `failed`: must be true or false"]);
    scratch.write("pids.yaml", text.lines().filter(|line| !line.contains("failed")).collect::<Vec<_>>().join("\n"));
    let shown = plan("17").expect(0).stdout;
    assert!(shown.contains("17, 2  [pids.yaml:5, environment EBPF_RUN_TEST_HOST]"), "{shown}");
}

#[test]
fn a_spare_sink_of_an_included_file_stands_in_nobodys_way() {
    let scratch = folder();
    let spare = "  twin: {type: csv, path: /tmp/others.csv}\n  each: {type: csv, path: \"/tmp/{{ probe }}.csv\"}\n";
    scratch.write("sinks.yaml", SINKS.to_owned() + spare);
    within(&scratch, &["check", "io.yaml"]).expect(0);
    let text = within(&scratch, &["plan", "io.yaml", "--set", "probes.slow-io.sinks=[out, each]"]).expect(0).stdout;
    assert!(text.contains(" sinks: out, each  [--set #1]\n") && !text.contains("twin"), "{text}");
    assert!(text.contains("\nsink each, of probe slow-io: csv to /tmp/slow-io.csv\n"), "{text}");
    // Each of the two conflicts with the other
    let set = "probes.slow-io.sinks=[out, twin, for-others]";
    let ended = within(&scratch, &["check", "io.yaml", "--set", set]).expect(2);
    assert!(ended.stdout.starts_with("sinks.yaml:6:27: E027 "), "{}", ended.stdout);
}

/// The secret must not be printed, however it is included.
#[test]
fn nothing_is_shown_of_a_file_that_is_no_config() {
    let scratch = folder();
    fs::create_dir(scratch.path("configs")).expect("a directory");
    let secret = "root:$6$secret:19000:0:99999:7:::\ndaemon: *: x\n";
    scratch.write("shadow", secret);
    scratch.write("outside.yaml", "version: 1\nsecret: [\n");
    scratch.write("configs/plain.yaml", secret);
    scratch.write("configs/token", "version: 1\ntoken: secret\n");
    symlink("../shadow", scratch.path("configs/link.yaml")).expect("a link");
    symlink("../outside.yaml", scratch.path("configs/config-link.yaml")).expect("a link");
    symlink("token", scratch.path("configs/inner-link.yaml")).expect("a link");
    symlink("..", scratch.path("configs/up")).expect("a link");
    symlink("plain.yaml", scratch.path("configs/main-link.yaml")).expect("a link");
    mknodat(CWD, scratch.path("configs/pipe.yaml"), FileType::Fifo, Mode::from(0o644), 0).expect("a pipe");
    for (include, says) in [
        ("../shadow", "E018 the path is outside the config's directory"),
        ("../outside.yaml", "E018 the path is outside"),
        ("link.yaml", "E018 the path is outside"),
        ("config-link.yaml", "E018 the path is outside"),
        ("up/outside.yaml", "E018 the path is outside"),
        ("/etc/shadow", "E018 an included path must be relative"),
        ("plain.yaml", "E018 the file is not an ebpf-run config: it has no line `version: 1`"),
        ("inner-link.yaml", "E018 an included file must be called *.yaml or *.yml, also where a link points to"),
        ("token", "E018 an included file must be called *.yaml"),
        ("pipe.yaml", "E018 not a regular file"),
        ("up", "E018 "),
        ("none.yaml", "E018 can't read the file: No such file"),
    ] {
        let main = format!("version: 1\ninclude: {include}\nprobes: [{{program: biosnoop}}]\n");
        scratch.write("configs/main.yaml", main);
        for command in ["check", "plan", "run"] {
            let ended = within(&scratch, &[command, "configs/main.yaml"]).expect(2);
            let said = ended.stdout + &ended.stderr;
            assert!(said.starts_with(&format!("configs/main.yaml:2:10: {says}")), "{include}: {said}");
            assert!(!said.contains("secret") && !said.contains("daemon"), "{include}: {said}");
        }
    }
    // The config itself may be a link too
    let ended = within(&scratch, &["check", "configs/main-link.yaml"]).expect(2);
    assert!(ended.stdout.starts_with("configs/main-link.yaml: E001 "), "{}", ended.stdout);
    assert!(!ended.stdout.contains("secret"), "{}", ended.stdout);
}

#[test]
fn links_within_the_folder_and_a_file_that_two_include_are_fine() {
    let scratch = folder();
    // As Kubernetes mounts a config map
    fs::create_dir(scratch.path("..data")).expect("a directory");
    scratch.write("..data/io.yaml", MAIN.replace("[shared/team.yaml]", "[team.yaml, sinks.yaml]"));
    scratch.write("..data/team.yaml", TEAM.replace("../sinks.yaml", "sinks.yaml"));
    for name in ["io.yaml", "team.yaml"] {
        let _ = fs::remove_file(scratch.path(name));
        symlink(format!("..data/{name}"), scratch.path(name)).expect("a link");
    }
    within(&scratch, &["plan", "io.yaml"]).expect(0);
}

#[test]
fn includes_have_an_end() {
    let scratch = Scratch::new();
    let main = "version: 1\nprobes: [{program: biosnoop}]\nsinks: {out: {type: jsonl}}\n";
    for i in 0..12 {
        scratch
            .write(&format!("{i}.yaml"), format!("{main}include: {}.yaml\n", i + 1).replace("probes", "part: true\nx"));
    }
    let ended = within(&scratch, &["plan", "0.yaml"]).expect(2);
    ended.says(&["8.yaml:5:10: E018 includes are nested more than 8 deep"]);
    let names: Vec<String> = (0..70).map(|i| format!("many{i}.yaml")).collect();
    for name in &names {
        scratch.write(name, "version: 1\npart: true\n");
    }
    scratch.write("main.yaml", format!("{main}include: [{}]\n", names.join(", ")));
    within(&scratch, &["plan", "main.yaml"]).expect(2).says(&["E018 a config can include at most 64 files"]);
}

#[test]
fn the_example_of_a_team_has_plans() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["examples/team", "examples/ci/captures"] {
        run(Command::new(BINARY).arg("check").arg(root.join(folder))).expect(0).says(&["no problems in 3 files"]);
    }
    let plan = |name: &str| {
        let mut command = Command::new(BINARY);
        command.arg("plan").arg(root.join("examples/team").join(name)).env("CAPTURES", "/srv/captures");
        run(&mut command).expect(0).stdout
    };
    assert!(plan("programs.yaml").contains("after 10min  ["));
    assert!(plan("slow-writes.yaml").contains("sink archive: jsonl to /srv/captures/slow-writes-2"));
}
