//! The filters that every program with a task has: by value, by list, turned round, by name, by cgroup.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, report, to_jsonl, to_jsonl_of_busy};
use crate::common::{BINARY, NOBODY, Scratch, run};
use crate::load::{Held, compiled, copy_of, unique_name};
use crate::root;

/// A cgroup of a test's own, and one in it that is called like a unit.
pub struct Cgroups {
    pub outer: PathBuf,
    pub unit: PathBuf,
}

impl Cgroups {
    /// `None` where cgroups of version 2 can't be made.
    pub fn new() -> Option<Self> {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists())?;
        let outer = root.join(unique_name());
        let unit = outer.join(format!("{}.service", unique_name()));
        fs::create_dir_all(&unit).ok()?;
        Some(Cgroups { outer, unit })
    }

    pub fn join(cgroup: &Path, pid: u32) {
        fs::write(cgroup.join("cgroup.procs"), pid.to_string()).expect("a process can be moved");
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.unit);
        let _ = fs::remove_dir(&self.outer);
    }
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name of the test's own")
}

#[test]
fn every_filter_on_a_task_lets_through_what_it_names() {
    if !root() {
        return;
    }
    let Some(cgroups) = Cgroups::new() else {
        eprintln!("SKIPPED: cgroups of version 2 can't be made here");
        return;
    };
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let (shell, _) = copy_of(&scratch, "sh");
    let [outer, inner, outside] = [(); 3].map(|()| Held::new(&shell, &program, ["x"]));
    Cgroups::join(&cgroups.outer, outer.pid());
    Cgroups::join(&cgroups.unit, inner.pid());
    let (o, i, f, n) = ("outer", "inner", "outside", "nobody");
    let (pid, path, unit) = (inner.pid(), format!("/{}", name(&cgroups.outer)), name(&cgroups.unit).to_owned());
    let short = unit.strip_suffix(".service").expect("it ends so").to_owned();
    let start = format!("{}*", &comm[..comm.len() - 1]);
    let all = vec![o, i, f, n];
    let known = json!([outer.pid(), pid, outside.pid()]);
    let cases: Vec<(Json, Vec<&str>)> = vec![
        (json!({}), all.clone()),
        (json!({"comm": start}), all.clone()),
        (json!({"comm": ["no-such*", start]}), all.clone()),
        (json!({"comm": {"not": start}, "pid": known}), vec![]),
        (json!({"comm": {"not": ["dd", "no-such*"]}, "pid": known}), vec![o, i, f]),
        (json!({"process_comm": start}), all.clone()),
        (json!({"process_comm": "no-such*"}), vec![]),
        (json!({"process_comm": {"not": start}, "pid": known}), vec![]),
        (json!({"pid": pid}), vec![i]),
        (json!({"pid": {"not": pid}}), vec![o, f, n]),
        (json!({"tid": {"not": [pid, outside.pid()]}}), vec![o, n]),
        (json!({"tid": pid}), vec![i]),
        (json!({"uid": "root"}), vec![o, i, f]),
        (json!({"uid": ["nobody", 12345]}), vec![n]),
        (json!({"uid": {"not": "nobody"}}), vec![o, i, f]),
        (json!({"cgroup": path}), vec![o, i]),
        (json!({"cgroup": format!("{path}/{unit}")}), vec![i]),
        (json!({"cgroup": {"not": path}}), vec![f, n]),
        (json!({"cgroup": "/"}), all),
        (json!({"unit": unit}), vec![i]),
        (json!({"unit": {"not": short}}), vec![o, f, n]),
        (json!({"unit": short, "pid": outside.pid()}), vec![]),
    ];
    let probe = |(index, (filters, _)): (usize, &(Json, Vec<&str>))| {
        let mut filters = filters.clone();
        if filters.get("comm").is_none() {
            filters["comm"] = json!(comm); // or the whole machine would be in it
        }
        json!({"program": "execsnoop", "name": format!("p{index}"), "filters": filters, "buffer": {"size": "1MiB"}})
    };
    let probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
    let capture = Capture::start(&scratch, &to_jsonl(json!(probes)), &[]);
    let pids = [(outer.pid(), o), (inner.pid(), i), (outside.pid(), f)];
    for held in [outer, inner, outside] {
        assert_eq!(held.go(), Some(0));
    }
    let mut nobody = Command::new(&program).uid(NOBODY).gid(NOBODY).spawn().expect("it runs");
    nobody.wait().expect("it ends");
    let of_nobody = (nobody.id(), n);
    let who = |record: &Json| {
        let known = pids.iter().chain([&of_nobody]).find(|(pid, _)| record["pid"] == *pid);
        known.map(|(_, who)| *who)
    };
    let records = records(&capture.stop().expect(0).stdout);
    for (index, (filters, expected)) in cases.iter().enumerate() {
        let mine = of_probe(&records, &format!("p{index}"));
        let seen: BTreeSet<&str> = mine.iter().filter_map(|record| who(record)).collect();
        assert_eq!(seen, expected.iter().copied().collect(), "{filters}");
    }
}

/// A process that opens and reads `argv[1]` three times: with its first thread, with another one of another name while that
/// is there, and with the same when the first one has ended. That one fails to execute a program, and both ends of a
/// connection are its own. Then an io_uring worker does something, if there is io_uring.
const THREADS: &str = r#"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *path;
static int first_ended[2];

static void visit(void)
{
	struct timespec start, now;
	int fd = open(path, O_RDONLY);
	char c;

	read(fd, &c, 1);
	close(fd);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
	do
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < 50000000);
}

static void connect_to_itself(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), out = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(here);

	bind(listener, (struct sockaddr *)&here, len);
	listen(listener, 1);
	getsockname(listener, (struct sockaddr *)&here, &len);
	connect(out, (struct sockaddr *)&here, len);
	close(accept(listener, 0, 0));
	close(out);
}

/* One IORING_OP_NOP that has to be done by a worker; 0 if it was */
static int with_a_worker(void)
{
	struct io_uring_params p;
	struct io_uring_sqe *sqe;
	unsigned *tail, *array;
	char *ring;
	int fd;

	memset(&p, 0, sizeof(p));
	fd = syscall(SYS_io_uring_setup, 4, &p);
	if (fd < 0)
		return 1;
	ring = mmap(0, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
	sqe = mmap(0, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
	if (ring == MAP_FAILED || sqe == MAP_FAILED)
		return 1;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_NOP;
	sqe->flags = IOSQE_ASYNC;
	tail = (unsigned *)(ring + p.sq_off.tail);
	array = (unsigned *)(ring + p.sq_off.array);
	array[0] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	return syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) != 1;
}

static void *other(void *none)
{
	char state[512] = "";
	char name[64];
	int fd;

	prctl(PR_SET_NAME, "renamed-thread");
	visit();
	execl("/no/such/program", "x", (char *)0);
	connect_to_itself();
	write(first_ended[1], "x", 1);
	snprintf(name, sizeof(name), "/proc/self/task/%d/stat", getpid());
	do { /* until it is a zombie */
		fd = open(name, O_RDONLY);
		memset(state, 0, sizeof(state));
		read(fd, state, sizeof(state) - 1);
		close(fd);
	} while (!strstr(state, ") Z "));
	visit();
	puts(with_a_worker() ? "no io_uring" : "io_uring");
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char c;

	path = argv[1];
	pipe(first_ended);
	visit();
	pthread_create(&thread, 0, other, 0);
	read(first_ended[0], &c, 1);
	syscall(SYS_exit, 0);
}
"#;

#[test]
fn threads_with_names_of_their_own_are_found_by_the_name_of_their_process() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = compiled(&scratch, THREADS);
    let path = scratch.write("visited", "x").to_str().expect("UTF-8").to_owned();
    let start = format!("{}*", &comm[..comm.len() - 1]);
    let opens: Vec<(Json, usize)> = vec![
        (json!({"process_comm": comm}), 3),
        (json!({"process_comm": ["no-such", start]}), 3),
        (json!({"comm": comm}), 1),
        (json!({"comm": "renamed-thread"}), 2),
        (json!({"comm": "renamed-thread", "process_comm": comm}), 2),
        (json!({"comm": [comm, "renamed-thread"], "process_comm": {"not": comm}}), 0),
        (json!({"process_comm": "renamed-thread"}), 0),
    ];
    let probe = |(index, (filters, _)): (usize, &(Json, usize))| {
        let mut filters = filters.clone();
        filters["path_prefix"] = json!(path);
        json!({"program": "opensnoop", "name": format!("p{index}"), "filters": filters})
    };
    let mut probes: Vec<Json> = opens.iter().enumerate().map(probe).collect();
    let filters = json!({"process_comm": comm});
    probes.push(json!({"program": "exitsnoop", "name": "threads", "filters": {"process_comm": comm, "threads": true}}));
    probes.push(json!({"program": "exitsnoop", "name": "process", "filters": filters}));
    probes.push(json!({"program": "runqslower", "name": "waits", "filters": filters}));
    for program in ["execsnoop", "tcpconnect", "tcplife", "offcputime"] {
        probes.push(json!({"program": program, "name": program, "filters": filters}));
    }
    let mut row = |program: &str, key: &str, value: Json, event: bool| {
        let mut filters = filters.clone();
        filters[key] = value;
        if event {
            filters["event"] = json!("cpu_clock");
        }
        probes.push(json!({"program": program, "name": program, "filters": filters}));
    };
    row("syscount", "by", json!("process"), false);
    row("cachestat", "by_process", json!(true), false);
    row("runqlat", "by", json!("process"), false);
    row("llcstat", "period", json!(1_000_000), true);
    row("profile", "frequency", json!("999Hz"), true);
    let capture = Capture::start(&scratch, &to_jsonl_of_busy(json!(probes)), &[]);
    let mut child = Command::new(&program).arg(&path).stdout(Stdio::piped()).spawn().expect("it runs");
    let (pid, mut said) = (child.id(), String::new());
    child.stdout.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    child.wait().expect("it ends");
    let records = records(&capture.stop().expect(0).stdout);
    for (index, (filters, expected)) in opens.iter().enumerate() {
        let mine = of_probe(&records, &format!("p{index}"));
        assert_eq!(mine.iter().filter(|record| record["pid"] == pid).count(), *expected, "{filters}");
    }
    let names = |probe: &str| -> Vec<(&str, &str)> {
        let mine = of_probe(&records, probe).into_iter().filter(|record| record["pid"] == pid);
        mine.map(|record| ["comm", "process_comm"].map(|name| record[name].as_str().expect("text")))
            .map(|[comm, process]| (comm, process))
            .collect()
    };
    assert_eq!(names("process"), [(comm.as_str(), comm.as_str())]);
    let threads = names("threads");
    assert!(threads.iter().all(|(_, process)| *process == comm), "{threads:?}");
    for name in [comm.as_str(), "renamed-thread"] {
        assert!(threads.iter().any(|(thread, _)| *thread == name), "{name} in {threads:?}");
    }
    for probe in ["waits", "p0", "execsnoop", "tcpconnect", "tcplife", "offcputime", "profile"] {
        let seen = names(probe);
        assert!(seen.contains(&("renamed-thread", &comm)), "{probe}: {seen:?}");
        assert!(seen.iter().all(|(_, process)| *process == comm), "{probe}: {seen:?}");
    }
    // A row of a process is not one of its threads
    for probe in ["syscount", "cachestat", "llcstat", "runqlat"] {
        let rows = of_probe(&records, probe).into_iter().filter(|row| row["pid"] == pid);
        let rows: BTreeSet<&str> = rows.map(|row| row["comm"].as_str().expect("text")).collect();
        assert_eq!(rows, BTreeSet::from([comm.as_str()]), "{probe}");
    }
    // Before 5.12 such a worker is a kernel thread, a process of its own
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    if said == "io_uring\n" && numbers.take(2).collect::<Vec<_>>() >= vec![5, 12] {
        assert!(threads.iter().any(|(thread, _)| thread.starts_with("iou-wrk-")), "{threads:?}");
    }
}

/// A service that is restarted has a cgroup of the same name that is another one.
#[test]
fn a_cgroup_that_is_made_again_is_followed() {
    if !root() {
        return;
    }
    let Some(cgroups) = Cgroups::new() else {
        eprintln!("SKIPPED: cgroups of version 2 can't be made here");
        return;
    };
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let (shell, _) = copy_of(&scratch, "sh");
    let (outer, unit) = (name(&cgroups.outer).to_owned(), name(&cgroups.unit).to_owned());
    let probes = json!([
        {"program": "execsnoop", "name": "unit", "filters": {"unit": unit, "comm": comm}},
        {"program": "execsnoop", "name": "path", "filters": {"cgroup": format!("/{outer}/{unit}"), "comm": comm}},
        {"program": "execsnoop", "name": "not", "filters": {"unit": {"not": unit}, "comm": comm}},
        {"program": "exitsnoop", "name": "ends", "filters": {"cgroup": ["/no-such", format!("/{outer}")], "comm": comm}},
    ]);
    // A cgroup that is not there at the start is an error: this one is, until the capture has begun
    let other = cgroups.outer.parent().expect("it is below the root").join("no-such");
    let other = Directory::new(&other);
    let report_path = scratch.path("report.json");
    let args = ["--report", report_path.to_str().expect("UTF-8")];
    let mut capture = Capture::start(&scratch, &to_jsonl(probes), &args);
    drop(other);
    let run_in = |cgroup: &Path| {
        let held = Held::new(&shell, &program, ["x"]);
        Cgroups::join(cgroup, held.pid());
        let pid = held.pid();
        assert_eq!(held.go(), Some(0));
        pid
    };
    let again = format!("ebpf-run: unit {unit} was created again");
    let mut pids = vec![run_in(&cgroups.unit)];
    // The unit alone, as systemd does it, and with the one above it
    fs::remove_dir(&cgroups.unit).expect("it is empty");
    fs::create_dir(&cgroups.unit).expect("it can be made again");
    capture.wait_for(&again);
    pids.push(run_in(&cgroups.unit));
    fs::remove_dir(&cgroups.unit).expect("it is empty");
    fs::remove_dir(&cgroups.outer).expect("it is empty");
    fs::create_dir_all(&cgroups.unit).expect("they can be made again");
    capture.wait_for(&again);
    pids.push(run_in(&cgroups.unit));
    fs::remove_dir(&cgroups.unit).expect("it is empty");
    capture.wait_for(&format!("ebpf-run: warning: unit {unit} no longer exists"));
    let outside = run_in(&cgroups.outer);
    let ended = capture.stop().expect(0).says(&[&format!("unit {unit} (filter of unit, not): recreated 2 times")]);
    let records = records(&ended.stdout);
    let of = |probe: &str| -> Vec<u64> {
        of_probe(&records, probe).iter().map(|record| record["pid"].as_u64().expect("a number")).collect()
    };
    let pids: Vec<u64> = pids.into_iter().map(u64::from).collect();
    assert_eq!((of("unit"), of("path")), (pids.clone(), pids.clone()));
    assert_eq!(of("not"), [u64::from(outside)]);
    assert_eq!(of("ends"), [&pids[..], &[u64::from(outside)]].concat());
    let report = report(&scratch);
    let told = report["cgroups"].as_array().expect("a list").iter().find(|told| told["filter"] == "unit");
    let told = told.expect("the unit is one of them");
    assert_eq!((&told["value"], &told["probes"]), (&json!(unit), &json!(["unit", "not"])));
    assert_eq!((&told["restarts"], &told["present"]), (&json!(2), &json!(false)));
    assert!(told["absent_ns"].as_u64().expect("a number") >= 5_000_000_000, "{told}");
}

/// A directory that is there for a while.
struct Directory(PathBuf);

impl Directory {
    fn new(path: &Path) -> Self {
        fs::create_dir_all(path).expect("it can be made");
        Directory(path.to_owned())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A filter on what is not there would be mistaken for silence.
#[test]
fn names_that_this_machine_does_not_have_are_errors() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    for (filters, says) in [
        (json!({"uid": "no-such-user"}), "filter `uid`: there is no user `no-such-user`"),
        (json!({"cgroup": "/no/such/group"}), "filter `cgroup`: there is no cgroup `/no/such/group`"),
        (json!({"unit": "no-such-unit"}), "filter `unit`: the unit `no-such-unit.service` has no cgroup"),
    ] {
        let config = to_jsonl(json!([{"program": "execsnoop", "filters": filters}]));
        let config = scratch.write("config.yaml", config.to_string());
        run(Command::new(BINARY).arg(config)).expect(1).says(&[says, "hint: "]);
    }
}
