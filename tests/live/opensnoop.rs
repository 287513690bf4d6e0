//! `opensnoop`: every way to open a file, and every filter.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::thread::{self, JoinHandle};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, open, openat2, statat};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, report, to_jsonl, to_jsonl_of_busy};
use crate::common::Scratch;
use crate::load::{Calls, unique_name, wait_until};
use crate::root;

/// A thread called `comm` that does `work` once it is told to, and its number.
fn held(comm: &str, work: impl FnOnce() + Send + 'static) -> (u32, impl FnOnce()) {
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let (say, number) = std::sync::mpsc::channel();
    let thread: JoinHandle<()> = thread::Builder::new()
        .name(comm.into())
        .spawn(move || {
            say.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).expect("it is waited for");
            told.recv().expect("it is told");
            work();
        })
        .expect("a thread starts");
    let go = move || {
        tell.send(()).expect("it waits");
        thread.join().expect("it does not panic");
    };
    (number.recv().expect("it says"), go)
}

#[test]
fn paths_flags_and_results_are_those_of_the_calls() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let comm = unique_name();
    let here = scratch.write("a file", "x");
    let (missing, hostile) = (scratch.path("missing"), b"/no/\xff\n\"such\x1b".to_vec());
    let long = format!("/{}", "l".repeat(300));
    let work = {
        let (here, missing, hostile, long) = (here.clone(), missing.clone(), hostile.clone(), long.clone());
        move || {
            open(&here, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("it is there");
            open(&here, OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW, Mode::empty()).expect("it is there");
            open(&missing, OFlags::WRONLY | OFlags::TRUNC, Mode::empty()).expect_err("it is not there");
            let how = OFlags::PATH | OFlags::DIRECTORY;
            openat2(CWD, &here, how, Mode::empty(), ResolveFlags::empty()).expect_err("it is no folder");
            open(CString::new(hostile).expect("no NUL"), OFlags::RDONLY, Mode::empty()).expect_err("it is not there");
            open(&long, OFlags::RDONLY, Mode::empty()).expect_err("it is not there");
            statat(CWD, &here, AtFlags::empty()).expect("no open, and no event");
        }
    };
    let (tid, go) = held(&comm, work);
    let capture =
        Capture::start(&scratch, &to_jsonl(json!([{"program": "opensnoop", "filters": {"comm": comm}}])), &[]);
    go();
    let records = records(&capture.stop().expect(0).stdout);
    let seen: Vec<(Vec<u8>, &str, i64)> = records
        .iter()
        .map(|record| {
            assert_eq!(record["tid"], tid);
            assert_eq!(record["pid"], std::process::id());
            assert_eq!(record["uid"], 0);
            let path = ebpf_run::event::text::restore(record["path"].as_str().expect("text"));
            (path, record["flags"].as_str().expect("text"), record["ret"].as_i64().expect("a number"))
        })
        .collect();
    let (here, missing) = (here.as_os_str().as_bytes().to_vec(), missing.as_os_str().as_bytes().to_vec());
    // Whether O_LARGEFILE is set is up to the C library that a test is built with
    let without = |flags: &str| flags.split('|').filter(|flag| *flag != "largefile").collect::<Vec<_>>().join("|");
    let flags: Vec<String> = seen.iter().map(|(_, flags, _)| without(flags)).collect();
    let expected = ["rdonly|cloexec", "rdwr|append|nofollow", "wronly|trunc", "directory|path", "rdonly", "rdonly"];
    assert_eq!(flags, expected);
    let results: Vec<i64> = seen.iter().map(|(_, _, ret)| (*ret).min(0)).collect();
    assert_eq!(results, [0, 0, -2, -20, -2, -36], "ENOENT, ENOTDIR, ENOENT, ENAMETOOLONG");
    let paths: Vec<Vec<u8>> = seen.into_iter().map(|(path, ..)| path).collect();
    assert_eq!(paths, [here.clone(), here.clone(), missing, here, hostile, long.as_bytes()[..255].to_vec()]);
}

#[test]
fn every_filter_lets_through_what_it_names() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (a, b) = (unique_name(), unique_name());
    let file = scratch.write("here", "x");
    let opens = |first: &'static str| {
        let file = file.clone();
        move || {
            let _ = open(first, OFlags::RDONLY, Mode::empty());
            open(&file, OFlags::RDONLY, Mode::empty()).expect("it is there");
        }
    };
    let (tid, go_a) = held(&a, opens("/no/such/a"));
    let (_, go_b) = held(&b, opens("/no/way/b"));
    let both = json!([a, b]);
    let pid = std::process::id();
    let folder = scratch.path("");
    let folder = folder.to_str().expect("text").get(..60.min(folder.as_os_str().len())).expect("ASCII");
    // How many opens of `a` and of `b` each probe lets through
    let cases: Vec<(Json, usize, usize)> = vec![
        (json!({}), 2, 2),
        (json!({"comm": both}), 2, 2),
        (json!({"comm": a}), 2, 0),
        (json!({"comm": unique_name()}), 0, 0),
        (json!({"comm": both, "pid": pid}), 2, 2),
        (json!({"comm": both, "pid": [1, 2]}), 0, 0),
        (json!({"tid": tid}), 2, 0),
        (json!({"tid": [tid + 1_000_000], "comm": both}), 0, 0),
        (json!({"uid": 0, "comm": both}), 2, 2),
        (json!({"uid": 65534, "comm": both}), 0, 0),
        (json!({"failed": true, "comm": both}), 1, 1),
        (json!({"failed": false, "comm": both}), 1, 1),
        (json!({"path_prefix": "/no/such", "comm": both}), 1, 0),
        (json!({"path_prefix": ["/no/way/", "/no/such/a"], "comm": both}), 1, 1),
        (json!({"path_prefix": "/no/such/a/", "comm": both}), 0, 0),
        (json!({"path_prefix": folder, "comm": both}), 1, 1),
        (json!({"path_prefix": "no", "comm": both}), 0, 0),
    ];
    let probes: Vec<Json> = cases
        .iter()
        .enumerate()
        .map(|(i, (filters, ..))| json!({"program": "opensnoop", "name": format!("p{i}"), "filters": filters}))
        .collect();
    let capture = Capture::start(&scratch, &to_jsonl(json!(probes)), &[]);
    go_a();
    go_b();
    let records = records(&capture.stop().expect(0).stdout);
    for (i, (filters, of_a, of_b)) in cases.iter().enumerate() {
        let mine = of_probe(&records, &format!("p{i}"));
        let count = |comm: &str| mine.iter().filter(|record| record["comm"] == comm).count();
        assert_eq!((count(&a), count(&b)), (*of_a, *of_b), "{filters}");
    }
}

/// Path, result and flags.
type Open = (String, i64, String);

/// Each open that the load makes, and what it saw.
fn opens_of(scratch: &Scratch, load: Calls, filters: Json) -> Option<(Vec<Open>, Vec<u64>)> {
    let mut filters = filters;
    filters["comm"] = json!(load.comm);
    let config = to_jsonl_of_busy(json!([{"program": "opensnoop", "filters": filters}]));
    let capture = Capture::start(scratch, &config, &[]);
    let saw = load.go();
    let records = records(&capture.stop().expect(0).stdout);
    let text = |record: &Json, field: &str| record[field].as_str().expect("text").to_owned();
    let open = |record| (text(record, "path"), record["ret"].as_i64().expect("a number"), text(record, "flags"));
    Some((records.iter().map(open).collect(), saw?))
}

/// By the 32-bit table (from 64-bit code, as nothing else is sure to run here) and by numbers with bits that do not count. The
/// 64-bit registers hold paths that nobody opens.
#[test]
#[cfg(target_arch = "x86_64")]
fn opens_by_other_numbers_are_seen_and_other_calls_are_not() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.write("file", "x");
    let file = file.to_str().expect("UTF-8");
    if let Some((opens, saw)) = opens_of(&scratch, Calls::new(&scratch, "compat", file), json!({})) {
        let good = opens.iter().filter(|(path, ret, _)| path == file && *ret >= 0).count();
        assert_eq!((good as u64, opens.len() as u64), (saw[1], saw[0]), "{opens:?}");
    }
    if let Some((opens, saw)) = opens_of(&scratch, Calls::new(&scratch, "numbers", file), json!({})) {
        let [opened, _, x32] = saw[..] else { panic!("{saw:?}") };
        assert!(opens.iter().all(|(path, ..)| path == file), "{opens:?}");
        let good = opens.iter().filter(|(_, ret, _)| *ret >= 0).count() as u64;
        let none = opens.iter().filter(|(_, ret, _)| *ret == -38).count() as u64;
        assert_eq!((good, none), (opened + x32, 100 - x32), "ENOSYS without x32: {opens:?}");
    }
}

#[test]
fn an_open_that_signals_interrupt_is_one_event() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("fifo");
    rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, Mode::from(0o600), 0).expect("a pipe");
    let path = path.to_str().expect("UTF-8");
    let load = Calls::new(&scratch, "interrupted", path);
    let filters = json!({"pid": load.pid()});
    let (opens, saw) = opens_of(&scratch, load, filters).expect("every machine can");
    assert_eq!(saw, [1, 1, 4], "the load");
    let [restarted, cut] = &opens[..] else { panic!("two opens: {opens:?}") };
    assert!(restarted.0 == path && restarted.1 >= 0, "{opens:?}");
    assert_eq!((cut.0.as_str(), cut.1, cut.2.split('|').next()), (path, -4, Some("rdonly")), "EINTR");
}

/// A pipe that no process writes to: the open waits, also of one who called before the capture began. Without times, syscount
/// sees as little of it.
#[test]
fn opens_that_have_not_returned_at_the_end_are_counted() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let comm: &str = unique_name().leak();
    let path = scratch.path("fifo");
    rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, Mode::from(0o600), 0).expect("a pipe");
    let open_it = |path: &std::path::Path| {
        let path = path.to_owned();
        held(comm, move || _ = open(&path, OFlags::RDONLY, Mode::empty()).expect("it opens"))
    };
    let (tid, go) = open_it(&path);
    let (other_tid, other_go) = open_it(&path);
    let waits = |tid: u32| {
        let state = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).expect("it is there");
        let number = state.split(' ').next().and_then(|number| number.parse::<i64>().ok());
        number.is_some_and(|number| number == libc::SYS_openat || number == libc::SYS_open)
    };
    let until_it_waits = |tid| wait_until("it does not wait in its open", || waits(tid));
    let first = thread::spawn(go);
    until_it_waits(tid);
    let report_path = scratch.path("report.json");
    let probes = json!([
        {"program": "opensnoop", "name": "both", "filters": {"comm": comm}},
        {"program": "opensnoop", "name": "one", "filters": {"comm": comm, "tid": {"not": tid}}},
        {"program": "opensnoop", "name": "none", "filters": {"comm": unique_name()}},
        {"program": "syscount", "name": "calls", "filters": {"comm": comm, "latency": false}},
        {"program": "syscount", "name": "no-calls", "filters": {"comm": unique_name(), "latency": false}},
    ]);
    let capture =
        Capture::start(&scratch, &to_jsonl_of_busy(probes), &["--report", report_path.to_str().expect("UTF-8")]);
    let second = thread::spawn(other_go);
    until_it_waits(other_tid);
    capture.stop().expect(0).says(&["(opens not returned at the end: 2)", "(calls not returned at the end: 2)"]);
    let report = report(&scratch);
    let under_way: Vec<Json> = (0..5).map(|probe| report["probes"][probe]["in_flight"].clone()).collect();
    assert_eq!(under_way, [2, 1, 0, 2, 0].map(|count| json!(count)));
    open(&path, OFlags::WRONLY, Mode::empty()).expect("both ends are there");
    for thread in [first, second] {
        thread.join().expect("it does not panic");
    }
}

#[test]
fn a_path_that_can_not_be_read_is_marked_and_passes_the_filter() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("cold");
    let path = path.to_str().expect("UTF-8");
    let marks = |opens: &[Open], ret| {
        let of: Vec<_> = opens.iter().filter(|open| open.1 == ret).collect();
        (of.len() as u64, of.iter().filter(|open| open.0 == "…").count() as u64)
    };
    let (opens, saw) = match opens_of(&scratch, Calls::new(&scratch, "unread", path), json!({"failed": true})) {
        Some(seen) => seen,
        None => return,
    };
    let [denied, traps, faults] = saw[..] else { panic!("{saw:?}") };
    assert_eq!(marks(&opens, -1), (denied, denied), "EPERM by seccomp: {opens:?}");
    assert_eq!(marks(&opens, -14), (faults, faults), "EFAULT: {opens:?}");
    let trapped: Vec<_> = opens.iter().filter(|open| open.1 == -38).collect();
    assert_eq!(trapped.len() as u64, traps, "{opens:?}");
    assert!(trapped.iter().all(|open| open.0 == path && open.2.is_empty()), "flags that were not read: {trapped:?}");
    let load = Calls::new(&scratch, "unread", path);
    let (opens, _) = opens_of(&scratch, load, json!({"path_prefix": "/no/such"})).expect("it could before");
    assert_eq!(opens.len() as u64, denied + faults, "what can't be judged: {opens:?}");
}
