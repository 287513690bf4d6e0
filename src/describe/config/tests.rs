use super::*;
use crate::catalog::Catalog;
use crate::config::Source;
use crate::plan::{Overrides, plan};

#[test]
fn names_are_those_of_all_probes() {
    let yaml = "version: 1\nlabels: {team: storage}\nprobes: [{program: biosnoop}, {program: runqlat, name: waits}]\n\
                sinks: {out: {type: jsonl}}\n";
    let source = Source::parse("t.yaml".into(), "t".into(), yaml.into()).expect("YAML");
    let plan = plan(&source, &Catalog::embedded(), &Overrides::default()).expect("it is right");
    let of = |called: &str| names(&plan).into_iter().find(|name| name.described.name == called).map(|n| n.probes);
    assert_eq!(of("time"), Some(vec!["biosnoop".to_owned(), "waits".to_owned()]));
    assert_eq!(of("latency_ns"), Some(vec!["biosnoop".to_owned()]));
    assert_eq!(of("p99"), Some(vec!["waits".to_owned()]));
    assert_eq!(of("labels.team"), Some(Vec::new()));
    assert_eq!(of("no_such"), None);
    let text = text("t", &plan);
    assert!(text.starts_with("t: biosnoop, waits (runqlat)\n"), "{text}");
    assert!(text.contains("= number, ns; only of biosnoop\n") && text.contains("\n  start "), "{text}");
    assert!(one(&plan, "op").is_some_and(|text| text.starts_with("`op` of biosnoop: Operation\n  read write")));
    // Every listed name is valid in a template
    for name in names(&plan) {
        let yaml = yaml.replace(
            "type: jsonl",
            &format!("type: jsonl, fields: [time, {{x: '{{{{ {} }}}}'}}]", name.described.name),
        );
        let source = Source::parse("t.yaml".into(), "t".into(), yaml).expect("YAML");
        let (_, problems) = crate::plan::examine(&source, &Catalog::embedded(), &Overrides::default()).expect("sound");
        let whole = name.probes.is_empty() || name.probes.len() == 2;
        assert_eq!(problems.is_empty(), whole, "{}: {problems:?}", name.described.name);
    }
}
