//! `opensnoop`: every way to open a file, and every filter.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::thread::{self, JoinHandle};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, open, openat2, statat};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::Scratch;
use crate::load::unique_name;
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
