//! The filters that every program with a task has: by value, by list, turned round, by name, by cgroup.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::{BINARY, NOBODY, Scratch, run};
use crate::load::{Held, copy_of, unique_name};
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

/// A filter on what is not there would be mistaken for silence.
#[test]
fn names_that_this_machine_does_not_have_are_errors() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    for (filters, says) in [
        (json!({"uid": "no-such-user"}), "filter `uid`: there is no user `no-such-user`"),
        (json!({"cgroup": "/no/such/group"}), "filter `cgroup`: there is no cgroup `/no/such/group` here now"),
        (json!({"unit": "no-such-unit"}), "filter `unit`: the unit `no-such-unit.service` has no cgroup here now"),
    ] {
        let config = to_jsonl(json!([{"program": "execsnoop", "filters": filters}]));
        let config = scratch.write("config.yaml", config.to_string());
        run(Command::new(BINARY).arg(config)).expect(1).says(&[says, "hint: "]);
    }
}
