use super::super::diagnostic::TextKind;
use super::*;

const YAML: &str = "\
version: 1
labels: {a.b: x}
probes: [{program: p, filters: {pid: [1, 2]}, buffer: {wakeup: auto}}, {program: p, name: q}]
sinks: {out: {type: jsonl}}
";

fn set(argument: &str) -> (serde_yaml::Value, Vec<Diagnostic>) {
    let mut root = yaml::parse(YAML).0.expect("YAML");
    let problems = apply(&mut root, 3, &Text::new(TextKind::Argument, "--set #1", argument));
    (root.to_yaml(), problems)
}

#[track_caller]
fn good(argument: &str) -> serde_yaml::Value {
    let (root, problems) = set(argument);
    assert_eq!(problems, [], "{argument}");
    root
}

#[test]
fn a_value_goes_where_its_path_leads() {
    assert_eq!(good("probes.p.filters.pid=[3]")["probes"][0]["filters"]["pid"][0], 3);
    assert_eq!(good("probes.q.filters.pid=3")["probes"][1]["filters"]["pid"], 3, "by name, and new");
    assert_eq!(good("probes.1.name=r")["probes"][1]["name"], "r", "by number");
    assert_eq!(good("probes.0.filters.pid.1=7")["probes"][0]["filters"]["pid"][1], 7);
    assert_eq!(good("probes.p.buffer.wakeup.events=9")["probes"][0]["buffer"]["wakeup"]["events"], 9);
    assert_eq!(good("window.duration=5s")["window"]["duration"], "5s");
    assert_eq!(good("labels.\"a.b\"=y")["labels"]["a.b"], "y", "a point in a name");
    assert_eq!(good("name=a=b")["name"], "a=b");
    assert_eq!(good("name='a\u{3000}b'")["name"], "a\u{3000}b");
    assert_eq!(good("sinks.new={type: csv}")["sinks"]["new"]["type"], "csv");
    assert_eq!(good("probes.p.filters={comm: x}")["probes"][0]["filters"].as_mapping().expect("one").len(), 1);
}

#[test]
fn what_is_wrong_is_seen_in_the_argument() {
    let wrong = |argument: &str, code, column, width| {
        let (_, problems) = set(argument);
        let found: Vec<_> = problems.iter().map(|problem| (problem.code, problem.place)).collect();
        assert_eq!(found, [(code, Place { text: 3, line: 1, column, width })], "{argument}: {problems:?}");
    };
    wrong("window.duration", Code::SetNothing, 1, 15);
    wrong("window..duration=1", Code::SetNothing, 8, 1);
    wrong("=1", Code::SetNothing, 1, 1);
    wrong("name=", Code::Empty, 6, 1);
    wrong("probes.r.name=x", Code::SetNothing, 8, 1);
    wrong("probes.2.name=x", Code::SetNothing, 8, 1);
    wrong("probes.0.filters.pid.2=7", Code::SetNothing, 22, 1);
    wrong("sinks.uot.path=x", Code::UnknownSink, 7, 3);
    wrong("include=x.yaml", Code::SetNothing, 1, 7);
    wrong("part=true", Code::SetNothing, 1, 4);
    wrong("name={{ x }}", Code::Unquoted, 6, 3);
    wrong("na\u{200b}me=x", Code::Character, 3, 1);
    wrong("name=a\u{202e}b", Code::Character, 7, 1);
    wrong("name=\u{feff}x", Code::Character, 6, 1);
    wrong("name=a\rb", Code::NotYaml, 7, 1);
    wrong("labels.a\u{a0}b=x", Code::Character, 9, 1);
    wrong("name=a\u{a0}b", Code::Character, 7, 1);
}
