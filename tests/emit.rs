//! `ebpf-run emit`: how systemd and cron read the files. Requires neither root nor eBPF; tests that require systemd's
//! tools report if they are missing.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{BINARY, Ended, Scratch, copy_program, run};
use serde_json::{Value as Json, json};

/// `ebpf-run emit WHAT` of `config`, for a machine with all files in their usual places.
fn emit(what: &str, scratch: &Scratch, config: &Json, args: &[&str]) -> Ended {
    let path = scratch.write("capture.yaml", config.to_string());
    let mut command = Command::new(BINARY);
    command.args(["emit", what]).arg(path).args([
        "--as",
        "/etc/ebpf-run/capture.yaml",
        "--binary",
        "/usr/bin/ebpf-run",
    ]);
    run(command.args(args))
}

fn config() -> Json {
    json!({
        "version": 1, "window": {"duration": "10s"}, "schedule": {"every": "15min"},
        "probes": [{"program": "biosnoop"}],
        "sinks": {"file": {"type": "jsonl", "path": "/var/log/ebpf-run/out"}},
    })
}

/// The values of a key of a unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// Runs systemd's own tool on the units in `folder`; `None` if it is not installed.
fn analyze(args: &[&str], folder: &Path) -> Option<std::process::Output> {
    let mut units: Vec<_> =
        fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    if args[0] == "security" {
        units.retain(|unit| unit.extension().is_some_and(|ending| ending == "service"));
    }
    match Command::new("systemd-analyze").env("LC_ALL", "C").args(args).args(units).output() {
        Ok(output) => Some(output),
        Err(_) => {
            let thread = std::thread::current();
            eprintln!("SKIPPED {}: there is no systemd-analyze here", thread.name().unwrap_or_default());
            None
        }
    }
}

/// Checks that systemd accepts the units, and that their exposure is low enough.
#[track_caller]
fn good(scratch: &Scratch, config: &Json, args: &[&str]) {
    let _ = fs::remove_dir_all(scratch.path("units"));
    fs::create_dir(scratch.path("units")).expect("a directory");
    let folder = scratch.path("units").display().to_string();
    // systemd rejects units whose executables do not exist
    let more = ["--binary", "/bin/sh", "--output", &folder];
    let path = scratch.write("capture.yaml", config.to_string());
    let mut command = Command::new(BINARY);
    command.args(["emit", "systemd"]).arg(path).args(["--as", "/etc/ebpf-run/capture.yaml"]).args(more);
    run(command.args(args)).expect(0);
    let Some(verified) = analyze(&["verify", "--man=no"], Path::new(&folder)) else { return };
    let words = String::from_utf8_lossy(&verified.stderr).into_owned();
    // systemd reads other units of the machine too, which can have problems of their own
    let ours: Vec<&str> = words.lines().filter(|line| line.contains("ebpf-run-")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{words}");
    let secure = analyze(&["security", "--offline=true", "--no-pager"], Path::new(&folder)).expect("it was there");
    let words = String::from_utf8_lossy(&secure.stdout).into_owned();
    let level = words.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
    assert!(["OK", "SAFE", "PERFECT"].iter().any(|good| level.contains(good)), "{words}");
}

/// Every program that has a config of its own, and each setting that changes the service.
#[test]
fn systemd_approves_of_every_unit() {
    let scratch = Scratch::new();
    let probes = ["biosnoop", "profile", "offcputime", "tcpconnect", "llcstat"];
    for program in probes {
        let mut config = config();
        config["name"] = json!(program);
        config["probes"][0]["program"] = json!(program);
        good(&scratch, &config, &[]);
        good(&scratch, &config, &["--strict-perf-events", "--user", "daemon", "--cpus", "128"]);
    }
    let mut config = config();
    config["sinks"]["file"]["path"] = json!("/srv/captures/it's 100% \"$HOME\" \\x/out-{{ start }}");
    config["sinks"]["file"]["owner"] = json!("daemon");
    config["window"] = json!({"duration": "10s", "lock": "/run/lock/x", "on_locked": "wait", "drain": "1500ms"});
    config["schedule"] = json!({"at": ["02:30", "14:45"], "days": ["mon", "fri"]});
    config["description"] = json!("two\nlines, 5% and a \\");
    good(&scratch, &config, &["--report", "/var/lib/ebpf-run/deep/{{ name }}"]);
}

#[test]
fn a_service_has_the_rights_that_its_plan_needs_and_no_others() {
    let scratch = Scratch::new();
    let mut config = config();
    let service = |config: &Json, args: &[&str]| emit("systemd", &scratch, config, args).expect(0).stdout;
    let rights = |service: &str| values(service, "CapabilityBoundingSet")[0].to_owned();
    let events = service(&config, &[]);
    assert_eq!(rights(&events), "CAP_PERFMON CAP_BPF");
    assert_eq!(values(&events, "AmbientCapabilities"), ["CAP_PERFMON CAP_BPF"]);
    assert_eq!((values(&events, "DynamicUser"), values(&events, "LogsDirectory")), (vec!["yes"], vec!["ebpf-run"]));
    assert_eq!(values(&events, "ProtectKernelTunables"), ["yes"]);
    assert_eq!(rights(&service(&config, &["--strict-perf-events"])), "CAP_PERFMON CAP_BPF", "it has no perf events");
    config["probes"][0]["program"] = json!("profile");
    let stacks = service(&config, &["--strict-perf-events"]);
    let expected =
        "CAP_DAC_READ_SEARCH CAP_SYS_PTRACE CAP_SYS_ADMIN CAP_SYSLOG CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE";
    assert_eq!(rights(&stacks), expected);
    // The settings that would hide the kernel's symbols
    assert_eq!(
        (values(&stacks, "ProtectKernelTunables"), values(&stacks, "ProtectKernelLogs")),
        (vec!["no"], vec!["no"])
    );

    config["probes"][0]["program"] = json!("biosnoop");
    config["sinks"]["file"] = json!({"type": "csv", "path": "/srv/{{ labels.a }}/{{ host }}/x.csv", "group": "adm"});
    config["labels"] = json!({"a": "team"});
    let others = service(&config, &[]);
    assert_eq!(rights(&others), "CAP_CHOWN CAP_PERFMON CAP_BPF");
    assert_eq!((values(&others, "User"), values(&others, "DynamicUser")), (vec!["root"], vec![]));
    assert_eq!(
        (values(&others, "AmbientCapabilities"), values(&others, "ReadWritePaths")),
        (vec![], vec!["-/srv/team"])
    );
    assert!(others.contains("# - sink `file` is in /srv/team"), "{others}");
    let user = service(&config, &["--user", "capture"]);
    assert_eq!((values(&user, "User"), values(&user, "AmbientCapabilities").len()), (vec!["capture"], 1));
}

#[test]
fn times_and_memory_follow_from_the_plan() {
    let scratch = Scratch::new();
    let mut config = config();
    config["window"] =
        json!({"duration": "10s", "splay": "1min", "warmup": "2s", "drain": "5s", "lock": "/run/ebpf-run/x"});
    let service = emit("systemd", &scratch, &config, &[]).expect(0).stdout;
    assert_eq!((values(&service, "TimeoutStartSec"), values(&service, "TimeoutStopSec")), (vec!["107s"], vec!["35s"]));
    assert_eq!(values(&service, "SuccessExitStatus"), ["6"]);
    config["window"]["on_locked"] = json!("wait");
    let service = emit("systemd", &scratch, &config, &[]).expect(0).stdout;
    assert_eq!(
        (values(&service, "TimeoutStartSec"), values(&service, "SuccessExitStatus")),
        (vec!["infinity"], vec![])
    );
    let memory = |config: &Json, args: &[&str]| -> u64 {
        let service = emit("systemd", &scratch, config, args).expect(0).stdout;
        values(&service, "MemoryMax")[0].strip_suffix('M').expect("MiB").parse().expect("a number")
    };
    let least = memory(&config, &[]);
    config["probes"][0]["buffer"] = json!({"type": "ringbuf", "size": "256MiB"});
    assert!(memory(&config, &[]) >= least + 256, "a buffer counts");
    config["probes"][0]["buffer"] = json!({"type": "perfbuf", "size": "4MiB"});
    assert!(memory(&config, &["--cpus", "256"]) >= least + 1024, "perf buffers count for each CPU");
    config["probes"][0] = json!({"program": "biosnoop", "maps": {"inflight": 4_000_000}});
    assert!(memory(&config, &[]) >= least + 4 * 64, "maps count");
}

/// What cron passes to the shell: up to a `%` without a backslash before it.
fn of_cron(line: &str) -> String {
    let command = line.splitn(7, ' ').nth(6).expect("five fields, the user, and the command");
    let command = command.replace("\\%", "\0");
    let command = command.split('%').next().expect("a beginning").to_owned();
    command.replace('\0', "%")
}

#[test]
fn cron_s_shell_gets_just_what_was_meant() {
    let scratch = Scratch::new();
    let text =
        scratch.write("fake.txt", "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done\nprintf '%s\\n' \"$ODD\"\n");
    let fake = scratch.path("fake");
    copy_program(&text, &fake);
    let mut config = config();
    config["labels"] = json!({"a": "${ODD}"});
    let odd = "it's \"5%\" $(reboot) `x` ; é";
    let (place, report) = (format!("/etc/{odd}/x.yaml"), "/var/log/ebpf-run/{{ start | date('%Y %%') }}");
    let path = scratch.write("capture.yaml", config.to_string());
    let mut command = Command::new(BINARY);
    command.args(["emit", "cron"]).arg(path).args([
        "--binary",
        "/usr/bin/ebpf-run",
        "--as",
        &place,
        "--report",
        report,
    ]);
    let ended = run(command.args(["--set", "labels.b='100%'"]).env("ODD", odd)).expect(0);
    let lines: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with("*/15 * * * * root ")).collect();
    let [line] = lines.as_slice() else { panic!("{}", ended.stdout) };
    let shell = of_cron(line).replace("/usr/bin/ebpf-run", &fake.display().to_string());
    let ended = run(Command::new("/bin/sh").args(["-c", &shell]).env_remove("ODD")).expect(0);
    let words = ["run", "--quiet", "--set", "labels.b='100%'", "--report", report, "--", &place, odd];
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), words);
}

#[test]
fn cron_has_a_line_for_each_minute_and_says_what_it_mails() {
    let scratch = Scratch::new();
    let mut config = config();
    config["schedule"] = json!({"at": ["02:30", "14:30", "14:45"], "days": ["sat", "sun"]});
    config["sinks"]["screen"] = json!({"type": "stdout", "template": "{{ pid }}"});
    let cron = emit("cron", &scratch, &config, &["--unit", "x"]).expect(0).stdout;
    let lines: Vec<&str> = cron.lines().filter(|line| line.contains(" root ")).collect();
    let command = "root /usr/bin/ebpf-run run --quiet -- /etc/ebpf-run/capture.yaml";
    assert_eq!(lines, [format!("30 2,14 * * 0,6 {command}"), format!("45 14 * * 0,6 {command}")]);
    assert!(
        cron.contains("MAILTO=root\n") && cron.contains("sink screen go to standard output; cron sends them by mail"),
        "{cron}"
    );
}

#[test]
fn what_can_t_be_kept_is_refused() {
    let scratch = Scratch::new();
    let refused = |what: &str, change: &dyn Fn(&mut Json), args: &[&str], says: &str| {
        let mut config = config();
        change(&mut config);
        emit(what, &scratch, &config, args).expect(2).says(&[says, "hint: "]);
    };
    let same = |_: &mut Json| ();
    let path = |path: &'static str| move |config: &mut Json| config["sinks"]["file"]["path"] = json!(path);
    for what in ["systemd", "cron"] {
        refused(
            what,
            &|config| drop(config.as_object_mut().expect("a mapping").remove("schedule")),
            &[],
            "no `schedule`",
        );
        refused(what, &path("out.csv"), &[], "is not absolute");
        refused(what, &path("/out.csv"), &[], "is in `/`");
        refused(what, &path("/{{ host }}/out.csv"), &[], "known only when the capture runs");
        refused(what, &path("/var/log/../../etc/x"), &[], "`..`");
        refused(what, &path("/home/me/out.csv"), &[], "a home directory");
        refused(what, &path("/tmp/out.csv"), &[], "temporary");
        refused(what, &|config| config["window"]["lock"] = json!("/dev/shm/x"), &[], "the lock: `/dev/shm/x`");
        refused(what, &same, &["--unit", "a b"], "is not a valid name");
        refused(what, &same, &["--unit", "../x"], "is not a valid name");
        refused(what, &same, &["--unit", ""], "is not a valid name");
        refused(what, &same, &["--set", "labels.a=\"two\nlines\""], "a line break");
        refused(what, &same, &["--report", "relative"], "the report: `relative`");
        refused(what, &same, &["--report", "/var/log/ebpf-run/{{ nam }}"], "nam");
        refused(what, &|config| config["name"] = json!("a/b\n%"), &[], "is not a valid name");
    }
    refused("cron", &same, &["--unit", "a.b"], "cron ignores");
    refused("cron", &same, &["--set", "labels.a=back\\slash"], "backslash");
    let path = scratch.write("capture.yaml", config().to_string());
    for (place, says) in [("/root/x.yaml", "home"), ("/etc/two\nlines", "a line break"), ("/tmp/x", "temporary")] {
        let mut command = Command::new(BINARY);
        command.args(["emit", "systemd"]).arg(&path).args(["--binary", "/usr/bin/ebpf-run", "--as", place]);
        run(&mut command).expect(2).says(&[says, "hint: "]);
    }
}

/// `EBPF_RUN_BLESS=1 cargo test --test integration emit::` updates the examples.
#[test]
fn the_examples_are_what_is_emitted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let scratch = Scratch::new();
    for what in ["systemd", "cron"] {
        let (made, kept) = (scratch.path(what), examples.join(what));
        fs::create_dir(&made).expect("a directory");
        let mut command = Command::new(BINARY);
        command.args(["emit", what]).arg(examples.join("scheduled/slow-io.yaml")).arg("--output").arg(&made);
        command.args(["--as", "/etc/ebpf-run/slow-io.yaml", "--binary", "/usr/bin/ebpf-run", "--report"]);
        run(command.arg("/var/log/ebpf-run/{{ name }}-{{ start | date('%Y%m%dT%H%M%SZ') }}.report.json")).expect(0);
        let names = |folder: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry").file_name()).collect();
            names.sort();
            names
        };
        if std::env::var_os("EBPF_RUN_BLESS").is_some() {
            for name in names(&made) {
                fs::copy(made.join(&name), kept.join(&name)).expect("it is copied");
            }
        }
        assert_eq!(names(&made), names(&kept));
        for name in names(&made) {
            let read = |folder: &Path| fs::read_to_string(folder.join(&name)).expect("it is there");
            assert_eq!(read(&made), read(&kept), "EBPF_RUN_BLESS=1 cargo test --test integration emit::");
        }
    }
}

/// A run by hand ignores the schedule: it may take longer.
#[test]
fn options_of_a_run_are_no_matter_of_the_schedule() {
    let scratch = Scratch::new();
    let path = scratch.write("capture.yaml", config().to_string());
    let plan = |args: &[&str]| run(Command::new(BINARY).arg("plan").arg(&path).args(args));
    let shown = plan(&["--duration", "1h"]).expect(0).stdout;
    assert!(shown.contains("  schedule               every 15min, local time"), "{shown}");
    plan(&["--set", "window.duration=1h"]).expect(2).says(&["E062 a window may last 1h"]);
}

/// A ready-made config has neither a schedule nor a duration, and its sink is standard output.
#[test]
fn a_built_in_config_is_started_by_its_name() {
    let sets = ["--set", "schedule.every=1h", "--set", "window.duration=10s"];
    let built_in = |what: &str, args: &[&str]| {
        run(Command::new(BINARY)
            .current_dir("/")
            .args(["emit", what, "io-latency", "--binary", "/usr/bin/ebpf-run"])
            .args(args))
    };
    built_in("systemd", &[]).expect(2).says(&["no `schedule`", "--set schedule.every=15min"]);
    let service = built_in("systemd", &sets).expect(0).stdout;
    let command = "/usr/bin/ebpf-run run --quiet --set schedule.every=1h --set window.duration=10s -- io-latency";
    assert_eq!((values(&service, "ExecStart"), values(&service, "DynamicUser")), (vec![command], vec!["yes"]));
    let filtered = built_in("systemd", &[&sets[..], &["--filter", "comm={not: dd}"]].concat()).expect(0).stdout;
    let command = command.replace("--quiet", "--quiet --filter \"comm={not: dd}\"");
    assert_eq!(values(&filtered, "ExecStart"), [command]);
    assert!(built_in("cron", &sets).expect(0).stdout.contains("go to standard output; cron sends them by mail"));
}
