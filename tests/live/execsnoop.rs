//! `execsnoop` against program executions that the tests make: what was run, with which arguments, by whom, and how it
//! ended, byte by byte.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use ebpf_run::event::text::restore;
use rustix::time::ClockId;
use serde_json::{Value as Json, json};

use crate::capture::{Capture, records, report, summary, to_jsonl};
use crate::common::{NOBODY, Scratch, run};
use crate::load::{Calls, Held, clock, compiled, copy_of, has_tracepoint, unique_name};
use crate::root;

/// Bytes of arguments that the small record of a success holds, and the large one.
const SMALL: usize = 512;
const LARGE: usize = 4096;
/// The last entry of a list that was cut.
const CUT: &str = "…";

/// What `execsnoop` sees of `filters` while `load` runs.
fn seen(scratch: &Scratch, filters: Json, load: impl FnOnce()) -> Vec<Json> {
    let capture = Capture::start(scratch, &to_jsonl(json!([{"program": "execsnoop", "filters": filters}])), &[]);
    load();
    let ended = capture.stop().expect(0);
    let records = records(&ended.stdout);
    assert_eq!(summary(&ended, "execsnoop"), [records.len() as u64, records.len() as u64, 0]);
    records
}

/// The arguments as bytes.
fn argv(record: &Json) -> Vec<Vec<u8>> {
    let items = record["argv"].as_array().unwrap_or_else(|| panic!("no list in {record}"));
    items.iter().map(|item| restore(item.as_str().expect("text"))).collect()
}

fn bytes(args: &[impl AsRef<OsStr>]) -> Vec<Vec<u8>> {
    args.iter().map(|arg| arg.as_ref().as_bytes().to_vec()).collect()
}

/// Runs `program` with `args`, the first of which is what it is called; returns what its process was.
fn execute(program: &Path, args: &[impl AsRef<OsStr>]) -> u32 {
    let mut child = Command::new(program).arg0(&args[0]).args(&args[1..]).spawn().expect("it runs");
    assert!(child.wait().expect("it ends").success());
    child.id()
}

#[test]
fn a_success_has_all_that_the_new_program_gets() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let args = [
        OsString::from("-login"),
        "".into(),
        "two words".into(),
        "it's \"quoted\" \\ $HOME `id`".into(),
        "line\nbreak\ttab".into(),
        "é 日本 \u{202e}".into(),
        OsString::from_vec(b"not \xff\xfe UTF-8 \xc3".to_vec()),
        "\u{ef80} stands in".into(),
        "".into(),
    ];
    let (mut child, ktime) = (0, clock(ClockId::Monotonic));
    let records = seen(&scratch, json!({"comm": comm}), || child = execute(&program, &args));
    let [record] = records.as_slice() else { panic!("one execution: {records:#?}") };
    assert_eq!(argv(record), bytes(&args));
    assert_eq!(record["argv"][6], "not \u{efff}\u{effe} UTF-8 \u{efc3}", "as the reference says");
    assert_eq!(record["pid"], child);
    assert_eq!(record["ppid"], std::process::id());
    assert_eq!(record["uid"], 0);
    assert_eq!(record["comm"], comm.as_str());
    assert_eq!(record["filename"], program.to_str().expect("UTF-8"));
    assert_eq!(record["ret"], 0);
    let ts = record["ts"].as_i64().expect("a number");
    assert!(ktime < ts && ts < clock(ClockId::Monotonic), "{ts} is not within the capture");
    let time: jiff::Timestamp = record["time"].as_str().expect("text").parse().expect("RFC 3339");
    assert!(jiff::Timestamp::now().duration_since(time).as_secs() < 20, "{time} is not now");
}

/// The NUL-terminated arguments in one piece, cut at what a record holds.
fn cut_at(args: &[String], room: usize) -> Vec<Vec<u8>> {
    let all: Vec<u8> = args.iter().flat_map(|arg| [arg.as_bytes(), &[0]].concat()).collect();
    let kept = &all[..all.len().min(room)];
    let kept = kept.strip_suffix(&[0]).unwrap_or(kept);
    let mut args: Vec<_> = kept.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    if all.len() > room {
        args.push(CUT.into());
    }
    args
}

#[test]
fn long_argument_lists_are_whole_or_say_that_they_are_cut() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    // Of just so many bytes, NULs and all, in arguments of up to 100
    let list = |bytes: usize| -> Vec<String> {
        let (rest, mut args) = ((bytes - 2) % 100, vec!["x".to_owned()]);
        args.extend((0..(bytes - 2) / 100).map(|i| format!("{i:099}")));
        args.extend((rest > 0).then(|| "y".repeat(rest - 1)));
        assert_eq!(args.iter().map(|arg| arg.len() + 1).sum::<usize>(), bytes);
        args
    };
    let lists = [2, SMALL - 1, SMALL, SMALL + 1, LARGE - 1, LARGE, LARGE + 1, LARGE + 7, 60_000].map(list);
    let records = seen(&scratch, json!({"comm": comm}), || {
        for list in &lists {
            execute(&program, list);
        }
    });
    assert_eq!(records.len(), lists.len());
    for (record, list) in records.iter().zip(&lists) {
        assert_eq!(argv(record), cut_at(list, LARGE));
    }
}

#[test]
fn a_failure_has_what_was_asked_for() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (shell, comm) = copy_of(&scratch, "sh");
    let missing = scratch.path("missing");
    let data = scratch.write("data", "no program");
    scratch.set_mode("data", 0o644);
    // No empty one: the shell has that in its file, and a page that nobody has touched can't be read (docs/explanation/limits.md)
    let args: [&[u8]; 4] = [b"two words", b"it's\n", b"\xff\xfe", b"-"];
    let many: Vec<OsString> = (0..40).map(|i| format!("{i:050}").into()).collect();
    let long = [OsString::from("s".repeat(300)), "next".into()];
    let loads = [
        Held::new(&shell, &missing, args.map(OsStr::from_bytes)),
        Held::new(&shell, &data, ["a"]),
        Held::new(&shell, &missing, &many),
        Held::new(&shell, &missing, &long),
    ];
    let pids: Vec<u32> = loads.iter().map(Held::pid).collect();
    let records = seen(&scratch, json!({"comm": comm}), || {
        for load in loads {
            assert!(matches!(load.go(), Some(126 | 127)), "the shell says that it can't be run");
        }
    });
    let [noent, denied, many_of_them, long_one] = records.as_slice() else { panic!("four calls: {records:#?}") };
    for (record, pid) in records.iter().zip(pids) {
        assert_eq!(
            (record["pid"].as_u64(), record["ppid"].as_u64()),
            (Some(pid.into()), Some(std::process::id().into()))
        );
        assert_eq!((record["comm"].as_str(), record["uid"].as_u64()), (Some(comm.as_str()), Some(0)), "the caller's");
    }
    assert_eq!((&noent["ret"], &denied["ret"]), (&json!(-2), &json!(-13)), "ENOENT, EACCES");
    assert_eq!(noent["filename"], missing.to_str().expect("UTF-8"));
    assert_eq!(denied["filename"], data.to_str().expect("UTF-8"));
    // The shell puts what it runs in front
    let called = |program: &Path, args: Vec<Vec<u8>>| [bytes(&[program]), args].concat();
    assert_eq!(argv(noent), called(&missing, args.map(<[u8]>::to_vec).into()));
    assert_eq!(argv(denied), called(&data, vec![b"a".to_vec()]));
    // Up to 1024 bytes of arguments, 255 of each: a true beginning, and a word that there was more
    let some = argv(many_of_them);
    let (last, kept) = some.split_last().expect("a list");
    assert_eq!(last, CUT.as_bytes());
    assert_eq!(kept, &called(&missing, bytes(&many))[..kept.len()]);
    assert!(kept.len() > 10, "about 1024 bytes of them, not {}", kept.len());
    assert_eq!(argv(long_one), [missing.as_os_str().as_bytes(), &b"s".repeat(255), CUT.as_bytes()]);
}

#[test]
fn a_script_is_seen_as_itself_not_as_its_interpreter() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let name = crate::load::unique_name();
    let (text, script) = (scratch.write("script", "#!/bin/sh -e\nexit 0\n"), scratch.path(&name));
    crate::common::copy_program(&text, &script);
    let mut child = 0;
    let records = seen(&scratch, json!({"comm": name}), || child = execute(&script, &["called", "a b"]));
    let [record] = records.as_slice() else { panic!("one execution: {records:#?}") };
    let path = script.to_str().expect("UTF-8");
    assert_eq!(record["pid"], child);
    assert_eq!((record["filename"].as_str(), record["ret"].as_i64()), (Some(path), Some(0)));
    // What the kernel makes of the line with #!, and the interpreter gets
    assert_eq!(argv(record), [b"/bin/sh", &b"-e"[..], path.as_bytes(), b"a b"]);
}

/// A file of a registered format, in a user namespace of its own: there, `binfmt_misc` is not the machine's (since 6.7).
#[test]
fn a_file_of_a_registered_format_is_seen_as_itself() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (interpreter, _) = copy_of(&scratch, "true");
    let (file, comm) = (scratch.write("registered.ebpfrun", "x"), "registered.ebpf");
    run(Command::new("chmod").arg("+x").arg(&file)).expect(0);
    fs::create_dir(scratch.path("formats")).expect("a directory");
    let script =
        "mount -t binfmt_misc none \"$1\" && echo \":ebpfrun:E::ebpfrun::$2:\" >\"$1/register\" && exec \"$3\" a";
    let mut load = Command::new("unshare");
    load.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    load.arg(scratch.path("formats")).arg(&interpreter).arg(&file);
    let mut code = None;
    let records = seen(&scratch, json!({"process_comm": comm}), || code = run(&mut load).code);
    if code != Some(0) {
        eprintln!("SKIPPED: no binfmt_misc in a user namespace here");
        return;
    }
    let [record] = &records[..] else { panic!("one execution: {records:#?}") };
    assert_eq!(record["filename"], json!(file));
    assert_eq!(record["file"], json!(interpreter.file_name().expect("a name").to_str()));
    assert_eq!(argv(record), bytes(&[interpreter.as_os_str(), file.as_os_str(), "a".as_ref()]));
}

#[test]
fn long_names_and_other_users_are_right() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let deep = format!("{0}/{0}/{0}", "d".repeat(100));
    fs::create_dir_all(scratch.path(&deep)).expect("folders");
    let folder = scratch.path(&deep);
    let path = folder.join(&comm);
    fs::hard_link(&program, &path).expect("a link");
    let records = seen(&scratch, json!({"comm": comm}), || {
        let mut child = Command::new(&path).uid(NOBODY).gid(NOBODY).spawn().expect("it runs");
        child.wait().expect("it ends");
    });
    let [record] = records.as_slice() else { panic!("one execution: {records:#?}") };
    assert_eq!((record["uid"].as_u64(), record["comm"].as_str()), (Some(NOBODY.into()), Some(comm.as_str())));
    assert_eq!(record["filename"].as_str(), path.to_str().map(|path| &path[..255]), "what fits into 256 with its NUL");
    assert_eq!(argv(record), bytes(&[&path]), "arguments have more room");
}

/// Through a file descriptor: execveat(2), by way of python, which has it. `filename` is then the name of the file.
#[test]
fn a_program_without_a_path_is_seen_by_the_name_of_its_file() {
    if !root() {
        return;
    }
    if Command::new("python3").arg("-V").output().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return eprintln!("SKIPPED: python3 is not installed");
    }
    let scratch = Scratch::new();
    let (program, name) = copy_of(&scratch, "true");
    let data = scratch.write("data", "no program");
    let (text, script) = (scratch.write("text", "#!/bin/sh\nexit 0\n"), scratch.path("a script"));
    crate::common::copy_program(&text, &script);
    let code = "import os, sys\nsys.stdin.readline()\n\
        def run(what):\n    pid = os.fork()\n    if pid == 0:\n        try: os.execve(what, ['called', 'a b'], {})\n        \
        except OSError: pass\n        os._exit(0)\n    os.waitpid(pid, 0)\n\
        data, program, script = sys.argv[1:]\n\
        memory = os.memfd_create('in memory')\nos.write(memory, open(program, 'rb').read())\n\
        junk = os.memfd_create('junk')\nos.write(junk, b'no program')\n\
        fd = os.open(program, os.O_RDONLY)\n\
        left = os.open(script, os.O_RDONLY)\nos.set_inheritable(left, True)\n\
        for what in (os.open(data, os.O_RDONLY), fd, memory, junk, left, '/proc/self/fd/%d' % fd): run(what)\n";
    let mut python = Command::new("python3")
        .arg("-c")
        .arg(code)
        .args([&data, &program, &script])
        .stdin(Stdio::piped())
        .spawn()
        .expect("python starts");
    let pid = python.id();
    let records = seen(&scratch, json!({}), || {
        use std::io::Write;
        python.stdin.take().expect("it is piped").write_all(b"go\n").expect("it waits for this");
        assert!(python.wait().expect("it ends").success());
    });
    // What is called python3 may have to find the real one first
    let own = |record: &&Json| record["ppid"] == pid && argv(record).ends_with(&[b"a b".to_vec()]);
    let calls: Vec<&Json> = records.iter().filter(own).collect();
    let found: Vec<_> = calls.iter().map(|call| (&call["filename"], &call["file"], &call["ret"])).collect();
    let by_path = calls.last().expect("a call")["filename"].as_str().expect("text");
    assert!(by_path.starts_with("/proc/self/fd/"), "as the caller wrote it: {by_path}");
    let interpreter = fs::canonicalize("/bin/sh").expect("a shell");
    let interpreter = interpreter.file_name().and_then(OsStr::to_str).expect("UTF-8");
    let expected = [
        ("data", "data", -13),
        (&name, &name, 0),
        ("memfd:in memory", "memfd:in memory", 0),
        ("memfd:junk", "memfd:junk", -8),
        ("a script", interpreter, 0),
        (by_path, &name, 0),
    ];
    let expected = expected.map(|(filename, file, ret)| (json!(filename), json!(file), json!(ret)));
    assert_eq!(found, expected.iter().map(|(a, b, c)| (a, b, c)).collect::<Vec<_>>(), "{calls:#?}");
}

/// A program whose last segment is longer in the file than in memory: the kernel sees that when the caller is gone.
fn damaged(scratch: &Scratch, program: &Path) -> (std::path::PathBuf, String) {
    let mut elf = fs::read(program).expect("a program");
    let word = |elf: &[u8], at: usize, bytes: usize| {
        elf[at..at + bytes].iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
    };
    let (headers, size, count) = (word(&elf, 32, 8), word(&elf, 54, 2), word(&elf, 56, 2));
    let last = (0..count).map(|i| headers + i * size).rfind(|&at| word(&elf, at, 4) == 1).expect("PT_LOAD");
    elf[last + 40..last + 48].copy_from_slice(&16_u64.to_le_bytes()); // p_memsz
    let name = crate::load::unique_name();
    let text = scratch.write("damaged", elf);
    crate::common::copy_program(&text, &scratch.path(&name));
    (scratch.path(&name), name)
}

#[test]
fn an_execution_that_fails_late_is_the_callers() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (shell, comm) = copy_of(&scratch, "sh");
    let (program, name) = damaged(&scratch, &copy_of(&scratch, "true").0);
    let loads: Vec<Held> = (0..3).map(|_| Held::new(&shell, &program, ["a", "b c"])).collect();
    let pids: Vec<u32> = loads.iter().map(Held::pid).collect();
    let kept = has_tracepoint("sched_prepare_exec");
    // Where the kernel does not tell in time, the process has the new command already
    let filters = json!({"comm": if kept { &comm } else { &name }, "failed": true});
    let records = seen(&scratch, filters, || {
        for load in loads {
            assert_eq!(load.go(), None, "it ends by a signal");
        }
    });
    let seen: Vec<_> = records.iter().map(|record| record["pid"].as_u64()).collect();
    assert_eq!(seen, pids.iter().map(|&pid| Some(pid.into())).collect::<Vec<_>>());
    for record in &records {
        assert!(record["ret"].as_i64() < Some(0), "{record}");
        assert_eq!(record["file"], name.as_str());
        if kept {
            assert_eq!((&record["filename"], &record["comm"]), (&json!(program), &json!(comm)));
            assert_eq!(argv(record), bytes(&[program.as_os_str(), "a".as_ref(), "b c".as_ref()]));
        } else {
            assert_eq!((&record["filename"], &record["argv"]), (&json!(CUT), &json!([CUT])));
        }
    }
}

#[test]
fn calls_that_seccomp_denies_are_failures() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("cold");
    let load = Calls::new(&scratch, "denied-execs", path.to_str().expect("UTF-8"));
    let mut saw = None;
    let records = seen(&scratch, json!({"comm": load.comm}), || saw = load.go());
    let Some(saw) = saw else { return };
    let of = |ret: i64| records.iter().filter(move |record| record["ret"] == ret).collect::<Vec<_>>();
    let (denied, trapped) = (of(-1), of(-38));
    assert_eq!([denied.len() as u64, trapped.len() as u64], saw[..], "{records:#?}");
    assert!(denied.iter().all(|record| record["filename"] == CUT && record["argv"] == json!(["calls", "denied"])));
    assert!(trapped.iter().all(|record| record["filename"] == "/no/such/program"), "{trapped:#?}");
}

/// The kernel waits with an execution of a file that another process has a lease on.
#[test]
fn an_execution_that_signals_interrupt_is_one_event() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let load = Calls::new(&scratch, "interrupted-execs", program.to_str().expect("UTF-8"));
    let mut saw = None;
    let records = seen(&scratch, json!({"process_comm": [load.comm, comm]}), || saw = load.go());
    let Some(saw) = saw else { return };
    assert_eq!(saw, [1, 1], "the load");
    let [failed, worked] = &records[..] else { panic!("two executions: {records:#?}") };
    assert_eq!((&failed["ret"], &failed["process_comm"]), (&json!(-4), &failed["comm"]), "EINTR");
    assert_eq!((&worked["ret"], &worked["process_comm"]), (&json!(0), &json!(comm)));
    for record in [failed, worked] {
        assert_eq!((&record["filename"], &record["argv"]), (&json!(program), &json!(["calls", "leased"])));
    }
}

#[test]
fn executions_that_have_not_returned_at_the_end_are_counted() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, _) = copy_of(&scratch, "true");
    let (load, comm) = compiled(&scratch, include_str!("loads/calls.c"));
    let report_path = scratch.path("report.json");
    let probes = json!([
        {"program": "execsnoop", "name": "here", "filters": {"process_comm": comm}},
        {"program": "execsnoop", "name": "elsewhere", "filters": {"process_comm": unique_name()}},
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &["--report", report_path.to_str().expect("UTF-8")]);
    let mut load = Command::new(load);
    let mut load =
        load.arg("held-exec").arg(&program).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut said = String::new();
    BufReader::new(load.stdout.take().expect("it is piped")).read_line(&mut said).expect("text");
    let ended = capture.stop();
    load.kill().expect("it is there");
    let status = load.wait().expect("it ends");
    if said.is_empty() && status.code() == Some(77) {
        eprintln!("SKIPPED: no leases here");
        return;
    }
    ended.expect(0).says(&["(executions not returned at the end: 1)"]);
    let report = report(&scratch);
    assert_eq!([0, 1].map(|probe| report["probes"][probe]["in_flight"].clone()), [json!(1), json!(0)]);
}

/// By the 32-bit table, with a list of pointers of 32 bits; and not what is an execution in the other table only.
#[test]
#[cfg(target_arch = "x86_64")]
fn calls_by_32_bit_numbers_are_seen_and_others_are_not() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let load = Calls::new(&scratch, "compat", "/no/such/file");
    let mut saw = None;
    let records = seen(&scratch, json!({"comm": load.comm}), || saw = load.go());
    let Some(saw) = saw else { return };
    assert_eq!(records.len() as u64, saw[2]);
    for record in records {
        assert_eq!((&record["filename"], &record["ret"]), (&json!("/no/such/program"), &json!(-2)));
        assert_eq!(argv(&record), [b"narrow", b"narrow"]);
    }
}
