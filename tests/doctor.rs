//! `ebpf-run doctor` for an unprivileged user. tests/live compares its results with runs as root.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::common::{BINARY, NOBODY, Scratch, copy_program, is_root, run};
use serde_json::Value as Json;

/// The binary as an unprivileged user.
fn unprivileged(scratch: &Scratch) -> Command {
    if !is_root() {
        return Command::new(BINARY);
    }
    let copy = scratch.path("ebpf-run");
    if !copy.exists() {
        copy_program(BINARY.as_ref(), &copy);
    }
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY);
    command
}

fn has_types() -> bool {
    std::path::Path::new("/sys/kernel/btf/vmlinux").exists()
}

#[test]
fn anybody_learns_what_is_there_and_what_is_not_known() {
    let scratch = Scratch::new();
    let ended = run(unprivileged(&scratch).args(["doctor"]));
    let code = if has_types() { 5 } else { 4 };
    let ended = ended.expect(code);
    assert_eq!(ended.stderr, "");
    let text = &ended.stdout;
    for words in
        ["\n  ok           kernel", "\n  problem      CAP_BPF                missing", "hint: run it with sudo"]
    {
        assert!(text.contains(words), "`{words}` is missing in:\n{text}");
    }
    if has_types() {
        for words in ["\n  ok?          opensnoop              3 hooks\n", "is not known without root)"] {
            assert!(text.contains(words), "`{words}` is missing in:\n{text}");
        }
        assert!(!text.contains("tp_btf/sys_exit"), "hooks were not asked for");
        let text = run(unprivileged(&scratch).args(["doctor", "--hooks"])).expect(code).stdout;
        assert!(text.contains("* available  tp_btf/sys_exit"), "{text}");
    }
}

#[test]
fn scripts_get_an_object_with_the_exit_code() {
    let scratch = Scratch::new();
    let ended = run(unprivileged(&scratch).args(["doctor", "opensnoop", "--json"]));
    let found: Json = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(found["exit_code"].as_i64().map(|code| code as i32), ended.code);
    assert_eq!(found["format"], 1);
    let marks: Vec<&str> =
        found["checks"].as_array().expect("a list").iter().filter_map(|check| check["mark"].as_str()).collect();
    assert!(marks.len() > 10 && marks.iter().all(|mark| ["ok", "warning", "problem", "unknown"].contains(mark)));
    let probe = &found["probes"][0];
    assert_eq!((&probe["program"], &probe["loaded"]), (&"opensnoop".into(), &false.into()));
    let hooks = probe["hooks"].as_array().expect("a list");
    let returns = hooks.iter().find(|hook| hook["section"] == "tp_btf/sys_exit").expect("every call returns there");
    if has_types() {
        assert_eq!((&probe["verdict"], &returns["there"]), (&"ok".into(), &true.into()));
    }
}

#[test]
fn names_of_a_config_are_looked_up_too() {
    let scratch = Scratch::new();
    let config = "version: 1\nprobes: [{program: biosnoop, filters: {device: nosuchdisk, uid: no-such-user}}]\n\
                  sinks: {out: {type: jsonl}}\n";
    let path = scratch.write("t.yaml", config);
    let text = run(unprivileged(&scratch).arg("doctor").arg(&path)).expect(4).stdout;
    assert!(text.contains("there is no disk `nosuchdisk`"), "{text}");
    assert!(
        text.contains("there is no user `no-such-user`") && text.contains("hint: use the number for a user"),
        "{text}"
    );
    let bad = scratch.write("bad.yaml", "version: 2\n");
    run(unprivileged(&scratch).arg("doctor").arg(bad)).expect(2).says(&["bad.yaml:1"]);
    run(unprivileged(&scratch).args(["doctor", "tcpconect"])).expect(2).says(&["did you mean `tcpconnect`?"]);
}

#[test]
fn without_rights_no_program_is_tried() {
    let scratch = Scratch::new();
    let code = if has_types() { 5 } else { 4 };
    let told = run(unprivileged(&scratch).args(["doctor", "opensnoop", "oomkill", "--try", "--json"])).expect(code);
    let found: Json = serde_json::from_str(&told.stdout).expect("JSON");
    let tried = found["tried"].as_array().expect("a list");
    assert_eq!(tried.len(), 2);
    for trial in tried {
        let words = trial["found"].as_str().expect("words");
        assert!(words.starts_with("not tried: "), "{words}");
        assert_eq!((&trial["mark"], &trial["arrived"]), (&"unknown".into(), &Json::Null), "{trial}");
    }
    let text = run(unprivileged(&scratch).args(["doctor", "opensnoop", "--try"])).expect(code).stdout;
    assert!(text.contains("\nPrograms tried") && text.contains("\n  unknown      opensnoop "), "{text}");
    let told = run(unprivileged(&scratch).args(["doctor", "opensnoop", "--json"])).stdout;
    assert!(serde_json::from_str::<Json>(&told).expect("JSON")["tried"].is_null(), "it was not asked for");
}

#[test]
fn a_plan_is_the_same_for_everybody() {
    let scratch = Scratch::new();
    let plan = |command: &mut Command| run(command.args(["plan", "io-latency"])).expect(0).stdout;
    assert_eq!(plan(&mut unprivileged(&scratch)), plan(&mut Command::new(BINARY)), "ring buffers are there or not");
}
