//! CPUs that go offline and come online while a capture runs, and machines with many possible ones. A CPU is taken
//! offline only where that is asked for: in a virtual machine (`scripts/test-kernels` does), or with
//! EBPF_RUN_TEST_SET_CPUS=1.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, report, to_jsonl, to_jsonl_of_busy};
use crate::common::{BINARY, Ended, Scratch, run};
use crate::load::{copy_as, named, unique_name};
use crate::root;
use crate::sched::{Worker, alone, burn_in_the_test, one_cpu, pin, work};

const CALLS: u64 = 200;
const MISSING: &str = "/no/such/file";

/// A CPU that can go offline. It is online again after the test.
struct Cpu {
    number: usize,
    file: PathBuf,
}

impl Cpu {
    fn new() -> Option<Self> {
        if std::env::var_os("EBPF_RUN_TEST_SET_CPUS").is_none_or(|value| value != "1") {
            eprintln!("SKIPPED: it takes a CPU offline; EBPF_RUN_TEST_SET_CPUS=1 lets it");
            return None;
        }
        let number = one_cpu();
        let file = PathBuf::from(format!("/sys/devices/system/cpu/cpu{number}/online"));
        if number == 0 || !file.exists() {
            eprintln!("SKIPPED: CPU {number} can't go offline");
            return None;
        }
        Some(Cpu { number, file })
    }

    fn set(&self, online: bool) {
        // A CPU that is in this state already can't be set to it
        let _ = fs::write(&self.file, if online { "1" } else { "0" });
        let now = fs::read_to_string(&self.file).expect("it is there");
        assert_eq!(now.trim() == "1", online);
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        let _ = fs::write(&self.file, "1");
    }
}

/// Opens a missing file [`CALLS`] times on `cpu`, as `comm`.
fn opens(comm: &str, cpu: usize) {
    let calls = move || {
        pin(None, cpu);
        for _ in 0..CALLS {
            open(MISSING, OFlags::RDONLY, Mode::empty()).expect_err("it is not there");
        }
    };
    named(comm, calls).join().expect("it does not panic");
}

fn start(scratch: &Scratch, config: &Json) -> Capture {
    let path = scratch.path("report.json");
    Capture::start(scratch, config, &["--report", path.to_str().expect("UTF-8")])
}

fn number(row: &Json, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("{column} of {row}"))
}

/// Whether a row of `syscount` is about the calls of [`opens`]: which of the two they are is up to the library.
fn is_open(row: &Json) -> bool {
    ["open", "openat"].map(Json::from).contains(&row["syscall"])
}

#[test]
fn perf_events_say_which_cpus_they_missed() {
    if !root() {
        return;
    }
    let Some(cpu) = Cpu::new() else { return };
    let _alone = alone();
    for was_there in [true, false] {
        let (scratch, name) = (Scratch::new(), unique_name());
        cpu.set(was_there);
        let config = to_jsonl(json!([
            {"program": "profile", "filters": {"event": "cpu_clock", "comm": name, "user_stacks": false}},
            {"program": "llcstat", "filters": {"event": "cpu_clock", "period": 5_000_000, "comm": name}},
        ]));
        let capture = start(&scratch, &config);
        let burn = |cpu| work([Worker::new(&name, cpu, || burn_in_the_test(Duration::from_millis(500)))]);
        if was_there {
            burn(Some(cpu.number));
            cpu.set(false);
        }
        cpu.set(true);
        burn(Some(cpu.number));
        burn(Some(0));
        let words = format!("(CPU {} went offline or came online and is not sampled since)", cpu.number);
        let ended = capture.stop().expect(0).says(&[&words]);
        let rows = records(&ended.stdout);
        for (index, probe) in ["profile", "llcstat"].into_iter().enumerate() {
            assert_eq!(report(&scratch)["probes"][index]["cpus_not_sampled"], json!([cpu.number]), "{probe}");
            assert!(!of_probe(&rows, probe).is_empty(), "the other CPU is sampled by {probe}");
        }
    }
}

/// Ring buffers and counts are of all possible CPUs. A perf buffer is of those that were online at the start, and what it
/// lacks is counted.
#[test]
fn buffers_and_counts_of_a_cpu_that_comes_and_goes() {
    if !root() {
        return;
    }
    let Some(cpu) = Cpu::new() else { return };
    let _alone = alone();
    for was_there in [true, false] {
        let (scratch, name) = (Scratch::new(), unique_name());
        let filters = json!({"comm": name});
        cpu.set(was_there);
        let capture = start(
            &scratch,
            &to_jsonl_of_busy(json!([
                {"program": "opensnoop", "name": "ring", "filters": filters},
                {"program": "opensnoop", "name": "perf", "filters": filters, "buffer": {"type": "perfbuf"}},
                {"program": "syscount", "name": "counts", "per_cpu": true, "filters": filters},
            ])),
        );
        if was_there {
            opens(&name, cpu.number);
            cpu.set(false);
        }
        cpu.set(true);
        opens(&name, cpu.number);
        opens(&name, 0);
        let expected = if was_there { 3 * CALLS } else { 2 * CALLS };
        let ended = capture.stop().expect(0);
        let rows = records(&ended.stdout);
        let report = report(&scratch);
        let [ring, perf] = [0, 1].map(|probe| &report["probes"][probe]);
        let counts = |probe: &Json| ["seen", "written", "lost"].map(|key| number(probe, key));
        assert_eq!(counts(ring), [expected, expected, 0], "{}", ended.stderr);
        let [seen, written, lost] = counts(perf);
        assert_eq!((seen, written + lost), (expected, expected), "{}", ended.stderr);
        assert_eq!((number(perf, "lost_other"), lost), (CALLS, CALLS), "those after it came back: {}", ended.stderr);
        assert!(ended.stderr.contains("no perf buffer on the CPU"), "{}", ended.stderr);
        assert_eq!(report["reconciles"], true);
        let of_cpu = |cpu: usize| -> u64 {
            let rows = of_probe(&rows, "counts").into_iter();
            rows.filter(|row| is_open(row) && row["cpu"] == cpu).map(|row| number(row, "calls")).sum()
        };
        assert_eq!([of_cpu(0), of_cpu(cpu.number)], [CALLS, expected - CALLS]);
    }
}

/// Bytes of a line of /proc/meminfo or /proc/PID/status.
fn kib(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).expect("it is there");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

/// Maps and counters have a value for each possible CPU; buffers are of those that are online.
#[test]
fn many_possible_cpus_are_no_matter() {
    const MANY: usize = 100;
    if !root() {
        return;
    }
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").expect("there is sysfs");
    let possible = possible.trim().rsplit(['-', ',']).next().and_then(|last| last.parse().ok()).unwrap_or(0) + 1;
    if possible < MANY {
        eprintln!("SKIPPED: {possible} CPUs are possible here; `scripts/vm --possible-cpus 255` has more");
        return;
    }
    let (scratch, name, busy, exec) = (Scratch::new(), unique_name(), unique_name(), unique_name());
    let filters = json!({"comm": name});
    let config = to_jsonl(json!([
        {"program": "opensnoop", "name": "ring", "filters": filters},
        {"program": "opensnoop", "name": "perf", "filters": filters, "buffer": {"type": "perfbuf"}},
        {"program": "execsnoop", "name": "exec", "filters": {"comm": exec}},
        {"program": "profile", "name": "profile", "filters": {"comm": busy, "event": "cpu_clock"}},
        {"program": "syscount", "name": "each", "per_cpu": true, "filters": filters},
        {"program": "syscount", "name": "all", "filters": filters},
        {"program": "biolatency", "name": "block", "filters": filters},
    ]));
    let path = scratch.write("plan.yaml", format!("{config:#}"));
    let plan = run(Command::new(BINARY).arg("plan").arg(path).arg("--json")).expect(0).stdout;
    let plan: Json = serde_json::from_str(&plan).expect("JSON");
    let (buffers, maps) = (number(&plan, "buffer_bytes"), number(&plan, "map_bytes"));
    let of_kernel = || kib("/proc/meminfo", "Percpu");
    let before = of_kernel();
    let capture = start(&scratch, &config);
    for cpu in [0, one_cpu()] {
        opens(&name, cpu);
        work([Worker::new(&busy, Some(cpu), || burn_in_the_test(Duration::from_millis(500)))]);
    }
    let program = copy_as(&scratch, "true", &exec);
    for _ in 0..5 {
        run(&mut Command::new(&program)).expect(0);
    }
    let own = kib(&format!("/proc/{}/status", capture.pid()), "VmHWM");
    let more = of_kernel().saturating_sub(before);
    eprintln!("{possible} CPUs: maps {maps}, of which {more} are there; buffers {buffers}; the runner {own} bytes");
    // Maps whose values are for each CPU are filled as they are used, besides what the kernel takes for itself
    assert!(more <= maps + (32 << 20), "{more} bytes for each CPU, the plan says {maps}");
    assert!(own < (64 << 20) + 2 * buffers, "{own} bytes with buffers of {buffers}");
    let ended: Ended = capture.stop().expect(0);
    let rows = records(&ended.stdout);
    assert_eq!(["ring", "perf", "exec"].map(|probe| of_probe(&rows, probe).len() as u64), [2 * CALLS, 2 * CALLS, 5]);
    let calls = |probe: &str| -> u64 {
        let rows = of_probe(&rows, probe).into_iter().filter(|row| is_open(row));
        rows.map(|row| number(row, "calls")).sum()
    };
    assert_eq!([calls("each"), calls("all")], [2 * CALLS, 2 * CALLS]);
    let samples: u64 = of_probe(&rows, "profile").into_iter().map(|row| number(row, "samples")).sum();
    assert!(samples > 20, "{samples} samples in a second of CPU time");
}
