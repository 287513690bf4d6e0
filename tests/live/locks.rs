//! Two runs of one config: what keeps them apart, and in order.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::json;

use crate::capture::{Capture, report, summary};
use crate::common::{BINARY, Scratch};
use crate::root;
use crate::windows::{calls, run_config, windowed};

#[test]
fn of_two_runs_with_one_lock_the_second_is_skipped() {
    if !root() {
        return;
    }
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let (mut config, comm) = windowed(json!({"lock": scratch.path("{{ name }}.lock")}));
    let first = Capture::start(&scratch, &config, &[]);
    let holder = format!("(process {})", first.pid());
    let skipped = run_config(&other, &config, &[]).expect(6);
    assert!(skipped.stderr.starts_with("ebpf-run: skipped: another run"), "{}", skipped.stderr);
    skipped.says(&[&holder, "config.lock"]);
    assert_eq!(run_config(&other, &config, &["--quiet"]).expect(6).stderr, "", "cron has nothing to mail");
    config["window"]["on_locked"] = json!("fail");
    run_config(&other, &config, &["--quiet"]).expect(1).says(&["error: another run", &holder, "hint: "]);
    calls(&comm, 3);
    let ended = first.stop().expect(0);
    assert_eq!(summary(&ended, "calls"), [3, 3, 0], "nobody disturbed it");
    let stat = fs::metadata(scratch.path("config.lock")).expect("it stays");
    assert_eq!((stat.permissions().mode() & 0o777, stat.uid()), (0o600, 0));
    run_config(&other, &config, &["--duration", "100ms"]).expect(0); // and it is free again
}

/// Of runs that ask for it at the same moment one has it.
#[test]
fn of_runs_that_start_together_one_has_the_lock() {
    if !root() {
        return;
    }
    let held = Scratch::new();
    let (config, _) = windowed(json!({"lock": held.path("lock"), "duration": "3s"}));
    let config = held.write("config.yaml", config.to_string());
    let start = || Command::new(BINARY).arg(&config).arg("--quiet").spawn().expect("it starts");
    let mut runs = [start(), start(), start(), start()];
    let mut codes = runs.each_mut().map(|run| run.wait().expect("it ends").code());
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(6), Some(6), Some(6)]);
}

#[test]
fn runs_that_wait_for_the_lock_follow_each_other() {
    if !root() {
        return;
    }
    let scratches = [Scratch::new(), Scratch::new()];
    let (config, _) = windowed(json!({"lock": scratches[0].path("lock"), "on_locked": "wait", "duration": "1s"}));
    let path = |i: usize| scratches[i].path("report.json").to_str().expect("UTF-8").to_owned();
    let first = Capture::start(&scratches[0], &config, &["--report", &path(0)]);
    let second = thread::scope(|scope| {
        let second = scope.spawn(|| run_config(&scratches[1], &config, &["--report", &path(1)]));
        first.wait().expect(0);
        second.join().expect("it does not panic")
    });
    second.expect(0).says(&["waiting for another run (process "]);
    let time = |i: usize, key: &str| report(&scratches[i])["window"][key].as_u64().expect("ns");
    assert!(time(0, "end_monotonic_ns") < time(1, "start_monotonic_ns"));
}

#[test]
fn a_lock_that_others_could_hold_or_lead_astray_is_refused() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let refused = |lock: &Path| {
        let (config, _) = windowed(json!({"lock": lock, "duration": "1s"}));
        run_config(&scratch, &config, &[]).expect(1).says(&["the lock ", "can't be used", "hint: "])
    };
    symlink("/etc/passwd", scratch.path("link")).expect("a link");
    refused(&scratch.path("link")).says(&["symbolic link"]);
    scratch.write("taken", "");
    std::os::unix::fs::chown(scratch.path("taken"), Some(12345), None).expect("root may");
    refused(&scratch.path("taken")).says(&["belongs to user 12345"]);
    fs::create_dir(scratch.path("open")).expect("a folder");
    scratch.set_mode("open", 0o777);
    refused(&scratch.path("open/lock")).says(&["every user can write to the directory"]);
    refused(&scratch.path("no/lock")).says(&["there is no directory"]);
    // What holds something else than a lock does is none, and stays what it is
    let precious = scratch.write("precious.yaml", "version: 1\n");
    refused(&precious).says(&["it has other content"]);
    fs::write(scratch.path("empty"), "").expect("a file");
    fs::hard_link(scratch.path("empty"), scratch.path("other")).expect("a name");
    refused(&scratch.path("other")).says(&["several hard links"]);
    assert_eq!(fs::read_to_string(precious).expect("it is there"), "version: 1\n");
}
