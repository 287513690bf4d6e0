//! Consumers of the flood: the bare reader, `ebpf-run` with each buffer and sink, other tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value as Json, json};

use crate::{COMM, load};

/// The config whose buffer and template are measured.
const SHIPPED: &str = include_str!("../../probes.d/opensnoop.yaml");

/// Which consumers are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The bare reader, `ebpf-run` with its three shapes of records.
    Ours,
    /// The same, and other tools.
    Tools,
    /// The bare reader, and `ebpf-run` with every buffer and wakeup.
    Policies,
}

/// One of them.
pub struct Consumer {
    pub name: String,
    pub start: Box<dyn Fn() -> Child>,
    /// The text on standard error when it is ready; `None`: no such text, so it gets a fixed time.
    pub ready: Option<&'static str>,
    /// The number of records that arrived, from standard output.
    pub arrived: Box<dyn Fn(&str) -> u64>,
}

pub fn all(family: Family, folder: &Path, own: &Path) -> Vec<Consumer> {
    let shipped: Json = serde_yaml::from_str(SHIPPED).expect("YAML");
    let buffer = &shipped["probes"][0]["buffer"];
    let mut all = vec![bare(folder, own, buffer)];
    if family == Family::Policies {
        all.extend(policies(buffer).iter().map(|buffer| {
            let words = buffer.to_string().replace('"', "");
            ours(folder, &format!("jsonl, {words}"), buffer, json!({"type": "jsonl"}))
        }));
        return all;
    }
    let template = &shipped["sinks"]["screen"]["template"];
    for (name, sink) in [
        ("JSON Lines", json!({"type": "jsonl"})),
        ("CSV", json!({"type": "csv"})),
        ("its template", json!({"type": "stdout", "template": template})),
    ] {
        all.push(ours(folder, name, buffer, sink));
    }
    if family == Family::Tools {
        all.extend(peers(folder));
    }
    all
}

/// Every wakeup for each type of buffer, with the size of `buffer`.
fn policies(buffer: &Json) -> Vec<Json> {
    let wakeups = [
        json!("auto"),
        json!("adaptive"),
        json!("every_event"),
        json!({"events": 64}),
        json!({"bytes": "256KiB"}),
        json!({"interval": "10ms"}),
    ];
    let mut all = vec![json!({"type": "ringbuf", "submit": "output", "wakeup": "auto"})];
    for kind in ["ringbuf", "perfbuf"] {
        // A perf buffer has no adaptive wakeups
        let wakeups = wakeups.iter().filter(|wakeup| kind == "ringbuf" || **wakeup != json!("adaptive"));
        all.extend(wakeups.map(|wakeup| json!({"type": kind, "wakeup": wakeup})));
    }
    for policy in &mut all {
        policy["size"] = buffer["size"].clone();
    }
    all
}

fn config(folder: &Path, name: &str, buffer: &Json, mut sink: Json) -> (PathBuf, PathBuf) {
    let stem: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let (path, out) = (folder.join(format!("{stem}.yaml")), folder.join(format!("{stem}.out")));
    sink["path"] = json!(out);
    let config = json!({
        "version": 1,
        "max_loss": "100%",
        "probes": [{"program": "opensnoop", "filters": {"comm": COMM}, "buffer": buffer}],
        "sinks": {"out": sink},
    });
    fs::write(&path, config.to_string()).expect("written");
    (path, out)
}

fn bare(folder: &Path, own: &Path, buffer: &Json) -> Consumer {
    let (config, _) = config(folder, "bare", buffer, json!({"type": "jsonl"}));
    let own = own.to_owned();
    Consumer {
        name: "bare: counts only".into(),
        start: Box::new(move || spawn(Command::new(&own).arg("bare").arg(&config).stdin(Stdio::piped()))),
        ready: Some("attached"),
        arrived: Box::new(|stdout| stdout.trim().parse().unwrap_or(0)),
    }
}

fn ours(folder: &Path, name: &str, buffer: &Json, sink: Json) -> Consumer {
    let (path, out) = config(folder, name, buffer, sink);
    Consumer {
        name: format!("ebpf-run: {name}"),
        start: Box::new(move || spawn(Command::new(env!("CARGO_BIN_EXE_ebpf-run")).arg(&path))),
        ready: Some("attached"),
        arrived: Box::new(move |_| records(&out)),
    }
}

/// Other tools, to a text file as well.
fn peers(folder: &Path) -> Vec<Consumer> {
    let script = format!(
        "tracepoint:syscalls:sys_enter_openat /comm == \"{COMM}\"/ {{ @path[tid] = args->filename; }} \
         tracepoint:syscalls:sys_exit_openat /@path[tid]/ {{ printf(\"%lld %d %s %d %s\\n\", nsecs, pid, comm, \
         args->ret, str(@path[tid])); delete(@path[tid]); }}"
    );
    let peers: [(&str, Vec<String>); 2] =
        [("bpftrace", vec!["-e".into(), script]), ("opensnoop", vec!["-n".into(), COMM.into()])];
    let mut found = Vec::new();
    for (tool, args) in peers {
        let Some(path) = ["/usr/bin", "/usr/sbin"].iter().map(|dir| Path::new(dir).join(tool)).find(|p| p.exists())
        else {
            println!("{tool}: skipped, it is not installed");
            continue;
        };
        let out = folder.join(format!("{tool}.out"));
        let file = out.clone();
        let start = move || {
            let stdout = fs::File::create(&file).expect("a file");
            let mut command = Command::new(&path);
            command.args(&args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().expect("it starts")
        };
        let arrived = Box::new(move |_: &str| records(&out));
        found.push(Consumer { name: tool.into(), start: Box::new(start), ready: None, arrived });
    }
    found
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// Counts the records of the flood in a file and deletes it: pending writes to the disk would slow the next consumer.
fn records(path: &Path) -> u64 {
    let text = fs::read(path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.split(|&byte| byte == b'\n').filter(|line| load::is_record(line)).count() as u64
}
