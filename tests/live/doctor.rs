//! What `doctor` says beforehand is what a run comes to: for every config that is shipped, and for programs that are made
//! to be refused. And what it finds out about programs that it tries. On each kernel of `make test-kernels` too.

use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ebpf_run::catalog::Catalog;
use ebpf_run::config::Source;
use ebpf_run::doctor::{DiagnosisView, Status, examine};
use ebpf_run::kernel::{Host, Verdict};
use ebpf_run::plan::{Overrides, plan};
use ebpf_run::run::{Options, run as run_plan};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::capture::{report, to_jsonl};
use crate::common::{BINARY, Scratch, copy_program, in_guest, run};
use crate::disk::Disk;
use crate::root;
use crate::words::{with_tracefs, without_tracefs};

macro_rules! object {
    ($name:literal) => {{
        let object: &'static [u8] = include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".bpf.o"));
        ($name, object)
    }};
}

fn shipped() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["probes.d", "examples"].map(|folder| fs::read_dir(here.join(folder)).expect("it is there"));
    let mut configs: Vec<PathBuf> = folders.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    configs.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    configs.sort();
    configs
}

/// The names of the hooks that `doctor` says would be attached.
fn taken(probe: &Json) -> Vec<&str> {
    let hooks = probe["hooks"].as_array().expect("a list").iter().filter(|hook| hook["taken"] == true);
    hooks.filter_map(|hook| hook["function"].as_str()).collect()
}

#[test]
fn for_every_config_it_says_what_a_run_comes_to() {
    if !root() {
        return;
    }
    let configs = shipped();
    assert!(configs.len() > 10, "{configs:?}");
    for config in configs {
        let scratch = Scratch::new();
        let name = config.display();
        // Alone both times: a sink of the config may name a file of where it is run
        let mut command = Command::new(BINARY);
        let told = run(command.current_dir(scratch.path("")).arg("doctor").arg(&config).arg("--json"));
        let doctor: Json = serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut command = Command::new(BINARY);
        command.current_dir(scratch.path("")).arg(&config);
        let ran = run(command
            .args(["--duration", "50ms", "--max-events", "1000000", "--report"])
            .arg(scratch.path("report.json")));
        let begun = matches!(ran.code, Some(0 | 3));
        assert_eq!(told.code, if begun { Some(0) } else { ran.code }, "{name}: {}{}", told.stdout, ran.stderr);
        let probes = doctor["probes"].as_array().expect("a list");
        if !begun {
            let failed: Vec<&Json> = probes.iter().filter(|probe| probe["mark"] == "problem").collect();
            let reason = failed.first().and_then(|probe| probe["reason"].as_str()).expect("a reason");
            assert!(ran.stderr.contains(reason), "{name}: {reason}\n{}", ran.stderr);
            assert_eq!(failed[0]["verdict"], "unsupported", "{name}: none of ours is broken");
            continue;
        }
        let report = report(&scratch);
        let accounts = report["probes"].as_array().expect("a list");
        assert_eq!(accounts.len(), probes.len(), "{name}");
        for (probe, account) in probes.iter().zip(accounts) {
            assert_eq!(probe["probe"], account["name"], "{name}");
            for key in ["verdict", "reason"] {
                assert_eq!(probe[key], account[key], "{name}: {probe}\n{account}");
            }
            assert_eq!(probe["variants"], account["variants"], "{name}");
            assert_eq!(json!(taken(probe)), account["hooks"], "{name}");
            assert_eq!(probe["loaded"], true, "{name}");
        }
    }
}

#[test]
fn programs_that_are_refused_are_told_as_a_run_tells_them() {
    if !root() || !with_tracefs("doctor::programs_that_are_refused_are_told_as_a_run_tells_them") {
        return;
    }
    refused_programs_are_told_as_a_run_tells_them(0);
}

#[test]
fn and_so_they_are_without_tracefs() {
    if !root() || !without_tracefs("doctor::and_so_they_are_without_tracefs") {
        return;
    }
    // Where there are kprobes, `alternatives` can do without
    refused_programs_are_told_as_a_run_tells_them(if Host::read().kprobes { 0 } else { 4 });
}

fn refused_programs_are_told_as_a_run_tells_them(of_alternatives: u8) {
    let objects = [object!("alternatives"), object!("nowhere"), object!("faulty"), object!("refused")];
    let catalog = Catalog::from_objects(objects);
    let nobody = std::process::id();
    for (probe, code) in [
        (json!({"program": "alternatives", "filters": {"pid": nobody}}), of_alternatives),
        (json!({"program": "faulty", "filters": {"pid": nobody}}), 0),
        (json!({"program": "faulty", "filters": {"only_faulty": true}}), 4),
        (json!({"program": "nowhere"}), 4),
        (json!({"program": "refused"}), 4),
    ] {
        let mut config = to_jsonl(json!([probe]));
        config["window"] = json!({"duration": "10ms"});
        config["sinks"]["out"]["path"] = json!("/dev/null");
        let source = Source::parse("x.yaml".into(), "x".into(), config.to_string()).expect("it is a config");
        let plan = plan(&source, &catalog, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
        let diagnosis = examine(&[("x.yaml".into(), plan.clone())], &catalog).unwrap_or_else(|error| panic!("{error}"));
        let preflight = &diagnosis.probes[0].preflight;
        assert_eq!(diagnosis.exit_code(), code, "{probe}: {preflight:?}");
        match run_plan(&plan, &Options { quiet: true }) {
            Ok(report) => {
                let account = &report.accounts[0];
                let verdict = (preflight.verdict, &preflight.reason, &preflight.variants);
                assert_eq!(verdict, (Some(account.verdict), &account.reason, &account.variants), "{probe}");
            }
            Err(error) => {
                assert_eq!((preflight.verdict, code), (Verdict::of(&error), error.kind.code()), "{probe}");
                assert_eq!(preflight.reason.as_ref(), Some(&error.message), "{probe}");
            }
        }
    }
}

/// One instruction of a seccomp filter.
#[repr(C)]
struct Instruction {
    code: u16,
    if_so: u8,
    if_not: u8,
    value: u32,
}

#[repr(C)]
struct Filter {
    len: u16,
    instructions: *const Instruction,
}

unsafe extern "C" {
    fn prctl(option: i32, ...) -> i32;
}

const PR_SET_SECCOMP: i32 = 22;
const SECCOMP_MODE_FILTER: std::ffi::c_ulong = 2;
#[cfg(target_arch = "x86_64")]
const SYS_BPF: u32 = 321;
#[cfg(target_arch = "x86_64")]
const SYS_IOCTL: u32 = 16;
#[cfg(target_arch = "aarch64")]
const SYS_BPF: u32 = 280;
#[cfg(target_arch = "aarch64")]
const SYS_IOCTL: u32 = 29;

/// Has the kernel kill the process at the first attempt to attach: BPF_RAW_TRACEPOINT_OPEN, BPF_LINK_CREATE,
/// PERF_EVENT_IOC_SET_BPF.
fn dies_when_it_attaches(command: &mut Command) -> &mut Command {
    let forbid = || {
        const LOAD: u16 = 0x20;
        const EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        let one = |code, value, if_so, if_not| Instruction { code, if_so, if_not, value };
        let instructions = [
            one(LOAD, 0, 0, 0), // the system call
            one(EQUAL, SYS_BPF, 0, 4),
            one(LOAD, 16, 0, 0), // its first argument
            one(EQUAL, 17, 6, 0),
            one(EQUAL, 28, 5, 0),
            one(RETURN, 0x7fff_0000, 0, 0),
            one(EQUAL, SYS_IOCTL, 0, 2),
            one(LOAD, 24, 0, 0), // its second
            one(EQUAL, 0x4004_2408, 1, 0),
            one(RETURN, 0x7fff_0000, 0, 0),
            one(RETURN, 0x8000_0000, 0, 0),
        ];
        let filter = Filter { len: instructions.len() as u16, instructions: instructions.as_ptr() };
        // SAFETY: the filter and what it points at are valid for the call; the kernel copies them.
        match unsafe { prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &raw const filter) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: one system call, and nothing that another thread could hold
    unsafe { command.pre_exec(forbid) }
}

#[test]
fn nothing_is_attached_to_find_out() {
    if !root() {
        return;
    }
    let mut doctor = Command::new(BINARY);
    let told = run(dies_when_it_attaches(doctor.args(["doctor", "--json"]))).expect(0);
    let doctor: Json = serde_json::from_str(&told.stdout).expect("JSON");
    let probes = doctor["probes"].as_array().expect("a list");
    assert!(probes.len() > 10 && probes.iter().all(|probe| probe["loaded"] == true), "{probes:?}");
    assert!(probes.iter().all(|probe| probe["verdict"].is_string()), "{probes:?}");
    // And a run does not get far that way
    let mut capture = Command::new(BINARY);
    let ran = dies_when_it_attaches(capture.args(["opensnoop", "--duration", "50ms"])).output().expect("it starts");
    assert_eq!(ran.status.signal(), Some(31), "SIGSYS: {ran:?}");
}

/// What `doctor --try` found, and the programs with their verdicts.
fn tried(doctor: &Json) -> Vec<(&Json, &Json)> {
    let trials = doctor["tried"].as_array().expect("programs were tried");
    let probes = doctor["probes"].as_array().expect("a list");
    let verdict = |trial: &Json| probes.iter().find(|probe| probe["program"] == trial["program"]).expect("its probe");
    trials.iter().map(|trial| (trial, verdict(trial))).collect()
}

#[test]
fn every_program_that_can_be_tried_works() {
    if !root() {
        return;
    }
    // In a guest the binary is not on a disk; a copy is, where scripts/test-kernels has mounted one
    let folder = Path::new("/var/tmp");
    let on_disk = (in_guest() && Disk::under(folder).is_some()).then(|| Scratch::within(folder));
    let binary = on_disk.as_ref().map_or(BINARY.into(), |scratch| {
        copy_program(BINARY.as_ref(), &scratch.path("ebpf-run"));
        scratch.path("ebpf-run")
    });
    let told = run(Command::new(binary).args(["doctor", "--try", "--json"])).expect(0);
    let doctor: Json = serde_json::from_str(&told.stdout).expect("JSON");
    let tried = tried(&doctor);
    if on_disk.is_some() {
        let unknown: Vec<_> = tried.iter().filter(|(trial, _)| trial["mark"] == "unknown").collect();
        assert!(
            unknown.iter().all(|(trial, _)| !trial["found"].as_str().expect("words").contains("disk")),
            "{unknown:?}"
        );
    }
    let catalog = Catalog::embedded();
    assert_eq!(tried.len(), catalog.names().count());
    for (trial, probe) in tried {
        let (load, found) = (trial["load"].as_str(), trial["found"].as_str().expect("words"));
        let is_able = matches!(probe["verdict"].as_str(), Some("ok" | "fallback"));
        match (load, trial["mark"].as_str()) {
            (Some(_), Some("ok")) => {
                assert!(is_able, "{trial}\n{probe}");
                assert!(trial["arrived"].as_u64() >= trial["expected"].as_u64(), "{trial}");
            }
            // Some hosts hide a few of these
            (Some("direct_read" | "sleep"), Some("warning")) => {
                assert!(found.contains("hide some of these events"), "{trial}");
                let number = |key: &str| trial[key].as_u64().expect("a number");
                assert!(2 * number("arrived") >= number("expected"), "{trial}");
            }
            // Not every machine has a disk there, or the binary on one
            (Some("direct_read"), Some("unknown")) => assert!(found.contains("/var/tmp"), "{trial}"),
            (Some("cached_read"), Some("unknown")) => assert!(found.contains("not on a disk"), "{trial}"),
            (Some(_), Some("unknown")) => assert!(!is_able && found.starts_with("not tried: "), "{trial}\n{probe}"),
            (None, Some("unknown")) => {
                assert_eq!((&trial["program"], found), (&json!("oomkill"), "not tried: no harmless load"));
            }
            _ => panic!("{trial}\n{probe}"),
        }
    }
}

#[test]
fn a_program_whose_events_do_not_all_arrive_is_a_problem() {
    if !root() {
        return;
    }
    let catalog = Catalog::from_objects([object!("halved")]);
    let mut diagnosis = examine(&[], &catalog).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(diagnosis.exit_code(), 0);
    diagnosis.try_programs(&catalog, BINARY.as_ref()).unwrap_or_else(|error| panic!("{error}"));
    let trials = diagnosis.trials.as_deref().expect("it was tried");
    let [trial] = trials else { panic!("{trials:?}") };
    assert_eq!((trial.status, trial.expected, trial.arrived), (Status::Problem, Some(20), Some(10)), "{trial:?}");
    assert_eq!(trial.found, "10 of 20 signals arrived; the program counted 10, of which 0 were lost");
    assert_eq!(diagnosis.exit_code(), 1);
    let text = DiagnosisView { diagnosis: &diagnosis, hooks: false }.to_string();
    assert!(text.contains("\n  problem      halved                 10 of 20 signals arrived"), "{text}");
    assert!(text.contains("hint: do not rely on captures of this program") && text.contains("\n1 problem."), "{text}");
}

#[test]
fn without_a_process_for_the_load_nothing_is_tried() {
    if !root() {
        return;
    }
    let catalog = Catalog::from_objects([object!("halved")]);
    let mut diagnosis = examine(&[], &catalog).unwrap_or_else(|error| panic!("{error}"));
    diagnosis.try_programs(&catalog, "/nonexistent".as_ref()).unwrap_or_else(|error| panic!("{error}"));
    let trial = &diagnosis.trials.as_deref().expect("it was to be tried")[0];
    assert_eq!((trial.status, trial.arrived), (Status::NotKnown, None));
    assert!(trial.found.starts_with("not tried: no process can be started"), "{trial:?}");
    assert_eq!(diagnosis.exit_code(), 0);
}

#[test]
fn programs_of_a_config_are_tried_by_their_defaults() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let config = json!([
        {"program": "opensnoop", "filters": {"path_prefix": "/nonexistent/"}},
        {"program": "exitsnoop", "filters": {"pid": 1}},
        {"program": "opensnoop", "name": "again"},
    ]);
    let path = scratch.write("t.yaml", to_jsonl(config).to_string());
    let told = run(Command::new(BINARY).args(["doctor", "--try", "--json"]).arg(path)).expect(0);
    let doctor: Json = serde_json::from_str(&told.stdout).expect("JSON");
    let found: Vec<_> = tried(&doctor).iter().map(|(trial, _)| (&trial["program"], &trial["found"])).collect();
    assert_eq!(
        found,
        [
            (&json!("opensnoop"), &json!("20 of 20 opens arrived")),
            (&json!("exitsnoop"), &json!("16 of 16 exits arrived"))
        ]
    );
    assert_eq!(told.stderr, "");
}

#[test]
fn a_signal_ends_the_trials_with_all_of_their_processes() {
    if !root() {
        return;
    }
    let mut command = Command::new(BINARY);
    let doctor = command.args(["doctor", "--try"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let doctor = doctor.spawn().expect("it starts");
    let list = format!("/proc/{0}/task/{0}/children", doctor.id());
    let children = || fs::read_to_string(&list).unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(30);
    let mut seen = children();
    while seen.is_empty() && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
        seen = children();
    }
    let process = Pid::from_raw(doctor.id() as i32).expect("a process");
    kill_process(process, Signal::INT).expect("it is ours");
    let ended = doctor.wait_with_output().expect("it ends");
    let words = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{words}");
    assert!(words.contains("interrupted; not every program was tried"), "{words}");
    for child in seen.split_whitespace() {
        let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        assert!(!line.windows(11).any(|bytes| bytes == b"__make-load"), "{child} is still there");
    }
}
