//! The walker against the schema: what it refuses, what it leaves, and that it knows every keyword.

use super::*;
#[test]
fn the_walker_knows_every_keyword_that_the_schema_uses() {
    const KNOWN: &[&str] = &[
        "$schema",
        "$id",
        "$defs",
        "$ref",
        "title",
        "description",
        "default",
        "examples",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "minProperties",
        "maxProperties",
        "enum",
        "const",
        "oneOf",
        "anyOf",
        "format",
        "minimum",
        "maximum",
        // With the keys that a mapping has or has not
        "if",
        "then",
        // Where the environment may be asked; `environment` looks at it
        "x-environment",
        // For validators and editors: `format` says it here, with better words
        "pattern",
        // What the programs add: the plan says it, from the programs themselves
        "allOf",
    ];
    fn follow(schema: &Json, all: &Json, seen: &mut HashSet<String>) {
        let Json::Object(keywords) = schema else { return };
        for (keyword, value) in keywords {
            assert!(KNOWN.contains(&keyword.as_str()), "the walker ignores `{keyword}`");
            match (keyword.as_str(), value) {
                ("$ref", Json::String(path)) if seen.insert(path.clone()) => {
                    follow(all.pointer(path.trim_start_matches('#')).expect("it is there"), all, seen);
                }
                ("properties", Json::Object(all_of_them)) => {
                    all_of_them.values().for_each(|property| follow(property, all, seen));
                }
                ("oneOf" | "anyOf", Json::Array(choices)) => {
                    choices.iter().for_each(|choice| follow(choice, all, seen));
                }
                ("items" | "additionalProperties", value) => follow(value, all, seen),
                _ => {}
            }
        }
    }
    let schema = schema();
    let mut seen = HashSet::new();
    follow(schema, schema, &mut seen);
    assert!(seen.len() > 8, "it is followed: {seen:?}");
}

#[test]
fn what_is_left_without_problems_is_a_config() {
    let text = "version: 2\nx: y\nprobes: [{program: a, sinks: [s]}, {name: b}, {program: c, maps: {m: 0}}]\n\
                sinks: {s: {type: jsonl}, t: {type: none}, u: {type: stdout, template: {{ x }}}}\n";
    let (root, _) = super::super::yaml::parse(text);
    let (problems, rest) = check(root.expect("YAML"));
    let mut codes: Vec<&str> = problems.iter().map(|problem| problem.code.as_str()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["E010", "E011", "E013", "E013", "E014"]);
    let rest = rest.expect("there is a rest");
    let count = |key| match &rest.get(key).expect("there").value {
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        _ => 0,
    };
    assert_eq!(
        (count("probes"), count("sinks")),
        (3, 3),
        "a probe without program and a sink of no type have stand-ins"
    );
    assert!(matches!(
        &rest.get("sinks").and_then(|sinks| sinks.get("t")?.get("type")).expect("a type").value,
        Value::Scalar { .. }
    ));
    assert!(matches!(&rest.get("version").unwrap().value, Value::Scalar { text, .. } if text == "1"));
}

#[test]
fn a_property_taken_out_of_the_schema_is_refused() {
    let mut schema: Json = serde_json::from_str(SCHEMA).expect("JSON");
    let text = "version: 1\nlabels: {a: b}\nprobes: [{program: x}]\nsinks: {s: {type: jsonl}}\n";
    let root = || super::super::yaml::parse(text).0.expect("YAML");
    assert_eq!(check_against(&schema, root()).0, []);
    schema.pointer_mut("/properties").and_then(Json::as_object_mut).expect("there").remove("labels");
    let (problems, rest) = check_against(&schema, root());
    assert!(problems[0].message.contains("unknown key `labels`"), "{problems:?}");
    assert_eq!((problems.len(), problems[0].code), (1, Code::UnknownKey));
    assert!(rest.expect("the rest is good").get("labels").is_none());
}

#[test]
fn a_stand_in_is_valid_itself() {
    let text = "version: 1\nprobes: [{programm: 5}]\nsinks: {s: {tpye: 5}}\n";
    let (problems, rest) = check(super::super::yaml::parse(text).0.expect("YAML"));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(rest.is_some());
}
