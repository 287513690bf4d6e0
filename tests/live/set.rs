//! What goes over a config's own file reaches the kernel: defaults of an included file, and `--set` over them.

use std::fs;
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::capture::{Capture, of_probe, records, report};
use crate::common::Scratch;
use crate::load::copy_of;
use crate::root;

#[test]
fn an_argument_changes_the_filter_that_a_program_is_loaded_with() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (first, first_comm) = copy_of(&scratch, "true");
    let (second, second_comm) = copy_of(&scratch, "true");
    let team = json!({
        "part": true, "defaults": {"filters": {"comm": first_comm}}, "sinks": {"out": {"type": "jsonl"}},
    });
    scratch.write("team.yaml", format!("version: 1\n{}", serde_yaml::to_string(&team).expect("YAML")));
    let probes = json!([{"program": "execsnoop", "name": "set"}, {"program": "exitsnoop", "name": "left"}]);
    let config = json!({"version": 1, "include": "team.yaml", "probes": probes});
    let set = format!("probes.set.filters.comm={second_comm}");
    let path = scratch.path("report.json").display().to_string();
    let capture = Capture::start(&scratch, &config, &["--set", &set, "--report", &path]);
    for program in [&first, &second] {
        assert!(Command::new(program).status().expect("it runs").success());
    }
    let ended = capture.stop().expect(0);
    let records = records(&ended.stdout);
    let comms = |probe: &str| -> Vec<String> {
        of_probe(&records, probe).iter().map(|record| record["comm"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(comms("set"), [second_comm], "{}", ended.stdout);
    assert_eq!(comms("left"), [first_comm], "{}", ended.stdout);
    let hash = Sha256::digest(fs::read(scratch.path("team.yaml")).expect("it is there"));
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let included = json!([{"path": scratch.path("team.yaml"), "sha256": hash}]);
    let config = &report(&scratch)["config"];
    assert_eq!((&config["included"], &config["set"]), (&included, &json!([set])));
}
