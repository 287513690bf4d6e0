use super::*;
use crate::catalog::Catalog;
use crate::config::Source;
use crate::plan::{Overrides, plan};

pub const YAML: &str = "\
version: 1
probes:
  - program: biosnoop
    filters: {min_latency: 1ms, uid: root}
    buffer:
      size: 300KiB
    sinks: [out]
  - program: runqlat
    interval: 1s
    sinks: [out]
sinks:
  out: {type: jsonl}
";

pub fn planned(yaml: &str) -> Json {
    let source = Source::parse("x.yaml".into(), "x".into(), yaml.into()).expect("it is YAML");
    let plan = plan(&source, &Catalog::embedded(), &Overrides::default()).expect("it is good");
    json(&plan, &RenderContext { source: &source, possible_cpus: 4, host: "web2", now: 1_767_225_600_000_000_000 })
}

#[test]
fn each_value_has_its_bytes_and_its_line() {
    let plan = planned(YAML);
    let probe = &plan["probes"][0];
    let latency = &probe["variables"]["min_latency_ns"];
    assert_eq!((&latency["value"], &latency["from"]), (&json!("1ms"), &json!("x.yaml:4")));
    assert_eq!(latency["bytes"], "40420f0000000000");
    assert_eq!(probe["looked_up_at_the_start"]["uid"], json!({"value": ["user root"], "from": "x.yaml:4"}));
    assert_eq!(probe["buffer"]["size"], json!({"value": 512 << 10, "asked": 300 << 10, "from": "x.yaml:6"}));
    assert_eq!(probe["buffer"]["type"], json!({"value": "ringbuf", "from": "default"}));
    assert_eq!(probe["variables"]["runner_transport"]["from"], "default");
    assert_eq!(probe["maps"]["inflight"]["from"], "program");
    assert_eq!(
        (&plan["probes"][1]["buffer"], &plan["probes"][1]["aggregate"]["interval"]),
        (&Json::Null, &json!({"value": "1s", "from": "x.yaml:9"}))
    );
}
