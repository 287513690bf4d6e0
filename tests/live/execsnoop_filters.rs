//! Every filter of `execsnoop`, each set in the ways in which it can be, over the same load.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::{NOBODY, Scratch};
use crate::load::{Held, copy_of, has_tracepoint, unique_name};
use crate::root;

#[test]
fn every_filter_lets_through_what_it_names() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = copy_of(&scratch, "true");
    let (shell, caller) = copy_of(&scratch, "sh");
    let other = unique_name();
    // Three processes, each with one call: by root, by root in vain, and by somebody else
    let works = Held::new(&shell, &program, ["a"]);
    let fails = Held::new(&shell, Path::new("/no/such/program"), ["b"]);
    let (a, b, own) = (works.pid(), fails.pid(), std::process::id());
    let (w, f, n) = ("works", "fails", "nobody's");
    let both = json!([comm, caller]);
    let cases: Vec<(Json, Vec<&str>)> = vec![
        (json!({}), vec![w, f, n]),
        (json!({"comm": both}), vec![w, f, n]),
        (json!({"comm": comm}), vec![w, n]),
        (json!({"comm": caller}), vec![f]), // after a failure the caller is still what it was
        (json!({"comm": other}), vec![]),
        (json!({"comm": comm[..comm.len() - 1]}), vec![]),
        (json!({"pid": a}), vec![w]),
        (json!({"pid": [own, a, b]}), vec![w, f]),
        (json!({"pid": [own, 0]}), vec![]),
        (json!({"uid": 0, "comm": both}), vec![w, f]),
        (json!({"uid": NOBODY, "comm": both}), vec![n]),
        (json!({"uid": [NOBODY, 0], "comm": both}), vec![w, f, n]),
        (json!({"uid": 4_294_967_294_u32, "comm": both}), vec![]),
        (json!({"failed": true, "comm": both}), vec![f]),
        (json!({"failed": false, "comm": both}), vec![w, n]),
        (json!({"failed": false, "uid": 0, "pid": [a, b], "comm": both}), vec![w]),
    ];
    let probe = |(i, (filters, _)): (usize, &(Json, Vec<&str>))| {
        let size = if i == 0 { "8MiB" } else { "64KiB" }; // the one without a filter sees the whole machine
        json!({"program": "execsnoop", "name": format!("p{i}"), "filters": filters, "buffer": {"size": size}})
    };
    let probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
    let capture = Capture::start(&scratch, &to_jsonl(json!(probes)), &[]);
    assert_eq!(works.go(), Some(0));
    assert_eq!(fails.go(), Some(127));
    let mut nobody = Command::new(&program).uid(NOBODY).gid(NOBODY).spawn().expect("it runs");
    nobody.wait().expect("it ends");
    let who =
        |pid: &Json| [(a, w), (b, f), (nobody.id(), n)].iter().find(|(known, _)| pid == known).map(|(_, who)| *who);

    let ended = capture.stop().expect(0);
    // Kernels before 6.10 have one less
    let hooks = if has_tracepoint("sched_prepare_exec") { 5 } else { 4 };
    let all = |name: &str| format!("{name} (execsnoop, {hooks} hooks)");
    for name in [all("p12"), all("p13"), "p14 (execsnoop, 2 hooks)".to_owned()] {
        assert!(ended.stderr.contains(&name), "a hook that is not needed is left out: {}", ended.stderr);
    }
    let records = records(&ended.stdout);
    for (i, (filters, expected)) in cases.iter().enumerate() {
        let mut records = of_probe(&records, &format!("p{i}"));
        if i == 0 {
            records.retain(|record| who(&record["pid"]).is_some());
        }
        let mut actual: Vec<&str> =
            records.iter().map(|record| who(&record["pid"]).unwrap_or("a stranger's")).collect();
        actual.sort_unstable();
        assert_eq!(actual.iter().collect::<BTreeSet<_>>().len(), actual.len(), "{filters}: one is there twice");
        assert_eq!(BTreeSet::from_iter(actual), BTreeSet::from_iter(expected.iter().copied()), "{filters}");
        for record in records {
            assert_eq!(record["ret"] == 0, who(&record["pid"]) != Some(f), "{filters}: {record}");
        }
    }
}
