//! Windows as cron has them: the line of the crontab, run as it stands.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::common::{BINARY, Scratch, run};
use crate::load::unique_name;
use crate::root;

#[test]
fn a_line_of_cron_says_nothing_while_all_is_well_and_reports_add_up() {
    if !root() {
        return;
    }
    // Not in a folder for temporary files: those are refused
    let scratch = Scratch::within(Path::new("/var/lib"));
    let config = json!({
        "version": 1, "name": "often", "max_loss": "100%",
        "window": {"duration": "300ms", "lock": scratch.path("lock")}, "schedule": {"every": "1min"},
        "probes": [{"program": "execsnoop", "filters": {"comm": unique_name()}}],
        "sinks": {"out": {"type": "csv", "path": scratch.path("it's 100% {{ start | date('%H%M%S%f') }}.csv")}},
    });
    let path = scratch.write("often.yaml", config.to_string());
    let report = scratch.path("{{ name }}-{{ start | date('%s') }}.json");
    let mut command = Command::new(BINARY);
    command.args(["emit", "cron"]).arg(path).args(["--binary", "/usr/bin/ebpf-run", "--report"]).arg(report);
    let crontab = run(&mut command).expect(0).stdout;
    let line = crontab.lines().find_map(|line| line.strip_prefix("* * * * * root ")).expect("a line for each minute");
    let shell = line.replace("\\%", "%").replace("/usr/bin/ebpf-run", BINARY);
    for window in 0..2 {
        let ended = run(Command::new("/bin/sh").args(["-c", &shell])).expect(0);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""), "window {window}");
        std::thread::sleep(Duration::from_millis(1200));
    }
    let files = std::fs::read_dir(scratch.path("")).expect("it is there").map(|entry| entry.expect("an entry").path());
    let of = |ending: &'static str| files_of(&scratch, ending);
    assert_eq!((files.count(), of("csv").len(), of("json").len()), (6, 2, 2), "with the config and the lock");
    let sum = run(Command::new(BINARY).args(["report", "--json"]).args(of("json"))).expect(0);
    let sum: Json = serde_json::from_str(&sum.stdout).expect("JSON");
    let capture = &sum["captures"][0];
    assert_eq!((&capture["name"], &capture["windows"], &capture["failed"]), (&json!("often"), &json!(2), &json!([])));
    let gap = capture["gaps"][0]["nanoseconds"].as_u64().expect("they are of one boot");
    assert!(gap >= 1_000_000_000, "{gap}");
    // And something is said when it is not well
    std::fs::remove_file(scratch.path("often.yaml")).expect("it is there");
    run(Command::new("/bin/sh").args(["-c", &shell])).expect(2).says(&["often.yaml"]);
}

fn files_of(scratch: &Scratch, ending: &str) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(scratch.path("")).expect("it is there").map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}
