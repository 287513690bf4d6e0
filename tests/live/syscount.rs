//! `syscount` against calls that the test makes and counts.

use std::fs::{File, read_to_string};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl_of_busy};
use crate::common::Scratch;
use crate::disk::retry;
use crate::load::{Calls, Held, as_command, copy_of, unique_name};
use crate::root;
use crate::sched::pin;

const CALLS: u64 = 1000;

fn number(row: &Json, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("{column} of {row}"))
}

#[test]
fn calls_are_counted_by_name_and_by_process() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (comm, pid) = (unique_name(), std::process::id());
    let process = read_to_string("/proc/self/comm").expect("its own");
    let process = process.trim_end();
    let own = |filters: Json| {
        let mut filters = filters;
        filters["comm"] = json!(comm);
        filters
    };
    // Filters, and what they leave: the row's call and process, its calls and failures, and whether times are taken
    let cases = [
        (own(json!({"syscall": "openat"})), Some(("openat", 0, "", CALLS, true))),
        (own(json!({"syscall": ["read", "openat"], "latency": false})), Some(("openat", 0, "", CALLS, false))),
        (own(json!({"syscall": "openat", "failed": true})), Some(("openat", 0, "", CALLS, true))),
        (own(json!({"syscall": "openat", "by": "process"})), Some(("all", pid, process, CALLS, true))),
        (own(json!({"syscall": "openat", "by": "both"})), Some(("openat", pid, process, CALLS, true))),
        (own(json!({"syscall": "openat", "pid": pid})), Some(("openat", 0, "", CALLS, true))),
        (own(json!({"syscall": "openat", "failed": false})), None),
        (own(json!({"syscall": "openat", "pid": {"not": pid}})), None),
        (own(json!({"syscall": "openat2"})), None),
        (json!({"comm": unique_name()}), None),
    ];
    retry(|| {
        let probe = |(i, (filters, _)): (usize, &(Json, _))| json!({"program": "syscount", "name": format!("p{i}"), "filters": filters});
        let mut probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
        probes.push(json!({"program": "syscount", "name": "any"}));
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(json!(probes)), &[]);
        let start = Instant::now();
        as_command(&comm, || (0..CALLS).for_each(|_| _ = File::open("/no/such/file").expect_err("it is not there")));
        let took = start.elapsed();
        let records = records(&capture.stop().expect(0).stdout);
        for (i, (filters, wanted)) in cases.iter().enumerate() {
            let rows = of_probe(&records, &format!("p{i}"));
            let Some((syscall, pid, comm, calls, timed)) = *wanted else {
                assert_eq!(rows.len(), 0, "{filters}: {rows:?}");
                continue;
            };
            let [row] = rows.as_slice() else { return Err(format!("{filters}: {rows:?}")) };
            assert_eq!((row["syscall"].as_str(), row["comm"].as_str()), (Some(syscall), Some(comm)), "{filters}");
            assert_eq!(number(row, "pid"), u64::from(pid), "{filters}");
            let found = (number(row, "calls"), number(row, "failed"));
            assert!(found.0 <= calls && found.1 <= found.0, "{found:?} of {calls} with {filters}");
            if found != (calls, calls) {
                return Err(format!("{found:?} of {calls} with {filters}"));
            }
            let total = number(row, "total_ns");
            assert!(
                if timed { total > 0 && u128::from(total) < took.as_nanos() } else { total == 0 },
                "{took:?}: {row}"
            );
        }
        let all = of_probe(&records, "any").into_iter().find(|row| row["syscall"] == "openat").expect("a row");
        let enough = number(all, "calls") >= CALLS && number(all, "failed") >= CALLS;
        if enough { Ok(()) } else { Err(format!("{all}")) }
    });
}

/// The trap of maps with a value for each CPU: a reader needs room for every possible one. Each gets calls of its own number.
#[test]
fn each_cpu_has_its_own_counters() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let comm = unique_name();
    let filters = json!({"comm": comm, "syscall": "getppid"});
    let capture = Capture::start(
        &scratch,
        &to_jsonl_of_busy(json!([
            {"program": "syscount", "name": "each", "per_cpu": true, "filters": filters},
            {"program": "syscount", "name": "together", "filters": filters},
        ])),
        &[],
    );
    let set = rustix::thread::sched_getaffinity(None).expect("CPUs");
    let cpus: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
    let calls = |cpu: usize| CALLS + 10 * cpu as u64;
    let load = {
        let cpus = cpus.clone();
        move || {
            for cpu in cpus {
                pin(None, cpu);
                (0..calls(cpu)).for_each(|_| _ = rustix::process::getppid());
            }
        }
    };
    as_command(&comm, load);
    let records = records(&capture.stop().expect(0).stdout);
    let each = of_probe(&records, "each");
    let mut found: Vec<(usize, u64)> =
        each.iter().map(|row| (number(row, "cpu") as usize, number(row, "calls"))).collect();
    found.sort_unstable();
    assert_eq!(found, cpus.iter().map(|&cpu| (cpu, calls(cpu))).collect::<Vec<_>>());
    let together = of_probe(&records, "together");
    assert_eq!(together.len(), 1, "{together:?}");
    assert_eq!(number(together[0], "calls"), cpus.iter().map(|&cpu| calls(cpu)).sum::<u64>());
}

/// A child returns from a call that its parent made, and after a signal a call returns that has lost its number.
#[test]
fn forks_count_once_and_signals_do_not_confuse() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (shell, comm) = copy_of(&scratch, "sh");
    let script = "trap : USR1; i=0; while [ $i -lt 7 ]; do (:); kill -USR1 $$; i=$((i + 1)); done";
    let load = Held::new(Path::new("/bin/sh"), &shell, ["-c", script]);
    let pid = load.pid();
    let forks = ["clone", "clone3", "fork", "vfork"];
    let probes = json!([
        {"program": "syscount", "name": "timed", "filters": {"comm": comm, "syscall": forks}},
        {"program": "syscount", "name": "untimed", "filters": {"comm": comm, "syscall": forks, "latency": false}},
        {"program": "syscount", "name": "signals", "filters": {"pid": pid, "comm": comm, "syscall": ["rt_sigreturn", "kill"]}},
        {"program": "syscount", "name": "untimed-signals", "filters": {"pid": pid, "comm": comm, "syscall": ["rt_sigreturn", "kill"], "latency": false}},
    ]);
    let capture = Capture::start(&scratch, &to_jsonl_of_busy(probes), &[]);
    let start = Instant::now();
    assert_eq!(load.go(), Some(0));
    let took = start.elapsed().as_nanos() as u64;
    let records = records(&capture.stop().expect(0).stdout);
    let calls = |probe: &str, names: &[&str]| -> u64 {
        let rows = of_probe(&records, probe).into_iter();
        rows.filter(|row| names.iter().any(|name| row["syscall"] == *name))
            .inspect(|row| assert!(number(row, "total_ns") < took, "{row}"))
            .map(|row| number(row, "calls"))
            .sum()
    };
    assert_eq!((calls("timed", &forks), calls("untimed", &forks)), (7, 7), "{records:#?}");
    for probe in ["signals", "untimed-signals"] {
        assert_eq!(calls(probe, &["kill"]), 7, "{records:#?}");
        // A shell may take SIGCHLD too
        let returns = calls(probe, &["rt_sigreturn"]);
        assert!((7..=14).contains(&returns), "{returns}: {records:#?}");
    }
}

/// What three probes count while the load runs: with times, without, and by process.
struct Counted(Vec<Json>);

impl Counted {
    /// With these additional filters; `None` if this machine can't make the calls, else with the numbers that the load saw.
    fn while_going(scratch: &Scratch, load: Calls, filters: &Json) -> Option<(Self, Vec<u64>)> {
        let probe = |name: &str, more: Json| {
            let mut all = json!({"comm": load.comm});
            for part in [filters, &more] {
                part.as_object().expect("filters").iter().for_each(|(key, value)| all[key] = value.clone());
            }
            json!({"program": "syscount", "name": name, "filters": all})
        };
        let probes = json!([
            probe("timed", json!({})),
            probe("untimed", json!({"latency": false})),
            probe("process", json!({"by": "process"})),
        ]);
        let capture = Capture::start(scratch, &to_jsonl_of_busy(probes), &[]);
        let saw = load.go();
        let ended = capture.stop().expect(0);
        Some((Counted(records(&ended.stdout)), saw?))
    }

    /// Calls and failures.
    fn of(&self, probe: &str, syscall: &str) -> (u64, u64) {
        (self.sum(probe, syscall, "calls"), self.sum(probe, syscall, "failed"))
    }

    fn sum(&self, probe: &str, syscall: &str, column: &str) -> u64 {
        let rows = of_probe(&self.0, probe).into_iter();
        rows.filter(|row| row["syscall"] == syscall).map(|row| number(row, column)).sum()
    }
}

/// Containers deny calls before they begin: there is a return and no beginning.
#[test]
fn calls_that_seccomp_denies_are_failures() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let load = Calls::new(&scratch, "denied", "");
    let filters = json!({"syscall": ["mkdir", "rmdir", "chdir", "getcwd"]});
    let Some((counted, saw)) = Counted::while_going(&scratch, load, &filters) else { return };
    let [errors, untraced, traps, killed] = saw[..] else { panic!("{saw:?}") };
    let mut all = 0;
    for probe in ["timed", "untimed"] {
        assert_eq!(counted.of(probe, "mkdir"), (errors, errors), "{probe}: EPERM");
        assert_eq!(counted.of(probe, "rmdir"), (untraced, untraced), "{probe}: no tracer");
        assert_eq!(counted.of(probe, "chdir"), (traps, traps), "{probe}: a signal");
        // On older kernels (5.10) a call for which seccomp ends the process does not return
        let ends = counted.of(probe, "getcwd");
        assert!(ends == (killed, killed) || ends == (0, 0), "{probe}: {ends:?}");
        all = errors + untraced + traps + ends.0;
    }
    assert_eq!(counted.of("process", "all"), (all, all));
    assert_eq!(counted.sum("process", "all", "untimed"), all, "there is no time without a beginning");
    assert_eq!(counted.sum("untimed", "mkdir", "untimed"), 0, "no times are wanted");
}

/// The codes that the kernel restarts calls for are answers like others where it does not look at them.
#[test]
fn calls_that_seccomp_answers_with_codes_of_restarts_are_failures() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let load = Calls::new(&scratch, "denied-like-restarts", "");
    let Some((counted, saw)) = Counted::while_going(&scratch, load, &json!({"syscall": "mkdir"})) else { return };
    assert_eq!(saw, [40], "the load");
    // Without times a beginning is not seen (docs/explanation/accuracy.md)
    assert_eq!(counted.of("timed", "mkdir"), (40, 40), "{:#?}", counted.0);
    assert_eq!(counted.sum("timed", "mkdir", "untimed"), 40);
}

/// A number means a call only together with the table that it is from, and by its lower 32 bits.
#[test]
#[cfg(target_arch = "x86_64")]
fn numbers_of_other_tables_have_no_wrong_names() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.write("file", "x");
    let file = file.to_str().expect("UTF-8");
    let load = Calls::new(&scratch, "compat", file);
    if let Some((counted, saw)) = Counted::while_going(&scratch, load, &json!({})) {
        let n = saw[0];
        for probe in ["timed", "untimed"] {
            assert_eq!(counted.of(probe, "compat").0, 1 + 6 * n, "{probe}: {:#?}", counted.0);
            for wrong in ["writev", "openat", "execve", "creat", "fstat", "munmap"] {
                assert!(counted.of(probe, wrong).0 < n, "{probe}: {wrong}, {:#?}", counted.0);
            }
        }
    }
    let load = Calls::new(&scratch, "numbers", file);
    if let Some((counted, saw)) = Counted::while_going(&scratch, load, &json!({})) {
        let [opened, none, x32] = saw[..] else { panic!("{saw:?}") };
        for probe in ["timed", "untimed"] {
            assert_eq!(counted.of(probe, "openat"), (opened, 0), "{probe}: {:#?}", counted.0);
            // Kernels before 5.13 look at all 64 bits
            let unknown = none + 100 - opened;
            assert_eq!(counted.of(probe, "unknown"), (unknown, unknown), "{probe}: {:#?}", counted.0);
            assert_eq!(counted.of(probe, "x32"), (100, 100 - x32), "{probe}: {:#?}", counted.0);
            assert_eq!(counted.of(probe, "rt_sigreturn"), (0, 0), "{probe}: a number that is none");
        }
    }
}

/// A tracer skips calls by taking their number away, and makes others of them.
#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_a_traced_process_are_what_the_kernel_did() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let load = Calls::new(&scratch, "traced", "");
    let filters = json!({"syscall": ["mkdir", "rmdir", "getppid", "unknown", "rt_sigreturn"]});
    let Some((counted, saw)) = Counted::while_going(&scratch, load, &filters) else { return };
    assert_eq!(saw, [0], "the traced process saw what its tracer made");
    for probe in ["timed", "untimed"] {
        // ENOSYS, until the tracer puts its own result there
        assert_eq!(counted.of(probe, "unknown"), (100, 100), "{probe}: {:#?}", counted.0);
        assert_eq!(counted.of(probe, "getppid"), (200, 0), "{probe}: half of them asked for rmdir");
        for none in ["mkdir", "rmdir", "rt_sigreturn"] {
            assert_eq!(counted.of(probe, none), (0, 0), "{probe}: {none}");
        }
    }
}

/// A call that the kernel restarts after a signal is one call, and fails only where the program sees it fail.
#[test]
fn a_call_that_signals_interrupt_counts_as_its_program_sees_it() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let load = Calls::new(&scratch, "restarted", "");
    let filters = json!({
        "pid": load.pid(),
        "syscall": ["read", "poll", "ppoll", "clock_nanosleep", "restart_syscall", "getppid", "rt_sigreturn"],
    });
    let Some((counted, saw)) = Counted::while_going(&scratch, load, &filters) else { return };
    let [1, 1, 1, 1, alarms @ 7] = saw[..] else { panic!("the load: {saw:?}") };
    for probe in ["timed", "untimed"] {
        // The first waited for the test before the capture began
        assert_eq!(counted.of(probe, "read"), (3, 1), "{probe}: {:#?}", counted.0);
        let polls = (counted.of(probe, "poll"), counted.of(probe, "ppoll"));
        assert!([((1, 1), (0, 0)), ((0, 0), (1, 1))].contains(&polls), "{probe}: {polls:?}");
        assert_eq!(counted.of(probe, "clock_nanosleep"), (1, 0), "{probe}: stopped twice");
        assert_eq!(counted.of(probe, "restart_syscall"), (0, 0), "{probe}");
        assert_eq!(counted.of(probe, "getppid"), (alarms, 0), "{probe}: of the handler");
        assert_eq!(counted.of(probe, "rt_sigreturn"), (alarms, 0), "{probe}: what it returns to may have failed");
    }
    assert_eq!(counted.sum("timed", "read", "untimed"), 1);
    let took = counted.sum("timed", "read", "total_ns");
    assert!(took >= 500_000_000, "{took} ns: the last part of a call is a sixth of it");
}

/// An exec changes the number of its call, and that of the thread that makes it.
#[test]
fn executions_go_by_the_call_that_began_them() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let load = Calls::new(&scratch, "execs", "");
    // Room for a few threads: none may leave anything behind
    let filters = json!({"comm": load.comm, "syscall": ["execve", "execveat"]});
    let config = to_jsonl_of_busy(json!([
        {"program": "syscount", "name": "timed", "filters": filters, "maps": {"entered": 16}},
    ]));
    let capture = Capture::start(&scratch, &config, &[]);
    let saw = load.go().expect("every machine can");
    let counted = Counted(records(&capture.stop().expect(0).stdout));
    let [worked, failed] = saw[..] else { panic!("{saw:?}") };
    assert_eq!(counted.of("timed", "execve"), (worked / 2, 0), "{:#?}", counted.0);
    assert_eq!(counted.of("timed", "execveat"), (worked / 2 + failed, failed), "{:#?}", counted.0);
    assert_eq!(counted.sum("timed", "execve", "untimed") + counted.sum("timed", "execveat", "untimed"), 0);
}
