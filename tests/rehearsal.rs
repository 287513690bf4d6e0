//! `ebpf-run test`: records of a fixture through a config's sinks. Requires neither root nor eBPF.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{BINARY, Ended, Scratch, run};

const CONFIG: &str = "\
version: 1
name: t
probes:
  - {program: biosnoop, name: io}
  - {program: syscount, name: calls, sinks: [drawn]}
sinks:
  log: {type: jsonl, fields: [time, comm, op]}
  drawn: {type: stdout, path: /dev/null, header: \"{{ name }} on {{ host }}\"}
  table: {type: csv, path: /nowhere/at/all, columns: [comm, {at: \"{{ time | clock }}\"}]}
";

fn folder(fixture: &str) -> Scratch {
    let scratch = Scratch::new();
    let config = CONFIG.replace("name: io}", "name: io, sinks: [log, table]}");
    scratch.write("t.yaml", config);
    scratch.write("t.fixture.jsonl", fixture);
    scratch
}

fn test(scratch: &Scratch, args: &[&str]) -> Ended {
    // A time zone that is not UTC must not affect the output
    let mut command = Command::new(BINARY);
    run(command.arg("test").arg(scratch.path("t.yaml")).args(args).env("TZ", "Asia/Tokyo"))
}

const FIXTURE: &str = "\
{\"probe\":\"io\",\"ts\":1500000000,\"comm\":\"a\\u001b[31m\\uefff\",\"op\":\"write\"}
{\"probe\":\"calls\",\"ts\":2000000000,\"syscall\":\"read\",\"calls\":7}
";

#[test]
fn what_is_expected_is_written_and_compared() {
    let scratch = folder(FIXTURE);
    test(&scratch, &[]).expect(2).says(&["no expected output for sink", "test --update"]);
    test(&scratch, &["--update"]).expect(0).says(&[
        "wrote ",
        "t.expected.log.jsonl",
        "1 of 1 config as expected (2 records",
    ]);
    let read = |name: &str| fs::read_to_string(scratch.path(name)).expect("it was written");
    let log = "{\"time\":\"2026-01-01T00:00:01.500000000Z\",\"comm\":\"a\\u001b[31m\u{efff}\",\"op\":\"write\"}\n";
    assert_eq!(read("t.expected.log.jsonl"), log, "bytes as JSON Lines write them");
    assert_eq!(read("t.expected.table.csv"), "comm,at\na\u{1b}[31m\u{efff},00:00:01.500000\n");
    assert!(read("t.expected.drawn.txt").starts_with("t on host\n00:00:02.000000 calls\n"), "a drawing");
    let ended = test(&scratch, &[]).expect(0);
    assert_eq!(ended.stdout, "");

    scratch.write("t.fixture.jsonl", FIXTURE.replace("write", "read"));
    scratch.write("t.expected.old.csv", "");
    let ended = test(&scratch, &[]).expect(1).says(&["0 of 1 config", "1 different", "--update"]);
    for line in [
        "\n+++ as it is rendered now\n",
        "\n-{\"time\":",
        "\"op\":\"write\"}\n+{\"time\":",
        "expected.old.csv: no sink",
    ] {
        assert!(ended.stdout.contains(line), "{line}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains('\u{1b}'), "nothing that a terminal obeys");
}

#[test]
fn a_fixture_that_does_not_fit_is_told_line_by_line() {
    let scratch = folder("{\"probe\":\"io\",\"comn\":\"x\"}\n{\"probe\":\"oi\"}\n{\"probe\":\"calls\",\"calls\":-1}\n");
    let ended = test(&scratch, &["--update"]).expect(2).says(&["1 could not be tested"]);
    let path = scratch.path("t.fixture.jsonl").display().to_string();
    for what in [
        ":1: field `comn`: there is no such field, did you mean `comm`?",
        ":2: `probe`: there is no probe `oi`, did you mean `io`?",
        ":3: field `calls`: must be a whole number from 0 to 18446744073709551615, not -1",
    ] {
        assert!(ended.stdout.contains(&format!("{path}{what}")), "{what}: {}", ended.stdout);
    }
    assert!(!scratch.path("t.expected.log.jsonl").exists(), "nothing is written of what is wrong");
}

#[test]
fn a_config_without_records_says_how_to_make_some() {
    let scratch = folder("");
    test(&scratch, &[]).expect(2);
    fs::remove_file(scratch.path("t.fixture.jsonl")).expect("it is there");
    let says = [
        "no records to test the config with",
        "t.fixture.jsonl",
        "hint: a record is a line such as {\"probe\":\"io\",\"comm\":",
    ];
    test(&scratch, &[]).expect(2).says(&says);
    let folder = scratch.path("").display().to_string();
    run(Command::new(BINARY).args(["test", &folder])).expect(2).says(&["none of 1 config"]);
    scratch.write("t.fixture.jsonl", "{\"probe\":\"io\"}\n");
    run(Command::new(BINARY).args(["test", "--update", &folder])).expect(0).says(&["no record of probe `calls`"]);
    scratch.write("u.yaml", "version: 1\nprobes: []\n");
    run(Command::new(BINARY).args(["test", &folder])).expect(0);
    run(Command::new(BINARY).args(["test", &folder]).arg(scratch.path("u.yaml"))).expect(2);
}

#[test]
fn a_sink_for_each_probe_has_a_file_for_each_and_values_can_be_set() {
    let scratch = folder(FIXTURE);
    let config = "version: 1\nlabels: {site: \"${EBPF_RUN_TEST_SITE}\"}\n\
                  probes: [{program: biosnoop, name: io}, {program: syscount, name: calls}]\n\
                  sinks:\n  \"a/b\": {type: jsonl, path: \"/x/{{ probe }}.jsonl\", fields: [ts, {site: \"{{ labels.site }}\"}]}\n";
    scratch.write("t.yaml", config);
    test(&scratch, &["--update"]).expect(2).says(&["EBPF_RUN_TEST_SITE"]);
    test(&scratch, &["--update", "--set", "labels.site=lab"]).expect(0).says(&["(2 records, 2 sinks)"]);
    let read = |name: &str| fs::read_to_string(scratch.path(name)).expect(name);
    assert_eq!(read("t.expected.a%2Fb.io.jsonl"), "{\"ts\":1500000000,\"site\":\"lab\"}\n");
    assert_eq!(read("t.expected.a%2Fb.calls.jsonl"), "{\"ts\":2000000000,\"site\":\"lab\"}\n");
    let path = scratch.path("t.yaml");
    let mut command = Command::new(BINARY);
    run(command.arg("test").arg(path).env("EBPF_RUN_TEST_SITE", "lab")).expect(0);
    test(&scratch, &["--set", "labels.site=field"]).expect(1);
}

#[test]
fn expected_output_is_not_written_through_a_link() {
    let scratch = folder(FIXTURE);
    let target = scratch.write("precious", "mine");
    std::os::unix::fs::symlink(&target, scratch.path("t.expected.log.jsonl")).expect("a link");
    test(&scratch, &["--update"]).expect(1).says(&["can't write"]);
    assert_eq!(fs::read_to_string(target).expect("it is there"), "mine");
}

#[test]
fn the_fixture_of_the_guide_is_one() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(here.join(path)).expect(path);
    let guide = read("docs/reference/test.md");
    let fixture = guide.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("there is one");
    let scratch = Scratch::new();
    scratch.write("t.yaml", read("examples/io-and-exec.yaml"));
    scratch.write("t.fixture.jsonl", fixture);
    test(&scratch, &["--update"]).expect(0).says(&["1 of 1 config as expected (2 records, 3 sinks)"]);
    test(&scratch, &[]).expect(0);
}

#[test]
fn our_own_configs_render_as_expected() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ended = run(Command::new(BINARY).current_dir(here).args(["test", "probes.d", "examples"])).expect(0);
    assert!(ended.stderr.starts_with("ebpf-run: ") && ended.stderr.contains(" as expected"), "{}", ended.stderr);
}
