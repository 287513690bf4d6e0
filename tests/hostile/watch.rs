//! What is known of a run from outside, while it lasts and when it has ended.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use libc::pid_t;

use crate::attackers::descendants;
use crate::place::DECOY;

/// How long the kernel may keep BPF objects after their last use.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Program,
    Map,
    Link,
}

/// The memory and the BPF objects of a run and its children.
#[derive(Debug, Default)]
pub struct Watch {
    /// The largest `VmHWM` of the runner and of one of its children, bytes.
    pub runner: u64,
    pub child: u64,
    /// Numbers of BPF objects, which the kernel does not use again.
    pub objects: BTreeSet<(Kind, u32)>,
}

impl Watch {
    pub fn sample(&mut self, pid: pid_t) {
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
        for each in std::iter::once(pid).chain(descendants(pid)) {
            let name = fs::read(format!("/proc/{each}/comm")).unwrap_or_default();
            if name.strip_suffix(b"\n") == Some(DECOY.as_bytes()) {
                continue;
            }
            let of_children = each != pid && program == fs::read_link(format!("/proc/{each}/exe")).ok();
            let peak = peak(each);
            if of_children {
                self.child = self.child.max(peak);
            } else if name != b"unshare\n" {
                self.runner = self.runner.max(peak);
            }
            self.objects.extend(objects(each));
        }
    }

    /// Objects that are still there though the run has ended.
    pub fn left(&self) -> Vec<(Kind, u32)> {
        let until = Instant::now() + GRACE;
        loop {
            let left: Vec<_> = self.objects.iter().copied().filter(|(kind, id)| exists(*kind, *id)).collect();
            if left.is_empty() || Instant::now() > until {
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn peak(pid: pid_t) -> u64 {
    let status = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}

fn objects(pid: pid_t) -> Vec<(Kind, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
        for line in fs::read_to_string(entry.path()).unwrap_or_default().lines() {
            let kinds = [("prog_id:", Kind::Program), ("map_id:", Kind::Map), ("link_id:", Kind::Link)];
            found.extend(
                kinds.iter().filter_map(|(key, kind)| Some((*kind, line.strip_prefix(key)?.trim().parse().ok()?))),
            );
        }
    }
    found
}

fn exists(kind: Kind, id: u32) -> bool {
    let mut next = 0;
    // SAFETY: `next` is a valid place for the result
    let result = unsafe {
        match kind {
            Kind::Program => libbpf_sys::bpf_prog_get_next_id(id - 1, &raw mut next),
            Kind::Map => libbpf_sys::bpf_map_get_next_id(id - 1, &raw mut next),
            Kind::Link => libbpf_sys::bpf_link_get_next_id(id - 1, &raw mut next),
        }
    };
    result == 0 && next == id
}

/// Where each thread of a process waits, for a report of one that does not end.
pub fn threads(pid: pid_t) -> String {
    let mut text = String::new();
    for each in std::iter::once(pid).chain(descendants(pid)) {
        for entry in fs::read_dir(format!("/proc/{each}/task")).into_iter().flatten().flatten() {
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let [comm, wchan, syscall] =
                ["comm", "wchan", "syscall"].map(|name| String::from_utf8_lossy(&read(name)).into_owned());
            let number = syscall.split_whitespace().next().unwrap_or_default();
            text += &format!("  {each} {}: system call {number}, waits in {wchan}\n", comm.trim_end());
        }
    }
    text
}
