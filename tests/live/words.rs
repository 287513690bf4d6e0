//! What is said when a kernel does not play along, and when nothing is to be said.

use std::path::PathBuf;
use std::process::Command;

use ebpf_run::catalog::Catalog;
use ebpf_run::config::Source;
use ebpf_run::error::Kind;
use ebpf_run::plan::{Overrides, plan};
use ebpf_run::run::{Options, run as run_plan};
use serde_json::json;

use crate::capture::{records, to_jsonl};
use crate::common::{BINARY, Scratch, run};
use crate::load::unique_name;
use crate::root;

#[test]
fn without_btf_the_message_names_the_file() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let probe = json!([{"program": "biosnoop", "filters": {"comm": unique_name()}}]);
    let config = scratch.write("config.yaml", to_jsonl(probe).to_string());
    let hidden = |args: &[&str]| {
        let mut command = with_mounts("mount -t tmpfs none /sys/kernel/btf");
        command.arg(BINARY).arg(&config).args(["--duration", "1s"]).args(args);
        let ended = run(&mut command).expect(4).says(&["ebpf-run: error: ", "/sys/kernel/btf/vmlinux", "hint: "]);
        assert_eq!(ended.stdout, "");
        assert!(!ended.stderr.contains("libbpf"), "{}", ended.stderr);
    };
    hidden(&[]);
    hidden(&["--quiet"]);
    hidden(&["--verbose"]);
}

/// What is to be followed by a command that runs where the shell command `mounts` has changed what is below /sys: in a mount
/// namespace of its own, which ends with it.
fn with_mounts(mounts: &str) -> Command {
    // Only /sys is taken apart from the other namespace's: in a chroot, / is no mount that could be
    let script = format!("mount --make-rprivate /sys && {{ {mounts}; }} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "unchanged", "sh", "-c", &script, "sh"]);
    command
}

fn again(mut command: Command, test: &str) -> bool {
    const ALONE: &str = "EBPF_RUN_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let ended = run(command.args(["--exact", &format!("live::{test}")]).env(ALONE, "1"));
    assert!(ended.code == Some(0) && ended.stdout.contains("1 passed"), "{}{}", ended.stdout, ended.stderr);
    false
}

fn this_binary() -> PathBuf {
    std::env::current_exe().expect("there is a binary")
}

/// Runs `test` again, in a process of its own; `true` there. Elsewhere other tests start processes, and the
/// signals of their ends interrupt bpf(2) until libbpf gives up.
pub fn alone(test: &str) -> bool {
    again(Command::new(this_binary()), test)
}

/// As [`alone`], where tracefs is mounted, whether or not this machine has it so.
pub fn with_tracefs(test: &str) -> bool {
    let mut command = with_mounts("[ -e /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing");
    command.arg(this_binary());
    again(command, test)
}

/// As [`alone`], where tracefs is not mounted, in none of its two places.
pub fn without_tracefs(test: &str) -> bool {
    let hide =
        "for place in tracing debug; do [ ! -d /sys/kernel/$place ] || mount -t tmpfs none /sys/kernel/$place; done";
    let mut command = with_mounts(hide);
    command.arg(this_binary());
    again(command, test)
}

#[test]
fn a_program_that_the_kernel_refuses_is_named_with_the_reason() {
    if !root() || !alone("words::a_program_that_the_kernel_refuses_is_named_with_the_reason") {
        return;
    }
    let object: &'static [u8] = include_bytes!(concat!(env!("OUT_DIR"), "/refused.bpf.o"));
    let catalog = Catalog::from_objects([("refused", object)]);
    let yaml = "version: 1\nprobes: [{program: refused, filters: {pid: 1}}]\nsinks: {out: {type: jsonl}}\n";
    let source = Source::parse("x.yaml".into(), "x".into(), yaml.into()).expect("it is a config");
    let plan = plan(&source, &catalog, &Overrides::default()).expect("it is a plan");
    let error = run_plan(&plan, &Options { quiet: true }).expect_err("no kernel takes it");
    assert_eq!(error.kind, Kind::Unsupported, "{error}");
    assert!(error.message.contains("hook `calls_what_is_not_there` of program `refused`"), "{error}");
    assert!(error.message.contains("#9999"), "the verifier's reason: {error}");
    assert!(!error.message.contains("libbpf"), "{error}");
    assert!(error.hint.is_some_and(|hint| hint.contains("--verbose")));
    let detail = error.detail.expect("the verifier's words");
    assert!(detail.contains("BEGIN PROG LOAD LOG") && detail.contains("#9999"), "{detail}");
}

#[test]
fn quiet_says_nothing_unless_something_is_wrong() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let probe = json!([{"program": "execsnoop", "filters": {"comm": unique_name()}}]);
    let quiet = |config: serde_json::Value| {
        let config = scratch.write("config.yaml", config.to_string());
        run(Command::new(BINARY).arg(config).args(["--quiet", "--duration", "100ms"]))
    };
    let ended = quiet(to_jsonl(probe.clone())).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    assert!(records(&ended.stdout).is_empty());
    let mut full = to_jsonl(probe);
    full["sinks"] = json!({"full": {"type": "csv", "path": "/dev/full"}});
    quiet(full).expect(1).says(&["/dev/full"]);
}

/// Local times of an unknown zone are UTC, and look like any.
#[test]
fn a_time_zone_that_is_not_known_is_told_where_local_times_are_written() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let no_zone = scratch.write("no-zone", "no time zone");
    let path = no_zone.to_str().expect("UTF-8");
    let run_with = |zone: Option<&str>, template: &str| {
        let report = scratch.path("report.json");
        let sink = json!({"type": "stdout", "template": "{{ comm }}", "header": template});
        let probes = json!([{"program": "execsnoop", "filters": {"comm": unique_name()}}]);
        let config = json!({"version": 1, "probes": probes, "sinks": {"out": sink}});
        let mut command = Command::new(BINARY);
        command.arg(scratch.write("config.yaml", config.to_string())).args([
            "--quiet",
            "--duration",
            "50ms",
            "--report",
        ]);
        command.arg(&report).env_remove("TZ");
        let ended = run(command.envs(zone.map(|zone| ("TZ", zone)))).expect(0);
        (ended, crate::capture::report(&scratch))
    };
    let (local, hours) = ("{{ start | clock }} {{ start | date('%H:%M', 'local') }}", "{{ start | date('%H:%M') }}");
    for zone in ["Europe/Nowhere", "Nonsense", ":Nonsense", path, "/no/such/file", "UTC+99"] {
        let (ended, report) = run_with(Some(zone), local);
        assert_eq!(ended.stderr.matches("warning").count(), 1, "{zone}: {}", ended.stderr);
        assert!(
            ended
                .stderr
                .contains(&format!("local times are UTC: this machine does not know its time zone, TZ={zone};"))
        );
        assert_eq!(report["unknown_time_zone"], format!("TZ={zone}"));
        let (ended, report) = run_with(Some(zone), hours);
        assert_eq!((ended.stderr.as_str(), &report["unknown_time_zone"]), ("", &json!(null)), "UTC is UTC");
    }
    for zone in [None, Some(""), Some("UTC"), Some("<+0330>-3:30"), Some("CET-1CEST,M3.5.0,M10.5.0/3")] {
        let (ended, report) = run_with(zone, local);
        assert_eq!((ended.stderr.as_str(), &report["unknown_time_zone"]), ("", &json!(null)), "{zone:?}");
    }
}
