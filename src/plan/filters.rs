//! The filters of a probe: their bytes, and what is left for the machine that runs it.

use serde_yaml::Value as Yaml;

use super::{Lookup, Planner, Setting, encode, setting};
use crate::catalog::{ElementKind, Program, Variable};
use crate::config::diagnostic::{Code, Place, suggest};
use crate::config::model;
use crate::config::typed::plain;
use crate::config::yaml::Step::{Index, Key};
use crate::config::yaml::{Node, Value};

impl Planner<'_> {
    /// What the probe's filters set, and what has to be looked up for them.
    pub(super) fn filters(
        &mut self,
        index: usize,
        probe: &model::Probe,
        program: &Program,
    ) -> (Vec<Setting>, Vec<Lookup>) {
        let (mut settings, mut lookups) = (Vec::new(), Vec::new());
        for (name, value) in &probe.filters {
            let path = [Key("probes"), Index(index), Key("filters"), Key(name)];
            let Some(variable) = program.filter(name) else {
                let known = suggest(name, program.filters.iter().map(|filter| filter.name.as_str()));
                let what = format!("`{}` has no filter `{name}`{known}", program.name);
                let trap = ": a default filter is for every probe, so write this one at those that have it";
                let hint = if self.source.is_default(&path) { trap } else { "" };
                self.say_key(Code::UnknownFilter, &path, what + hint);
                continue;
            };
            match encode::variable(variable, &self.with_types(variable, value, self.source.root.at(&path))) {
                Ok(encoded) => {
                    let found = encoded.lookups.into_iter().map(|(at, value)| Lookup {
                        filter: name.clone(),
                        offset: variable.offset + at,
                        name: value,
                    });
                    lookups.extend(found);
                    settings.push(setting(variable, encoded.bytes));
                }
                Err(problems) => {
                    let node = self.source.root.at(&path);
                    for encode::Problem { negated, index, code, message } in problems {
                        let node = if negated { node.get("not").unwrap_or(node) } else { node };
                        let what = format!("filter `{name}`: {message}");
                        self.say_at(code, &path, item_place(node, index), what);
                    }
                }
            }
        }
        (settings, lookups)
    }

    /// The value, with numbers where the filter wants them and the environment, which has text only, gave it.
    fn with_types(&self, variable: &Variable, value: &Yaml, node: &Node) -> Yaml {
        use ElementKind::{Bool, Int, Uint, User};
        match (value, &node.value) {
            (Yaml::Sequence(items), Value::List(nodes)) => {
                items.iter().zip(nodes).map(|(item, node)| self.with_types(variable, item, node)).collect()
            }
            (Yaml::Mapping(entries), Value::Map(_)) => {
                let typed = |key: &Yaml, value| match key.as_str().and_then(|key| node.get(key)) {
                    Some(node) => self.with_types(variable, value, node),
                    None => value.clone(),
                };
                Yaml::Mapping(entries.iter().map(|(key, value)| (key.clone(), typed(key, value))).collect())
            }
            (Yaml::String(text), _) if self.source.is_from_environment(node.place) => match variable.element.kind {
                Uint | Int | Bool | User => plain(text),
                _ => value.clone(),
            },
            _ => value.clone(),
        }
    }
}

/// The place of an entry of a list, or of the whole value.
fn item_place(node: &Node, index: Option<usize>) -> Place {
    match (&node.value, index) {
        (Value::List(items), Some(index)) => items.get(index).map_or(node.place, |item| item.place),
        _ => node.place,
    }
}
