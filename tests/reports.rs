//! Reports: each one is valid by `schemas/report.schema.json` and by the types that it is generated from, and `ebpf-run report`
//! reads those of older versions. `tests/reports` has a report of each format.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebpf_run::report::format::ReportJson;
use serde_json::{Value as Json, json};

use crate::common::{BINARY, Ended, run};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The report `text`, which has to be valid.
#[track_caller]
pub fn valid_report(text: &str) -> Json {
    let report: Json = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    if let Err(fault) = check(&report) {
        panic!("{fault}: {report:#}");
    }
    report
}

fn check(report: &Json) -> Result<(), String> {
    let schema = fs::read_to_string(root().join("schemas/report.schema.json")).expect("it exists");
    let schema: Json = serde_json::from_str(&schema).expect("JSON");
    by_schema(report, &schema, &schema, "")?;
    let typed: ReportJson = serde_json::from_value(report.clone()).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(typed).expect("a report is JSON");
    if again == *report { Ok(()) } else { Err("the types write it differently".to_owned()) }
}

/// Checks `value` by `schema`. A keyword that this does not know is a fault, so that none is passed over.
fn by_schema(value: &Json, schema: &Json, whole: &Json, at: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{at}: {what}: {value}"));
    let is_a = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("unknown type {name}"),
    };
    for (keyword, argument) in schema.as_object().expect("a schema is an object") {
        match (keyword.as_str(), argument) {
            ("$schema" | "$defs" | "title" | "description" | "format", _) => {}
            ("$ref", Json::String(path)) => {
                let target = whole.pointer(path.trim_start_matches('#')).expect("it exists");
                by_schema(value, target, whole, at)?;
            }
            ("type", Json::String(name)) if is_a(name) => {}
            ("type", Json::Array(names)) if names.iter().filter_map(Json::as_str).any(is_a) => {}
            ("type", _) => return wrong("wrong type"),
            ("const", _) if argument == value => {}
            ("const", _) => return wrong("another constant"),
            ("minimum" | "maximum", _) => {
                let limit = argument.as_f64().expect("a number");
                let outside = |number| if keyword == "minimum" { number < limit } else { number > limit };
                if value.as_f64().is_some_and(outside) {
                    return wrong("out of range");
                }
            }
            ("oneOf" | "anyOf", Json::Array(choices)) => {
                if !choices.iter().any(|choice| by_schema(value, choice, whole, at).is_ok()) {
                    return wrong("none of the choices");
                }
            }
            ("required", Json::Array(keys)) => {
                if let Some(key) = keys.iter().filter_map(Json::as_str).find(|key| value.get(key).is_none()) {
                    return wrong(&format!("no `{key}`"));
                }
            }
            ("properties", Json::Object(properties)) => {
                for (key, property) in properties {
                    if let Some(member) = value.get(key) {
                        by_schema(member, property, whole, &format!("{at}/{key}"))?;
                    }
                }
            }
            ("additionalProperties", others) => {
                let known = schema.get("properties").and_then(Json::as_object);
                for (key, member) in value.as_object().into_iter().flatten() {
                    match others {
                        _ if known.is_some_and(|known| known.contains_key(key)) => {}
                        Json::Bool(allowed) => {
                            if !allowed {
                                return wrong(&format!("unknown key `{key}`"));
                            }
                        }
                        _ => by_schema(member, others, whole, &format!("{at}/{key}"))?,
                    }
                }
            }
            ("items", items) => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    by_schema(item, items, whole, &format!("{at}/{index}"))?;
                }
            }
            _ => panic!("{at}: unknown keyword {keyword}: {argument}"),
        }
    }
    Ok(())
}

fn fixture(format: u32) -> PathBuf {
    root().join(format!("tests/reports/format-{format}.json"))
}

fn sum(arguments: &[&str], files: &[PathBuf]) -> Ended {
    run(Command::new(BINARY).arg("report").args(arguments).args(files))
}

#[test]
fn a_report_is_valid_by_its_schema() {
    valid_report(&fs::read_to_string(fixture(2)).expect("it exists"));
}

#[test]
fn a_report_with_a_fault_is_not_valid() {
    let report: Json = serde_json::from_str(&fs::read_to_string(fixture(2)).expect("it exists")).expect("JSON");
    for (at, value) in [
        ("/format", json!(1)),
        ("/host/boot_id", json!(7)),
        ("/window/ended_by", json!("dinner")),
        ("/probes/0/seen", json!(-1)),
        ("/probes/0/seen", json!("3")),
        ("/probes/0/verdict", json!("fine")),
        ("/probes/0/hooks", json!([1])),
        ("/probes/0/maps/attempts", json!({"max_entries": 512})),
        ("/probes/0/buffer", json!({})),
        ("/labels", json!({"team": 1})),
        ("/host", json!({"name": "h", "kernel": "6", "machine": "m", "boot_id": null, "rack": 3})),
    ] {
        let mut faulty = report.clone();
        *faulty.pointer_mut(at).expect("it exists") = value.clone();
        assert!(check(&faulty).is_err(), "{at}: {value}");
    }
}

#[test]
fn reports_of_both_formats_add_up() {
    let json: Json = serde_json::from_str(&sum(&["--json"], &[fixture(1), fixture(2)]).expect(0).stdout).expect("JSON");
    assert_eq!(json["format"], 2);
    let [capture] = json["captures"].as_array().expect("a list").as_slice() else { panic!("one capture: {json:#}") };
    assert_eq!(
        (&capture["name"], &capture["host"], &capture["windows"]),
        (&json!("exec-and-io"), &json!("db1"), &json!(2))
    );
    assert_eq!(capture["ended_by"], json!({"duration": 2}));
    let probes: Vec<_> = capture["probes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|probe| {
            (
                probe["name"].as_str().expect("a name"),
                probe["last_verdict"].as_str().expect("a verdict"),
                &probe["seen"],
            )
        })
        .collect();
    assert_eq!(probes[0], ("execs", "ok", &json!(6)));
    assert_eq!((probes[3].0, probes[3].1), ("llcstat", "unsupported"));
    let text = sum(&[], &[fixture(1), fixture(2)]).expect(0).stdout;
    assert!(text.starts_with("exec-and-io on db1: 2 windows from "), "{text}");
}
