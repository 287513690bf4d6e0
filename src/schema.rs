//! Makes `schemas/ebpf-run.schema.json` from the config's types and the programs, and `schemas/report.schema.json` from the
//! types of the report. Nothing of them is written by hand; a test compares, and `EBPF_RUN_BLESS=1 cargo test --lib schema` writes the files anew.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

use crate::catalog::{AggregateShape, Catalog, ElementKind, Program, Variable};
use crate::config::model::Config;
use crate::config::quantity::{FREQUENCY_PATTERN, SIZE_PATTERN, TIME_PATTERN};
use crate::describe;
use crate::report::format::ReportJson;

fn generate(catalog: &Catalog) -> Json {
    let mut schema = serde_json::to_value(schemars::schema_for!(Config)).expect("a schema is JSON");
    schema["title"] = "ebpf-run config".into();
    bound_numbers(&mut schema);
    let programs: Vec<_> =
        catalog.names().map(|name| catalog.program(name).expect("it is listed").expect("it is sound")).collect();
    let mut defs = Map::new();
    let (mut default_filters, mut default_maps) = (BTreeMap::new(), BTreeMap::new());
    let mut conditions = vec![json!({"properties": {"program": {"$ref": "#/$defs/Program"}}})];
    let (mut names, mut fields) = (Vec::new(), BTreeMap::new());
    for program in &programs {
        names.push(json!({"const": program.name, "description": program.doc()}));
        let one = condition(program, &mut defs);
        for (group, all) in [("filters", &mut default_filters), ("maps", &mut default_maps)] {
            let properties = one["then"]["properties"][group]["properties"].as_object().expect("an object");
            for (name, property) in properties {
                let choices: &mut Vec<Json> = all.entry(name.clone()).or_default();
                if !choices.contains(property) {
                    choices.push(property.clone());
                }
            }
        }
        conditions.push(one);
        for field in describe::fields(program) {
            let docs: &mut Vec<(String, Vec<&str>)> = fields.entry(field.name).or_default();
            match docs.iter_mut().find(|(known, _)| *known == field.doc) {
                Some((_, programs)) => programs.push(program.name),
                None => docs.push((field.doc, vec![program.name])),
            }
        }
    }
    defs.insert("Program".into(), json!({"description": "A built-in program.", "oneOf": names}));
    let told = |docs: Vec<(String, Vec<&str>)>| {
        docs.iter().map(|(doc, programs)| format!("{doc} ({})", programs.join(", "))).collect::<Vec<_>>().join("\n")
    };
    let fields: Vec<Json> =
        fields.into_iter().map(|(name, docs)| json!({"const": name, "description": told(docs)})).collect();
    defs.insert("Field".into(), json!({"description": "A field of a program.", "oneOf": fields}));
    schema["$defs"]["Probe"]["allOf"] = conditions.into();
    let either = |all: BTreeMap<String, Vec<Json>>| -> Map<String, Json> {
        all.into_iter().map(|(name, choices)| (name, json!({"anyOf": choices}))).collect()
    };
    schema["$defs"]["Defaults"]["allOf"] = json!([{"properties": {
        "filters": {"properties": either(default_filters), "additionalProperties": false},
        "maps": {"properties": either(default_maps), "additionalProperties": false},
    }}]);
    defs.insert("Environment".into(), environment());
    schema["$defs"]["Column"]["anyOf"][0]["allOf"] = json!([{"$ref": "#/$defs/Field"}]);
    schema["$defs"].as_object_mut().expect("there are definitions").append(&mut defs);
    schema
}

/// What Rust's integers can hold, in words that every validator knows.
fn bound_numbers(schema: &mut Json) {
    match schema {
        Json::Object(map) => {
            if map.get("format").and_then(Json::as_str) == Some("uint32") && !map.contains_key("const") {
                map.insert("maximum".into(), u32::MAX.into());
            }
            map.values_mut().for_each(bound_numbers);
        }
        Json::Array(items) => items.iter_mut().for_each(bound_numbers),
        _ => {}
    }
}

/// What a probe of `program` may say.
fn condition(program: &Program, defs: &mut Map<String, Json>) -> Json {
    let filters: Map<String, Json> = program
        .filters
        .iter()
        .map(|filter| {
            let mut property = filter_values(program, filter, defs);
            property["description"] = filter.doc.clone().into();
            (filter.name.clone(), property)
        })
        .collect();
    let maps: Map<String, Json> = program
        .maps
        .iter()
        .map(|map| {
            let property = json!({
                "description": format!("{}. Default: {} entries.", map.doc, map.max_entries),
                "type": "integer", "minimum": 1, "maximum": u32::MAX,
            });
            (map.name.clone(), property)
        })
        .collect();
    let mut properties = json!({
        "filters": {"properties": filters, "additionalProperties": false},
        "maps": {"properties": maps, "additionalProperties": false},
    });
    // What is for events only, or for what adds up only
    let others: &[&str] =
        if program.event().is_some() { &["interval", "clear", "per_cpu", "top", "sort"] } else { &["buffer"] };
    for key in others {
        properties[key] = false.into();
    }
    match program.aggregate().map(|spec| &spec.shape) {
        Some(AggregateShape::Counters { fields, .. }) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            properties["sort"] = json!({"enum": names});
        }
        Some(AggregateShape::Histogram { .. }) => properties["sort"] = false.into(),
        None => {}
    }
    json!({
        "if": {"properties": {"program": {"const": program.name}}, "required": ["program"]},
        "then": {"properties": properties},
    })
}

/// A value; or, where the filter compares, a value, a list of values, or `not` with one of these.
fn filter_values(program: &Program, filter: &Variable, defs: &mut Map<String, Json>) -> Json {
    let one = value(&filter.element.kind, filter.element.size);
    let one = json!({"anyOf": [one, {"$ref": "#/$defs/Environment"}]});
    let Some(shape) = filter.list else { return one };
    let kind = match &filter.element.kind {
        ElementKind::Enum(_) => format!("{}.{}", program.name, filter.name),
        kind => format!("{kind:?}{}x{}", 8 * filter.element.size, shape.max),
    };
    let value = format!("{kind}.value");
    let reference = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
    let list = json!({"type": "array", "items": reference(&value), "minItems": 1, "maxItems": shape.max});
    let either = json!([reference(&value), list]);
    let not = json!({
        "type": "object", "properties": {"not": {"description": "None of these.", "anyOf": either}},
        "required": ["not"], "additionalProperties": false,
    });
    defs.insert(kind.clone(), json!({"anyOf": [reference(&value), list, not]}));
    defs.insert(value, one);
    reference(&kind)
}

/// Text that is known only where the config is read.
fn environment() -> Json {
    json!({
        "description": "A value with variables of the environment in it.",
        "type": "string", "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\}", "examples": ["${NAME}"],
    })
}

fn value(kind: &ElementKind, size: usize) -> Json {
    let text = |pattern: &str, example: &str| json!({"type": "string", "pattern": pattern, "examples": [example]});
    match kind {
        ElementKind::Uint if size == 8 => json!({"type": "integer", "minimum": 0}),
        ElementKind::Uint => json!({"type": "integer", "minimum": 0, "maximum": (1u64 << (8 * size)) - 1}),
        ElementKind::Int if size == 8 => json!({"type": "integer"}),
        ElementKind::Int => {
            let end = 1i64 << (8 * size - 1);
            json!({"type": "integer", "minimum": -end, "maximum": end - 1})
        }
        ElementKind::Duration => text(TIME_PATTERN, "10ms"),
        ElementKind::Bytes => text(SIZE_PATTERN, "64KiB"),
        ElementKind::Frequency => text(FREQUENCY_PATTERN, "99Hz"),
        ElementKind::Bool => json!({"type": "boolean"}),
        ElementKind::Text => json!({"type": "string", "minLength": 1, "maxLength": size - 1, "pattern": "[^*]$"}),
        ElementKind::Comm => text(&format!("^[^*]{{1,{}}}\\*?$", size / 2 - 1), "nginx"),
        ElementKind::Disk => text("^([^/:*?\\[]{1,31}|[0-9]+:[0-9]+)$", "sda"),
        ElementKind::User => json!({"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": u32::MAX}, text("^[^:/]+$", "postgres"),
        ]}),
        ElementKind::Cgroup => text("^(?!(.*/)?\\.\\.(/|$)).+", "/system.slice/nginx.service"),
        ElementKind::Unit => text("^[^/]+$", "nginx.service"),
        ElementKind::Enum(names) => json!({"enum": names.iter().map(|(_, name)| name).collect::<Vec<_>>()}),
    }
}

#[test]
fn the_committed_schema_is_what_types_and_programs_say() {
    compare("ebpf-run.schema.json", &generate(&Catalog::embedded()));
}

#[test]
fn the_committed_schema_of_reports_is_what_the_types_say() {
    compare("report.schema.json", &report());
}

/// The schema of a report.
pub fn report() -> Json {
    // As it is written: no key is optional
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = serde_json::to_value(generator.into_root_schema_for::<ReportJson>()).expect("a schema is JSON");
    schema["title"] = "ebpf-run report".into();
    schema
}

fn compare(file: &str, schema: &Json) {
    let text = serde_json::to_string_pretty(schema).expect("a schema is JSON") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(file);
    if std::env::var_os("EBPF_RUN_BLESS").is_some() {
        std::fs::write(&path, &text).expect("the schema can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("the schema exists");
    assert!(committed == text, "schemas/{file} is out of date: EBPF_RUN_BLESS=1 cargo test --lib schema");
}

#[test]
fn a_new_program_comes_into_the_schema_by_itself() {
    let object: &'static [u8] = include_bytes!(concat!(env!("OUT_DIR"), "/refused.bpf.o"));
    let schema = generate(&Catalog::from_objects([("refused", object)]));
    assert_eq!(schema["$defs"]["Program"]["oneOf"][0]["const"], "refused");
    assert_eq!(schema["$defs"]["Probe"]["allOf"][1]["if"]["properties"]["program"]["const"], "refused");
    assert!(schema["$defs"]["Probe"]["allOf"][1]["then"]["properties"]["filters"]["properties"]["pid"].is_object());
}
