//! What overrides a config's own file reaches the kernel: defaults of an included file, `--set`, `--filter` and `--output`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// A shell that opens `file`, and one beside it that is not there, when [`open`](Self::open) lets it.
struct Opener(Child);

impl Opener {
    fn new(file: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "read line; read line <\"$0\"; read line <\"$0.missing\"; exit 0"]).arg(file);
        Opener(shell.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a shell"))
    }

    fn open(mut self) {
        self.0.stdin.take().expect("it is piped").write_all(b"\n").expect("it waits");
        assert!(self.0.wait().expect("it ends").success());
    }
}

#[test]
fn the_name_of_a_program_with_a_filter_and_json_is_a_whole_command_line() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.write("file", "x\n");
    let (one, other) = (Opener::new(&file), Opener::new(&file));
    let (filter, report_path) = (format!("pid={}", one.0.id()), scratch.path("report.json").display().to_string());
    let args = ["opensnoop", "--filter", &filter, "--json", "--report", &report_path];
    let capture = Capture::start_with(&args);
    let pid = one.0.id();
    one.open();
    other.open();
    let ended = capture.stop().expect(0);
    let records = records(&ended.stdout);
    assert!(records.iter().all(|record| record["pid"] == pid), "{}", ended.stdout);
    let result = |path: String| {
        let found = records.iter().find(|record| record["path"] == path.as_str());
        found.unwrap_or_else(|| panic!("{path} is not in {}", ended.stdout))["ret"].as_i64().expect("a number")
    };
    let path = file.display().to_string();
    assert!(result(path.clone()) >= 0, "an open that worked");
    assert_eq!(result(format!("{path}.missing")), -2, "one that failed");
    let config = &report(&scratch)["config"];
    assert_eq!(
        (&config["filter"], &config["output"], &config["set"]),
        (&json!([filter]), &json!("--json"), &json!([]))
    );
}

#[test]
fn records_go_to_the_file_of_an_output_and_not_to_the_sinks_of_the_config() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    for (name, begins) in [("out.csv", "time,ts,"), ("out.jsonl", "{"), ("out.txt", "TIME ")] {
        let file = scratch.write("file", "x\n");
        let opener = Opener::new(&file);
        let (filter, path) = (format!("pid={}", opener.0.id()), scratch.path(name).display().to_string());
        let capture = Capture::start_with(&["opensnoop", "-f", &filter, "-o", &path]);
        opener.open();
        let ended = capture.stop().expect(0);
        assert_eq!(ended.stdout, "", "{name}");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.starts_with(begins) && text.contains(&format!("{}.missing", file.display())), "{name}: {text}");
    }
}
