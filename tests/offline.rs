//! The commands that load nothing: check, schema, list, describe, completions, man.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{BINARY, Ended, Scratch, run};
use serde_json::Value as Json;

const GOOD: &str = "version: 1\nprobes: [{program: biosnoop}]\nsinks: {out: {type: jsonl}}\n";
const BAD: &str = "version: 1\nprobes: [{program: biosnop}]\nsinks: {out: {type: jsonl, pth: 1}}\n";

fn ebpf_run(args: &[&str]) -> Ended {
    run(Command::new(BINARY).args(args))
}

fn folder() -> Scratch {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("team")).expect("a directory");
    scratch.write("good.yaml", format!("\u{feff}{GOOD}")); // some editors begin a file like this
    scratch.write("team/good.yml", GOOD);
    scratch.write("team/bad.yaml", BAD);
    scratch.write("notes.txt", "no config");
    scratch.write(".gitlab-ci.yml", "test: {script: [make]}");
    let pipe = scratch.path("team/pipe.yaml");
    run(Command::new("mkfifo").arg(pipe)).expect(0);
    scratch
}

#[test]
fn a_folder_is_checked_with_all_that_is_in_it() {
    let scratch = folder();
    let ended = run(Command::new(BINARY).arg("check").arg(".").current_dir(scratch.path(""))).expect(2);
    let starts: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with("./")).collect();
    let [first, second] = starts.as_slice() else { panic!("two problems:\n{}", ended.stdout) };
    assert!(first.starts_with("./team/bad.yaml:2:20: E020 there is no program `biosnop`, did you mean"), "{first}");
    assert!(second.starts_with("./team/bad.yaml:3:28: E010 unknown key `pth`"), "{second}");
    assert!(
        ended
            .stdout
            .contains("     3 | sinks: {out: {type: jsonl, pth: 1}}\n       |                            ^^^\n")
    );
    assert_eq!(ended.stderr, "ebpf-run: 2 problems in 1 of 3 files\n");

    let ended = run(Command::new(BINARY).args(["check", "good.yaml", "team/good.yml"]).current_dir(scratch.path("")));
    let ended = ended.expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", "ebpf-run: no problems in 2 files\n"));
}

#[test]
fn a_check_of_nothing_does_not_pass() {
    let scratch = Scratch::new();
    let empty = scratch.path("").display().to_string();
    ebpf_run(&["check", &empty]).expect(2).says(&["no *.yaml or *.yml in", &empty]);
    ebpf_run(&["check"]).expect(2).says(&["<PATH>"]);
    let none = scratch.path("none.yaml").display().to_string();
    let ended = ebpf_run(&["check", &none]).expect(2).says(&["1 problem in 1 of 1 file"]);
    assert!(ended.stdout.starts_with(&format!("{none}: E001 can't read the file: No such file")), "{}", ended.stdout);
}

#[test]
fn a_check_run_and_plan_show_the_same() {
    let scratch = folder();
    let path = scratch.path("team/bad.yaml").display().to_string();
    let checked = ebpf_run(&["check", &path]).expect(2).stdout;
    for command in ["run", "plan"] {
        let ended = ebpf_run(&[command, &path]).expect(2);
        assert_eq!(ended.stderr, format!("{checked}ebpf-run: error: the config is wrong; nothing was loaded\n"));
    }
}

#[test]
fn problems_are_there_for_scripts_and_for_github() {
    let scratch = folder();
    let path = scratch.path("team/bad.yaml").display().to_string();
    let ended = ebpf_run(&["check", "--format", "json", &path]).expect(2);
    let objects: Vec<Json> = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(
        (&objects[1]["code"], &objects[1]["line"], &objects[1]["column"]),
        (&"E010".into(), &3.into(), &28.into())
    );
    assert_eq!((objects[1]["file"].as_str(), objects[1]["end_column"].as_u64()), (Some(path.as_str()), Some(31)));
    let ended = ebpf_run(&["check", "--format=github", &path]).expect(2);
    let start = format!("::error file={path},line=3,col=28,endColumn=31,title=E010 unknown key::unknown key `pth`");
    assert!(ended.stdout.lines().nth(1).is_some_and(|line| line.starts_with(&start)), "{}", ended.stdout);
}

#[test]
fn a_plan_is_there_for_scripts_and_two_can_be_compared() {
    let scratch = folder();
    let good = scratch.path("good.yaml").display().to_string();
    let plan: Json = serde_json::from_str(&ebpf_run(&["plan", "--json", &good]).expect(0).stdout).expect("JSON");
    assert_eq!((&plan["format"], &plan["probes"][0]["program"]), (&1.into(), &"biosnoop".into()));
    let other = scratch.write("good2.yaml", GOOD.replace("biosnoop}", "biosnoop, filters: {op: read}}"));
    let ended = run(Command::new(BINARY).arg("plan").arg(other).args(["--diff", &good])).expect(0);
    assert_eq!(ended.stdout, "- name: good\n+ name: good2\n+ probes.biosnoop.variables.op: read\n");
    assert_eq!(ebpf_run(&["plan", &good, "--diff", &good]).expect(0).stdout, "");
}

/// Escapes are the way to write unusual characters in a value, and JSON has its own for them.
#[test]
fn json_on_a_terminal_has_no_character_that_is_not_seen() {
    let scratch = Scratch::new();
    let config =
        "version: 1\nlabels: {team: \"a\\u202eb\\u0085\"}\nprobes: [{program: opensnoop}]\nsinks: {o: {type: jsonl}}\n";
    let path = scratch.write("odd.yaml", config);
    let plan = ebpf_run(&["plan", path.to_str().expect("UTF-8"), "--json"]).expect(0).stdout;
    let report = r#"{"format": 2, "name": "a\u202eb\u009b", "host": {"name": "h"}, "exit_code": 0, "reconciles": true, "probes": [],
        "window": {"start": "", "end": "", "start_monotonic_ns": 1, "end_monotonic_ns": 2, "ended_by": "duration"}}"#;
    let path = scratch.write("odd.json", report);
    let sum = ebpf_run(&["report", "--json", path.to_str().expect("UTF-8")]).expect(0).stdout;
    for (json, at, text) in [(plan, "/labels/team", "a\u{202e}b\u{85}"), (sum, "/captures/0/name", "a\u{202e}b\u{9b}")]
    {
        assert!(json.is_ascii(), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let found = value.pointer(at).map(|found| found.get("value").unwrap_or(found));
        assert_eq!(found, Some(&text.into()), "{json}");
    }
}

#[test]
fn the_schemas_are_the_published_ones() {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let commands: [(&[&str], _); 3] =
        [(&["schema"], "ebpf-run"), (&["schema", "config"], "ebpf-run"), (&["schema", "report"], "report")];
    for (command, name) in commands {
        let printed = ebpf_run(command).expect(0).stdout;
        let published = fs::read_to_string(schemas.join(format!("{name}.schema.json"))).expect("it exists");
        assert!(printed == published, "build again");
    }
}

#[test]
fn programs_are_listed_and_described() {
    let ended = ebpf_run(&["list"]).expect(0);
    for word in ["\n  biosnoop ", "\n  execsnoop ", "\n  io-latency "] {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
    let all: Json = serde_json::from_str(&ebpf_run(&["list", "--json"]).expect(0).stdout).expect("JSON");
    let one: Json =
        serde_json::from_str(&ebpf_run(&["describe", "biosnoop", "--json"]).expect(0).stdout).expect("JSON");
    assert!(all.as_array().expect("an array").contains(&one));
    assert_eq!(one["filters"][0]["name"], "min_latency");
    let text = ebpf_run(&["describe", "biosnoop"]).expect(0).stdout;
    for word in [
        "A block I/O request that completed",
        "latency_ns",
        "inflight",
        "tp_btf/block_rq_issue",
        "Example: ebpf-run biosnoop",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(ebpf_run(&["describe", "biosnoop.latency_ns"]).expect(0).stdout.starts_with("field `latency_ns`"));
    assert!(text.contains("\nOther configs (ebpf-run NAME)\n  io-latency  "), "{text}");
    assert_eq!(one["configs"], serde_json::json!(["biosnoop", "io-latency"]));
    assert_eq!(one["since_linux"], "5.10");
    let text = ebpf_run(&["describe", "opensnoop"]).expect(0).stdout;
    assert!(text.contains(" ns in the kernel for each event (200,000 opens in vain)\n"), "{text}");
    let text = ebpf_run(&["describe", "io-latency"]).expect(0).stdout;
    assert!(text.starts_with("io-latency: slow-io (biosnoop)\n") && text.contains("\n  latency_ns "), "{text}");
    let json: Json =
        serde_json::from_str(&ebpf_run(&["describe", "io-latency", "--json"]).expect(0).stdout).expect("JSON");
    assert_eq!(json["names"][0]["name"], "time");
    ebpf_run(&["describe", "io-latency.latency"]).expect(2).says(&["no name `latency` for templates"]);
    ebpf_run(&["describe", "io-latenc"]).expect(2).says(&["did you mean `io-latency`?"]);
    ebpf_run(&["describe", "biosnop"]).expect(2).says(&["did you mean `biosnoop`?"]);
    ebpf_run(&["describe", "biosnoop.latency"]).expect(2).says(&["no field, filter or map `latency`"]);
}

/// The completions of bash for the words of a command line, with the cursor at the last one.
fn offered(words: &[&str]) -> String {
    let script = format!(
        "PATH={}:$PATH; source <(ebpf-run completions bash) || exit 1
         COMP_WORDS=(ebpf-run {}); COMP_CWORD={}; COMP_TYPE=9
         function=$(complete -p ebpf-run | sed 's/.*-F \\([^ ]*\\).*/\\1/')
         $function ebpf-run \"${{COMP_WORDS[COMP_CWORD]}}\" x; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        Path::new(BINARY).parent().expect("a directory").display(),
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len(),
    );
    run(Command::new("bash").args(["-c", &script])).expect(0).stdout
}

#[test]
fn a_shell_completes_commands_configs_programs_and_what_these_have() {
    let has = |words: &[&str], expected: &str| {
        let offered = offered(words);
        assert!(offered.lines().any(|line| line.trim_end() == expected), "{words:?}: {expected} is not in\n{offered}");
    };
    has(&["che"], "check");
    has(&["io-"], "io-latency");
    has(&["plan", "exec"], "execsnoop");
    has(&["describe", "bios"], "biosnoop");
    has(&["describe", "biosnoop.lat"], "biosnoop.latency_ns");
    has(&["describe", "io-l"], "io-latency");
    has(&["describe", "io-latency.lat"], "io-latency.latency_ns");
    let scratch = folder();
    // A config that is being edited: its template is not valid yet
    let half = GOOD
        .replace("type: jsonl", "type: jsonl, fields: [{x: '{{ lat }}'}]")
        .replace("sinks:", "labels: {team: x}\nsinks:");
    let path = scratch.write("half.yaml", half).display().to_string();
    has(&["describe", &format!("{path}.queued")], &format!("{path}.queued_ns"));
    has(&["describe", &format!("{path}.lab")], &format!("{path}.labels.team"));
    has(&["describe", &path[..path.len() - 3]], &path);
    has(&["check", "--format", "g"], "github");
    has(&["plan", "io-latency", "--set", "wind"], "window.");
    has(&["plan", "io-latency", "--set", "window.dur"], "window.duration=");
    has(&["plan", "io-latency", "--set", "probes."], "probes.slow-io.");
    has(&["plan", "io-latency", "--set", "probes.slow-io.buffer.wake"], "probes.slow-io.buffer.wakeup.");
    has(&["run", "io-latency", "--set", "defaults.order"], "defaults.order=");
    has(&["io-latency", "--filter", "dev"], "device=");
    has(&["plan", "io-latency", "-f", "op=wr"], "op=write");
    has(&["init", "bios"], "biosnoop");
    for shell in ["zsh", "fish"] {
        assert!(ebpf_run(&["completions", shell]).expect(0).stdout.contains("ebpf-run"));
    }
    ebpf_run(&["completions", "bsh"]).expect(2).says(&["did you mean `bash`?"]);
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let scratch = Scratch::new();
    ebpf_run(&["man", &scratch.path("").display().to_string()]).expect(0);
    for page in ["ebpf-run.1", "ebpf-run-check.1", "ebpf-run-describe.1", "ebpf-run-init.1", "ebpf-run-plan.1"] {
        assert!(fs::read_to_string(scratch.path(page)).expect(page).contains(".SH NAME"), "{page}");
    }
    assert!(ebpf_run(&["man"]).expect(0).stdout.contains("ebpf\\-run"));
}
