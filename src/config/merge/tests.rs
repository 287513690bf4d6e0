use super::super::diagnostic::TextKind;
use super::super::yaml;
use super::*;

const BASE: &str = "\
labels: {a: base, b: base}
window: {max_events: 1}
max_loss: 1%
defaults: {buffer: {size: 1MiB, wakeup: {events: 3}}, order: time}
probes: [{program: one}]
sinks: {s: {type: csv}, t: {type: csv, path: x}}
";
const OVER: &str = "\
labels: {b: over}
window: {duration: 1s}
max_loss: 2%
defaults: {buffer: {wakeup: {bytes: 64KiB}}, filters: {pid: 1}}
probes: [{program: two, buffer: {size: 2MiB}}]
sinks: {s: {type: jsonl}}
";

fn texts() -> Vec<Text> {
    vec![Text::new(TextKind::Config, "over.yaml", OVER), Text::new(TextKind::Included, "base.yaml", BASE)]
}

fn merged() -> (Node, Vec<Diagnostic>) {
    let mut base = yaml::parse(BASE).0.expect("YAML");
    base.relocate(&|place| Place { text: 1, ..place });
    let mut problems = Vec::new();
    let root = under(base, yaml::parse(OVER).0.expect("YAML"), &texts(), &mut problems);
    (root, problems)
}

#[test]
fn what_is_over_counts_and_the_rest_adds_up() {
    let (root, problems) = merged();
    let yaml = root.to_yaml();
    assert_eq!((&yaml["labels"]["a"], &yaml["labels"]["b"]), (&"base".into(), &"over".into()));
    assert_eq!((&yaml["window"]["max_events"], &yaml["window"]["duration"]), (&1.into(), &"1s".into()));
    assert_eq!(yaml["max_loss"], "2%");
    let buffer = &yaml["defaults"]["buffer"];
    assert_eq!(buffer["size"], "1MiB");
    assert_eq!(buffer["wakeup"].as_mapping().map(|wakeup| wakeup.len()), Some(1), "one wakeup, not two in one");
    let programs: Vec<_> =
        yaml["probes"].as_sequence().expect("a list").iter().map(|probe| &probe["program"]).collect();
    assert_eq!(programs, ["one", "two"]);
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!((problem.code, problem.place), (Code::SinkTwice, Place::new(6, 9, 1)));
    assert!(problem.message.contains("called `s` (base.yaml:6)"), "{}", problem.message);
    assert_eq!(yaml["sinks"].as_mapping().map(|sinks| sinks.len()), Some(2));
}

#[test]
fn a_probe_goes_over_the_defaults() {
    let (mut root, _) = merged();
    let given = apply_defaults(&mut root).expect("it is not much");
    let yaml = root.to_yaml();
    let (one, two) = (&yaml["probes"][0], &yaml["probes"][1]);
    assert_eq!((&one["buffer"]["size"], &two["buffer"]["size"]), (&"1MiB".into(), &"2MiB".into()));
    assert_eq!((&one["order"], &two["filters"]["pid"]), (&"time".into(), &1.into()));
    let place = root.key_at(&[yaml::TreeStep::Key("probes"), yaml::TreeStep::Index(1), yaml::TreeStep::Key("order")]);
    assert_eq!((place.text, place.line), (1, 4), "it keeps its place");
    let key = |probe, key: &str, below: Option<&str>| (probe, key.to_owned(), below.map(str::to_owned));
    assert!(given.contains(&key(0, "buffer", None)) && given.contains(&key(1, "buffer", Some("wakeup"))));
    assert!(!given.contains(&key(1, "buffer", None)) && !given.contains(&key(1, "buffer", Some("size"))));
}

#[test]
fn defaults_do_not_multiply_beyond_all_measure() {
    let list = vec!["1"; 2000].join(", ");
    let probes = vec!["{program: x}"; 200].join(", ");
    let yaml = format!("defaults: {{filters: {{pid: [{list}]}}}}\nprobes: [{probes}]\n");
    let problem = apply_defaults(&mut yaml::parse(&yaml).0.expect("YAML")).expect_err("400,000 values");
    assert_eq!((problem.code, problem.place.line), (Code::Count, 1));
}
