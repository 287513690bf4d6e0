//! Defaults in a plan: a probe has to use each of them.

use super::Planner;
use crate::catalog::{AggregateShape, Catalog, Program};
use crate::config::diagnostic::Code;
use crate::config::model;
use crate::config::yaml::TreeStep::Key;

impl Planner<'_> {
    /// Reports defaults that no probe uses. Those of an included file are for other configs too.
    pub(super) fn check_defaults(&mut self, probes: &[model::Probe], catalog: &Catalog) {
        let Some(defaults) = self.source.root.get("defaults") else { return };
        let program = |name: &str| catalog.program(name).or_else(|| super::likely_program(name, catalog));
        let programs: Vec<_> = probes.iter().filter_map(|probe| program(&probe.program)?.ok()).collect();
        // What the program of a probe needs is not known where that is not known
        if self.source.is_partial() || programs.len() != self.source.written_probes() {
            return;
        }
        let (mut unused, map) =
            (Vec::new(), |name: &str, program: &Program| program.maps.iter().any(|map| map.name == name));
        for (key, node) in defaults.entries() {
            let name = key.name.as_str();
            if name == "maps" {
                let of_none = |name: &str| !programs.iter().any(|program| map(name, program));
                let entries = node.entries().iter().filter(|(key, _)| of_none(&key.name));
                unused.extend(entries.map(|(key, _)| (key, "has such a map")));
            } else if !programs.iter().any(|program| takes(program, name)) {
                unused.push((key, "uses it"));
            }
        }
        for (key, use_of_it) in unused.into_iter().filter(|(key, _)| !self.source.is_included(key.place)) {
            let what = format!("no probe {use_of_it}: remove `{}` from the defaults", key.name);
            self.say_at(Code::UnusedDefault, &[Key("defaults")], key.place, what);
        }
    }
}

/// Whether a probe of `program` can have the key.
fn takes(program: &Program, key: &str) -> bool {
    match key {
        "buffer" | "order" => program.event().is_some(),
        "interval" | "clear" | "per_cpu" => program.aggregate().is_some(),
        "top" => program.aggregate().is_some_and(|spec| matches!(spec.shape, AggregateShape::Counters { .. })),
        _ => true,
    }
}
