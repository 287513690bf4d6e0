use super::*;
use crate::plan::json::tests::{YAML, planned};

#[test]
fn a_difference_has_what_would_be_set_otherwise_and_nothing_else() {
    let moved = YAML.replace("version: 1\n", "# a line more\nversion: 1\n");
    assert_eq!(difference(&planned(YAML), &planned(&moved)), "");
    let changed = YAML.replace("min_latency: 1ms", "min_latency: 5ms, op: read");
    let difference = difference(&planned(YAML), &planned(&changed));
    assert_eq!(
        difference,
        "- probes.biosnoop.variables.min_latency_ns: 1ms\n\
         + probes.biosnoop.variables.min_latency_ns: 5ms\n\
         + probes.biosnoop.variables.op: read\n"
    );
}
