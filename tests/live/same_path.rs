//! Several runs of one path, in every order: strace(1) holds one of them at a system call while another one goes on. And a user
//! who changes the way to a file just then.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, records};
use crate::common::{BINARY, Ended, NOBODY, Scratch, run};
use crate::load::{failing_calls, unique_name};
use crate::root;

/// A config that writes `label` to `path`, and records of nothing.
fn config(label: &str, path: &Path) -> Json {
    json!({
        "version": 1,
        "name": "same",
        "max_loss": "100%",
        "labels": {"run": label},
        "probes": [{"program": "execsnoop", "filters": {"comm": unique_name()}}],
        "sinks": {"file": {"type": "stdout", "path": path, "template": "{{ pid }}", "header": "{{ labels.run }}"}},
    })
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Runs `config` to its end, for a moment.
fn moment(scratch: &Scratch, config: &Json) -> Ended {
    let config = scratch.write("moment.yaml", config.to_string());
    run(Command::new(BINARY).arg(config).args(["--duration", "1ms"]))
}

/// The runner, held for a while at the `nth` time that a thread of it makes the system call `call`.
struct Held(Child);

impl Held {
    /// `None` if there is no strace here.
    fn start(scratch: &Scratch, config: &Json, call: &str, nth: u32) -> Option<Self> {
        let mut strace = Command::new("strace");
        if strace.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: there is no strace here");
            return None;
        }
        let config = scratch.write("held.yaml", config.to_string());
        let mut strace = Command::new("strace");
        // Detached, so that the child is the runner itself; with a filter, so that it is held nowhere else
        strace.args(["--daemonize", "--follow-forks", "--seccomp-bpf", "--output=/dev/null"]);
        strace.arg(format!("--trace={call}")).arg(format!("--inject={call}:delay_enter=3s:when={nth}"));
        strace.arg(BINARY).arg(config).args(["--duration", "1ms"]);
        strace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let held = Held(strace.spawn().expect("it starts"));
        held.wait_until_held();
        Some(held)
    }

    /// Waits until a thread of it is stopped, and still is a moment later.
    fn wait_until_held(&self) {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.0.id()));
        let stopped = || {
            fs::read_dir(&tasks).expect("it has not ended").flatten().find(|task| {
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('t'))
            })
        };
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(one) = stopped().map(|task| task.file_name()) {
                thread::sleep(Duration::from_millis(200));
                if stopped().is_some_and(|task| task.file_name() == one) {
                    return;
                }
            }
            assert!(Instant::now() < until, "it is not held");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self) -> Ended {
        self.0.wait_with_output().expect("it ends").into()
    }
}

/// One run is held at each step by which its file comes about and gets its name. The other one either finds that and says so, or
/// it was before the first one or behind it; and every file that has its name is complete.
#[test]
fn of_two_runs_at_the_same_moment_one_writes() {
    if !root() {
        return;
    }
    for path in ["out", "out-{{ start | date('%Y') }}"] {
        for (call, nth, refused) in [
            ("flock", 1, false),     // the file has no name yet that counts
            ("renameat2", 1, false), // nor here, but its lock
            ("fchmod", 1, true),
            ("fsync", 1, true),
            ("renameat", 1, true),
            ("fsync", 2, false), // it has its name
        ] {
            let (scratch, out) = (Scratch::new(), Scratch::new());
            let path = out.path(path);
            let Some(held) = Held::start(&scratch, &config("first", &path), call, nth) else { return };
            let second = moment(&scratch, &config("second", &path));
            let context = format!("{call} {nth}: {}", second.stderr);
            assert_eq!(second.code, Some(if refused { 1 } else { 0 }), "{context}");
            assert_eq!(second.stderr.contains("another run is writing to "), refused, "{context}");
            let first = held.end();
            assert_eq!(first.code, Some(0), "{context} {}", first.stderr);
            for said in [&first.stderr, &second.stderr] {
                assert!(!said.contains("warning"), "no run was killed: {said}");
            }
            let left = names(&out.path(""));
            assert_eq!(left.len(), 1, "{left:?} {context}");
            let text = fs::read_to_string(out.path(&left[0])).expect("it is there");
            let last = if (call, nth) == ("fsync", 2) { "second\n" } else { "first\n" };
            assert_eq!(text, last, "{context}");
        }
    }
}

/// The other way round: a run that has found the file of another one is held before it tries the file's lock. Meanwhile the file
/// gets its name, so it is none that was left.
#[test]
fn a_file_that_is_finished_while_it_is_looked_at_is_none_that_was_left() {
    if !root() {
        return;
    }
    let (scratch, other, out) = (Scratch::new(), Scratch::new(), Scratch::new());
    let path = out.path("out");
    let first = Capture::start(&other, &config("first", &path), &[]);
    let Some(held) = Held::start(&scratch, &config("second", &path), "flock", 1) else { return };
    first.stop().expect(0);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "first\n");
    let second = held.end().expect(0);
    assert!(!second.stderr.contains("warning"), "{}", second.stderr);
    assert_eq!(
        (names(&out.path("")), fs::read_to_string(&path).expect("it is there").as_str()),
        (vec!["out".into()], "second\n")
    );
}

/// Two runs find a file that a killed one has left. One keeps it, the other one goes on or is refused; it is not lost.
#[test]
fn a_file_that_was_left_is_kept_once() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    let path = out.path("out");
    out.write("out.partial", "left\n");
    // Its first rename gives what was left another name
    let Some(held) = Held::start(&scratch, &config("first", &path), "renameat2", 1) else { return };
    moment(&scratch, &config("second", &path)).expect(1).says(&["another run is writing to "]);
    held.end().expect(0).says(&["warning: ", "killed or failed"]);
    let left = names(&out.path(""));
    assert!(left.len() == 2 && left[0] == "out" && left[1].starts_with("out.partial-"), "{left:?}");
    assert_eq!(fs::read_to_string(out.path(&left[1])).expect("it is there"), "left\n");
}

/// The first files of a sink that rotates are complete, and have names that the next run would begin with.
#[test]
fn a_second_run_does_not_write_over_the_first_files_of_one_that_rotates() {
    if !root() {
        return;
    }
    for compress in [Json::Null, json!("gzip")] {
        let (scratch, out) = (Scratch::new(), Scratch::new());
        let comm = unique_name();
        let mut config = config("first", &out.path("x.jsonl"));
        let sink = json!({"type": "jsonl", "path": out.path("x.jsonl"), "rotate": {"size": "4KiB"}});
        config["probes"][0]["filters"]["comm"] = json!(comm);
        config["sinks"]["file"] = sink;
        if !compress.is_null() {
            config["sinks"]["file"]["compress"] = compress.clone();
        }
        let first = Capture::start(&scratch, &config, &[]);
        failing_calls(&comm, 60, 300, |_| ()).join().expect("the load does not panic");
        let name = |part: u32| format!("x.{part:04}.jsonl{}", if compress.is_null() { "" } else { ".gz" });
        let until = Instant::now() + Duration::from_secs(60);
        while !out.path(&name(2)).exists() {
            assert!(Instant::now() < until, "{:?}", names(&out.path("")));
            thread::sleep(Duration::from_millis(5));
        }
        let part = || fs::read(out.path(&name(1))).expect("it is there");
        let before = part();
        moment(&scratch, &config).expect(1).says(&["another run is writing to ", "x.jsonl", "hint: "]);
        assert!(part() == before);
        first.stop().expect(0);
        let left = names(&out.path(""));
        assert!(left.iter().enumerate().all(|(index, name_of)| *name_of == name(index as u32 + 1)), "{left:?}");
        if compress.is_null() {
            let read = |name: &String| records(&fs::read_to_string(out.path(name)).expect("UTF-8")).len();
            assert_eq!(left.iter().map(read).sum::<usize>(), 60);
        }
        // A killed one keeps nobody away, and what kept others away leaves no trace
        let killed = Capture::start(&scratch, &config, &[]);
        killed.signal(rustix::process::Signal::KILL);
        killed.wait();
        moment(&scratch, &config).expect(0);
        assert!(!names(&out.path("")).contains(&"x.jsonl.partial".to_owned()));
    }
}

#[test]
fn two_runs_do_not_report_to_one_path() {
    if !root() {
        return;
    }
    let (scratches, out) = ([Scratch::new(), Scratch::new()], Scratch::new());
    let path = out.path("report.json");
    let report = ["--report", path.to_str().expect("UTF-8")];
    let first = Capture::start(&scratches[0], &config("first", &scratches[0].path("out")), &report);
    let other = scratches[1].write("config.yaml", config("second", &scratches[1].path("out")).to_string());
    let ended = run(Command::new(BINARY).arg(&other).args(["--duration", "1ms"]).args(report)).expect(1);
    let ended = ended.says(&["the report can't be written to ", "another run is writing to it", "hint: "]);
    assert!(!ended.stderr.contains("attached"), "{}", ended.stderr);
    first.stop().expect(0);
    assert_eq!(names(&out.path("")), ["report.json"]);
    run(Command::new(BINARY).arg(&other).args(["--duration", "1ms"]).args(report)).expect(0);
    // A killed one keeps nobody away
    let killed = Capture::start(&scratches[0], &config("first", &scratches[0].path("out")), &report);
    killed.signal(rustix::process::Signal::KILL);
    killed.wait();
    run(Command::new(BINARY).arg(&other).args(["--duration", "1ms"]).args(report)).expect(0);
    assert_eq!(names(&out.path("")), ["report.json"]);
}

/// The report, the lock and the files of sinks each have a name of their own.
#[test]
fn nothing_of_a_run_takes_the_name_of_its_lock() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let lock = scratch.path("x");
    let with = |path: &Path, more: &[&str]| {
        let config = scratch.write("config.yaml", config("first", path).to_string());
        run(Command::new(BINARY).arg(config).args(["--duration", "1ms", "--lock"]).arg(&lock).args(more)).expect(1)
    };
    with(&lock, &[]).says(&["sink `file` and the lock are the same file"]);
    let report = ["--report", lock.to_str().expect("UTF-8")];
    with(&scratch.path("out"), &report).says(&["the report and the lock are the same file"]);
    with(&scratch.path("x.partial"), &[]).says(&["names that end with `.partial` are reserved for incomplete files"]);
}

/// A link of root's in a directory of another user, who puts a link of his own in its place once its owner was checked.
#[test]
fn a_link_that_is_swapped_leads_nowhere_else() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    for name in ["user", "good", "evil"] {
        fs::create_dir(out.path(name)).expect("a folder");
    }
    chown(out.path("user"), Some(NOBODY), None).expect("root may");
    symlink(out.path("good"), out.path("user/current")).expect("a link");
    symlink(out.path("evil"), out.path("user/mine")).expect("a link");
    lchown(out.path("user/mine"), Some(NOBODY), None).expect("root may");
    let config = config("first", &out.path("user/current/out"));
    let Some(held) = Held::start(&scratch, &config, "readlinkat", 1) else { return };
    renameat_with(CWD, out.path("user/current"), CWD, out.path("user/mine"), RenameFlags::EXCHANGE).expect("he may");
    held.end().expect(0);
    assert_eq!((names(&out.path("good")), names(&out.path("evil"))), (vec!["out".into()], vec![]));
    // And his own link is refused
    moment(&scratch, &config).expect(1).says(&["is a symbolic link of user 65534", "hint: ", "allow_unsafe_path"]);
}

/// A report goes to the directory that was checked at the start, whatever has its name at the end.
#[test]
fn a_report_goes_to_the_directory_that_was_checked() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    for name in ["good", "evil"] {
        fs::create_dir(out.path(name)).expect("a folder");
    }
    symlink("good", out.path("current")).expect("a link");
    let report = out.path("current/report.json");
    let capture = Capture::start(
        &scratch,
        &config("first", &scratch.path("out")),
        &["--report", report.to_str().expect("UTF-8")],
    );
    fs::remove_file(out.path("current")).expect("it is there");
    symlink("evil", out.path("current")).expect("a link");
    capture.stop().expect(0);
    assert_eq!((names(&out.path("good")), names(&out.path("evil"))), (vec!["report.json".into()], vec![]));
}

/// A lock whose file is replaced between its opening and its locking keeps nobody away.
#[test]
fn a_lock_that_is_replaced_is_taken_anew() {
    if !root() {
        return;
    }
    let (scratch, out) = (Scratch::new(), Scratch::new());
    let mut config = config("first", &scratch.path("out"));
    config["window"] = json!({"lock": out.path("lock"), "duration": "3s"});
    let Some(held) = Held::start(&scratch, &config, "flock", 1) else { return };
    fs::rename(out.path("lock"), out.path("moved")).expect("it is there");
    // The new file is the one that others lock
    config["sinks"]["file"]["path"] = json!(scratch.path("other"));
    let second = Capture::start(&Scratch::new(), &config, &[]);
    held.end().expect(6).says(&["another run (process ", "holds the lock"]);
    second.stop().expect(0);
}

/// A FUSE file system whose root looks like root's, served by whoever has mounted it; it answers hardly anything.
const FUSE_SERVER: &str = r#"
import ctypes, os, stat, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id={sys.argv[2]},group_id=0,allow_other"
if libc.mount(b"fuse", sys.argv[1].encode(), b"fuse", 0, options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
print("mounted", flush=True)
while True:
    try:
        request = os.read(fd, 1 << 17)
    except OSError:
        break
    _, call, unique, node = struct.unpack("<IIQQ", request[:24])
    answer, error = b"", 0
    if call == 26:  # INIT
        answer = struct.pack("<IIIIHHIIHHI7I", 7, 31, 65536, 0, 0, 0, 65536, 1, 0, 0, 0, *[0] * 7)[:64]
    elif call == 3:  # GETATTR: a directory of root's
        answer = struct.pack("<16x") + struct.pack("<QQQQQQIIIIIIIIII", node, *[0] * 8, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0)
    elif call in (2, 42):  # FORGET
        continue
    else:
        error = 2 if call == 1 else 38
    os.write(fd, struct.pack("<IiQ", 16 + len(answer), -error, unique) + answer)
"#;

#[test]
fn a_file_system_that_another_user_serves_is_not_believed() {
    if !root() {
        return;
    }
    if !Path::new("/dev/fuse").exists() {
        eprintln!("SKIPPED: this kernel has no FUSE");
        return;
    }
    for (user, words) in [("65534", "is on a FUSE file system of user 65534"), ("0", "Function not implemented")] {
        let (scratch, out) = (Scratch::new(), Scratch::new());
        fs::create_dir(out.path("mounted")).expect("a folder");
        let server = scratch.write("server.py", FUSE_SERVER);
        let mut python = Command::new("python3");
        python.arg(server).arg(out.path("mounted")).arg(user).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("these tests need python3");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut said).expect("text");
        assert_eq!(said, "mounted\n");
        let ended = moment(&scratch, &config("first", &out.path("mounted/out")));
        run(Command::new("umount").arg("--lazy").arg(out.path("mounted"))).expect(0);
        child.wait().expect("it ends when nothing is mounted any more");
        ended.expect(1).says(&[words]);
    }
}
