//! What the host holds may be anything: lines of its user database, its name, the name of the runner's own command.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::capture::{Capture, records, report, to_jsonl};
use crate::common::{BINARY, Scratch, copy_program, run};
use crate::load::copy_of;
use crate::root;

/// A user and a group of the test's own.
const NUMBER: u32 = 54_321;

/// What is to be followed by a command that runs in namespaces of its own, where the shell command `change` was run with
/// `args` as `$1`, `$2`. `None` where there are no such namespaces.
fn within(namespace: &str, change: &str, args: [&OsStr; 2]) -> Option<Command> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args([namespace, "sh", "-c", script, "sh"]).args(args);
        command
    };
    if run(unshare(change).arg("true")).code != Some(0) {
        eprintln!("SKIPPED: no namespace of its own ({namespace}) can be made here");
        return None;
    }
    Some(unshare(&format!("{change} && shift 2 && exec \"$@\"")))
}

#[test]
fn users_and_groups_are_found_between_lines_that_are_not_utf_8() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let long = "x".repeat(1 << 16);
    let odd = |what: &str| -> Vec<u8> {
        let entry = format!("ebpf-run-{what}:x:{NUMBER}:{NUMBER}::/:/bin/false\n");
        let lines = [b"j\xf6rg:x:1500:1500:J\xf6rg:/:/bin/sh\n", long.as_bytes(), b"\n\0\0\n+nis\n", entry.as_bytes()];
        lines.concat().into_iter().chain(*b"last:x").collect()
    };
    let (users, groups) = (scratch.write("passwd", odd("user")), scratch.write("group", odd("group")));
    let databases = [users.as_os_str(), groups.as_os_str()];
    let bind = "mount --bind \"$1\" /etc/passwd && mount --bind \"$2\" /etc/group";
    let Some(wrapper) = within("--mount", bind, databases) else { return };
    let (program, _) = copy_of(&scratch, "true");
    let mut config = to_jsonl(json!([{"program": "execsnoop", "filters": {"uid": "ebpf-run-user"}}]));
    let path = scratch.path("out.jsonl");
    config["sinks"]["out"] =
        json!({"type": "jsonl", "path": path, "owner": "ebpf-run-user", "group": "ebpf-run-group"});
    let capture = Capture::start_in(wrapper, &scratch, &config, &[]);
    assert!(Command::new(&program).uid(NUMBER).status().expect("it runs").success());
    assert!(Command::new(&program).status().expect("it runs").success());
    capture.stop().expect(0);
    let found = records(&fs::read_to_string(&path).expect("it is there"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["uid"], NUMBER);
    let file = fs::metadata(&path).expect("it is there");
    assert_eq!((file.uid(), file.gid()), (NUMBER, NUMBER));
}

#[test]
fn the_host_s_name_leads_no_path_elsewhere() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("out")).expect("a directory");
    let odd = OsStr::from_bytes(b"../up/\xff\n{{name}}");
    let Some(wrapper) = within("--uts", "printf %s \"$1\" > /proc/sys/kernel/hostname", [odd, odd]) else { return };
    let mut config = to_jsonl(json!([{"program": "execsnoop", "filters": {"comm": "no-such-comm"}}]));
    config["sinks"]["out"]["path"] = json!(format!("{}/{{{{ host }}}}.jsonl", scratch.path("out").display()));
    let report_path = scratch.path("report.json").display().to_string();
    Capture::start_in(wrapper, &scratch, &config, &["--report", &report_path]).stop().expect(0);
    let names: Vec<_> =
        fs::read_dir(scratch.path("out")).expect("it is there").map(|entry| entry.unwrap().file_name()).collect();
    let host = report(&scratch)["host"]["name"].as_str().expect("text").to_owned();
    assert_eq!(names, [format!("{host}.jsonl").as_str()]);
    assert!(host.starts_with("_._up_") && !host.contains('/'), "{host}");
    assert!(!scratch.path("up").exists());
}

#[test]
fn the_runner_s_own_command_may_be_called_anything() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    // The kernel keeps 15 bytes, and so half of the last letter
    let program = scratch.path("ebpf-run-xxxxxé");
    copy_program(BINARY.as_ref(), &program);
    let (load, comm) = copy_of(&scratch, "true");
    let config = to_jsonl(json!([{"program": "execsnoop", "filters": {"comm": comm}}]));
    // A signal that it was started to ignore (nohup) stays ignored
    let mut wrapper = Command::new("sh");
    wrapper.args(["-c", "trap '' HUP; program=$1; shift 2; exec \"$program\" \"$@\"", "sh"]).arg(&program);
    let capture = Capture::start_in(wrapper, &scratch, &config, &["--max-events", "1"]);
    capture.signal(Signal::HUP);
    assert!(Command::new(&load).status().expect("it runs").success());
    let ended = capture.wait().expect(0);
    assert_eq!(records(&ended.stdout).len(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("interrupted"), "{}", ended.stderr);
}
