use super::super::diagnostic::TextKind;
use super::super::yaml;
use super::*;

const YAML: &str = "\
version: 1
labels: {team: '${TEAM}', cost: '$5 $${TEAM}', none: \"${NONE:-unset}\", where: 'a-${TEAM}-b'}
probes:
  - program: x
    filters:
      pid: ${PID}
      comm: ['${TEAM}', y]
sinks:
  s: {type: csv, path: \"/x/${TEAM}/{{ name }}.csv\"}
";

fn expanded(yaml: &str) -> (Node, EnvRefs, Vec<Diagnostic>) {
    let (root, problems) = yaml::parse(yaml);
    assert_eq!(problems, []);
    let mut root = root.expect("YAML");
    let known = [("TEAM", "storage"), ("PID", "12"), ("BRACE", "{{ x }}"), ("EMPTY", "")];
    let environment = |name: &str| known.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    let texts = [Text::new(TextKind::Config, "x.yaml", yaml)];
    let (env_refs, problems) = expand(&mut root, &texts, &environment);
    (root, env_refs, problems)
}

#[test]
fn it_is_replaced_where_the_schema_allows_it() {
    let (root, env_refs, problems) = expanded(YAML);
    assert_eq!(problems, []);
    let yaml = root.to_yaml();
    let labels = &yaml["labels"];
    assert_eq!((&labels["team"], &labels["cost"]), (&"storage".into(), &"$5 ${TEAM}".into()));
    assert_eq!((&labels["none"], &labels["where"]), (&"unset".into(), &"a-storage-b".into()));
    let filters = &yaml["probes"][0]["filters"];
    assert_eq!((&filters["pid"], &filters["comm"][0]), (&"12".into(), &"storage".into()));
    assert_eq!(yaml["sinks"]["s"]["path"], "/x/storage/{{ name }}.csv");
    let names: Vec<&str> = env_refs.values().flatten().map(String::as_str).collect();
    assert_eq!(names, ["TEAM", "NONE", "TEAM", "PID", "TEAM", "TEAM"]);
}

#[track_caller]
fn wrong(yaml: &str, code: Code, column: usize, width: usize) {
    let (_, _, problems) = expanded(yaml);
    let found: Vec<_> = problems.iter().map(|problem| (problem.code, problem.place)).collect();
    assert_eq!(found, [(code, Place::new(1, column, width))], "{problems:?}");
}

#[test]
fn elsewhere_and_where_it_is_not_set_it_is_an_error_at_its_place() {
    wrong("name: a-${TEAM}\n", Code::Environment, 9, 7);
    wrong("probes: [{program: '${TEAM}'}]\n", Code::Environment, 21, 7);
    wrong("probes: [&a {program: '${TEAM}'}, *a]\n", Code::Environment, 24, 7);
    wrong("labels: {'${TEAM}': x}\n", Code::Environment, 11, 7);
    wrong("labels: {team: 'x ${MISSING}'}\n", Code::Unset, 19, 10);
    wrong("labels: {team: '${}'}\n", Code::Environment, 17, 2);
    let (_, _, problems) = expanded("labels:\n  a: |\n    é ${TEAM}\n    a ${B} ${B}\nname: ${B}\n");
    let places: Vec<_> = problems.iter().map(|problem| problem.place).collect();
    assert_eq!(places, [Place::new(4, 7, 4), Place::new(4, 12, 4), Place::new(5, 7, 4)]);
    wrong("labels: {team: '${a b}'}\n", Code::Environment, 17, 2);
    wrong("labels: {team: '${BRACE}'}\n", Code::Environment, 17, 8);
}

#[test]
fn the_schema_decides_where_it_is_replaced() {
    let yaml = "labels: {team: '${TEAM}'}\n";
    let mut root = yaml::parse(yaml).0.expect("YAML");
    let mut schema = schema().clone();
    schema["properties"]["labels"].as_object_mut().expect("there").remove("x-environment").expect("it is marked");
    let texts = [Text::new(TextKind::Config, "x.yaml", yaml)];
    let (_, problems) = expand_by(&schema, &mut root, &texts, &|_| Some("x".into()));
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), [Code::Environment]);
}

#[test]
fn what_is_no_variable_stays() {
    let (root, env_refs, problems) =
        expanded("name: $TEAM ${\ndescription: '${{ x }} $${A}'\nlabels: {e: '${EMPTY}'}\n");
    assert_eq!((env_refs.len(), problems), (1, Vec::new()));
    let yaml = root.to_yaml();
    assert_eq!((&yaml["name"], &yaml["description"]), (&"$TEAM ${".into(), &"${{ x }} ${A}".into()));
    assert_eq!(yaml["labels"]["e"], "");
}
