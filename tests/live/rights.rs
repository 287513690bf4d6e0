//! The rights that `emit` gives a service: enough for every program, and none that nothing needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};

use crate::common::{BINARY, NOBODY, Scratch, copy_program, run};
use crate::load::unique_name;
use crate::reports::valid_report;
use crate::root;
use crate::sched::{Worker, alone};

/// Whether perf events are for CAP_SYS_ADMIN here.
fn strict() -> bool {
    let value = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("it is there");
    value.trim().parse::<i64>().expect("a number") > 2
}

/// The capabilities of the service that `emit` makes of `config`, in small letters without `cap_`.
#[track_caller]
fn emitted(config: &Path) -> BTreeSet<String> {
    let mut command = Command::new(BINARY);
    command.args(["emit", "systemd", "--binary", "/usr/bin/ebpf-run", "--as", "/etc/ebpf-run/x.yaml"]);
    command.args(["--set", "schedule.every=1d", "--set", "window.duration=1s", "--unit", "x"]).arg(config);
    if strict() {
        command.arg("--strict-perf-events");
    }
    let service = run(&mut command).expect(0).stdout;
    let value = |key: &str| service.lines().find_map(|line| line.strip_prefix(key)).expect("it is there").to_owned();
    assert_eq!(value("AmbientCapabilities="), value("CapabilityBoundingSet="));
    assert!(service.contains("\nLimitMEMLOCK=infinity\n"));
    value("AmbientCapabilities=").split(' ').map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect()
}

/// The binary, for a user with these capabilities alone, and with the limit that a service has.
struct User {
    scratch: Scratch,
    binary: PathBuf,
}

impl User {
    fn new() -> Self {
        let scratch = Scratch::new();
        let binary = scratch.path("ebpf-run");
        fs::hard_link(BINARY, &binary).unwrap_or_else(|_| copy_program(BINARY.as_ref(), &binary));
        fs::create_dir(scratch.path("own")).expect("a folder");
        std::os::unix::fs::chown(scratch.path("own"), Some(NOBODY), Some(NOBODY)).expect("root may");
        User { scratch, binary }
    }

    fn command(&self, capabilities: &BTreeSet<String>) -> Command {
        let sets = capabilities.iter().fold("-all".to_owned(), |sets, one| format!("{sets},+{one}"));
        let mut command = Command::new("prlimit");
        // In some containers the limit is where it is, which matters before 5.11 and for perf buffers only
        if Command::new("prlimit").args(["--memlock=unlimited", "true"]).output().is_ok_and(|out| out.status.success())
        {
            command.arg("--memlock=unlimited");
        }
        command.args(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args(["--inh-caps", &sets, "--ambient-caps", &sets, "--bounding-set", &sets]).arg(&self.binary);
        command
    }
}

/// What became of each probe, for a comparison.
fn outcome(report: &Path) -> Vec<Json> {
    let Ok(text) = fs::read_to_string(report) else { return Vec::new() };
    let report = valid_report(&text);
    let probes = report["probes"].as_array().expect("a list").clone();
    probes.iter().map(|probe| json!([probe["name"], probe["verdict"], probe["hooks"], probe["variants"]])).collect()
}

#[test]
fn every_program_runs_for_a_user_as_it_does_for_root() {
    if !root() {
        return;
    }
    let user = User::new();
    let configs = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("probes.d")).expect("it is there");
    let mut worked = 0;
    let configs = configs.map(|entry| entry.expect("an entry").path());
    for config in configs.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")) {
        let name = config.file_stem().expect("a name").to_string_lossy().into_owned();
        let args = ["--duration", "200ms", "--set", "max_loss=100%", "--report"];
        let (own, roots) = (user.scratch.path(&format!("own/{name}.json")), user.scratch.path(&format!("{name}.json")));
        let by_root = run(Command::new(BINARY).arg(&name).args(args).arg(&roots));
        let by_user = run(user.command(&emitted(&config)).arg(&name).args(args).arg(&own));
        assert_eq!(by_user.code, by_root.code, "{name}:\n{}\n{}", by_root.stderr, by_user.stderr);
        assert_eq!(outcome(&own), outcome(&roots), "{name}");
        worked += usize::from(by_root.code == Some(0));
    }
    assert!(worked >= 10, "{worked} programs work here");
}

#[test]
fn no_capability_is_there_for_nothing() {
    if !root() {
        return;
    }
    let user = User::new();
    let probes_d = Path::new(env!("CARGO_MANIFEST_DIR")).join("probes.d");
    for name in ["execsnoop", "profile"] {
        let all = emitted(&probes_d.join(format!("{name}.yaml")));
        for one in ["bpf", "perfmon", "sys_admin"].into_iter().filter(|one| all.contains(*one)) {
            // The one that is above the others takes their place
            if all.contains("sys_admin") && one != "sys_admin" {
                continue;
            }
            let less = all.iter().filter(|other| *other != one).cloned().collect();
            let ended = run(user.command(&less).arg(name).args(["--duration", "100ms"]));
            assert_eq!(ended.code, Some(5), "{name} without {one}: {}", ended.stderr);
        }
    }
}

#[inline(never)]
fn nap_for_a_user() {
    (0..20).for_each(|_| std::thread::sleep(std::time::Duration::from_millis(50)));
}

/// Whether the kernel's and the process's part of a sleeper's stacks have names, for a user with these capabilities.
fn names(user: &User, capabilities: &BTreeSet<String>) -> (bool, bool) {
    let comm = unique_name();
    let config = json!({
        "version": 1, "max_loss": "100%", "window": {"duration": "1s"}, "schedule": {"every": "1d"},
        "probes": [{"program": "offcputime", "filters": {"comm": comm, "min_block": "45ms"}}],
        "sinks": {"file": {"type": "jsonl", "path": user.scratch.path("own/out")}},
    });
    let path = user.scratch.write("config.yaml", config.to_string());
    let mut child = user.command(capabilities).arg(path).stderr(Stdio::piped()).spawn().expect("it starts");
    // So that it sleeps all the while
    let sleeper = Worker::new(&comm, None, || (0..3).for_each(|_| nap_for_a_user()));
    let working = std::thread::spawn(move || crate::sched::work([sleeper]));
    let ended = child.wait().expect("it ends");
    working.join().expect("it does not panic");
    assert_eq!(ended.code(), Some(0));
    let rows = crate::capture::records(&fs::read_to_string(user.scratch.path("own/out")).expect("it is there"));
    assert!(!rows.is_empty(), "it slept");
    let has = |stack: &str, part: &str| {
        let frames = |row: &Json| row[stack].as_array().cloned().unwrap_or_default();
        rows.iter().flat_map(frames).any(|frame| frame.as_str().is_some_and(|frame| frame.contains(part)))
    };
    (has("kernel_stack", "nanosleep"), has("user_stack", "nap_for_a_user") || has("user_stack", "nanosleep"))
}

#[test]
fn stacks_have_names_with_the_capabilities_for_them_and_not_without() {
    if !root() {
        return;
    }
    let (user, _alone) = (User::new(), alone());
    let all = emitted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("probes.d/offcputime.yaml"));
    assert_eq!(names(&user, &all), (true, true));
    for (one, expected) in [
        ("syslog", (false, true)),
        ("sys_ptrace", (true, false)),
        ("dac_read_search", (true, false)),
        ("checkpoint_restore", (true, false)),
    ] {
        let less = all.iter().filter(|other| *other != one).cloned().collect();
        assert_eq!(names(&user, &less), expected, "without {one}");
    }
}

/// A limit on open files is reached at another step with each value. None of these is an answer about the kernel.
#[test]
fn a_limit_on_open_files_is_a_failure_and_no_verdict() {
    if !root() {
        return;
    }
    for program in ["opensnoop", "profile"] {
        let (mut failed, mut went_well) = (0, 0);
        for limit in (8..72).step_by(2) {
            let mut command = Command::new("prlimit");
            command.args([&format!("--nofile={limit}"), "--", BINARY, program, "--duration", "1ms", "--set"]);
            command.arg(format!("probes.0.filters={{comm: {}}}", unique_name()));
            let ended = run(&mut command);
            match ended.code {
                Some(0) => went_well += 1,
                Some(1) => failed += 1,
                code => panic!("{program} with {limit} files: exit code {code:?}: {}", ended.stderr),
            }
        }
        assert!(failed > 3 && went_well > 3, "{program}: {failed} failed, {went_well} went well");
    }
}
