//! The filters of a probe: their bytes, and what is left for the machine that runs it.

use std::sync::Arc;

use serde_yaml::Value as Yaml;

use super::{Lookup, Planner, Setting, decode, encode, setting};
use crate::catalog::{ElementKind, PerfEvent, Program, Variable};
use crate::config::diagnostic::{Code, Place, suggest_described};
use crate::config::model;
use crate::config::typed::plain;
use crate::config::yaml::TreeStep::{self, Index, Key};
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
                let known = program.filters.iter().map(|filter| (filter.name.as_str(), filter.doc.as_str()));
                let known = suggest_described(name, known);
                let what = format!("`{}` has no filter `{name}`{known}", program.name);
                let trap = ": default filters are for every probe; move it to the probes that have it";
                let hint = if self.source.is_default(&path) { trap } else { "" };
                self.say_key(Code::UnknownFilter, &path, what + hint);
                continue;
            };
            match encode::variable(variable, &self.with_types(variable, value, self.source.root.at(&path))) {
                Ok(encoded) => {
                    let first = variable.list.map_or(0, |shape| shape.values);
                    let found = encoded.lookups.into_iter().map(|(at, value)| Lookup {
                        filter: name.clone(),
                        offset: variable.followed.map_or(variable.offset + at, |values| values + at - first),
                        followed: variable.followed.is_some(),
                        name: value,
                    });
                    lookups.extend(found);
                    settings.push(setting(variable, encoded.bytes));
                }
                Err(problems) => self.say_values(&path, name, problems),
            }
        }
        self.check_limits(index, program, &settings);
        self.check_periods(index, program, &settings);
        (settings, lookups)
    }

    /// Checks the filters of a probe whose program is not known: what is wrong for each program that has such a filter.
    pub(super) fn filters_of_any(&mut self, index: usize, probe: &model::Probe, programs: &[Arc<Program>]) {
        for (name, value) in &probe.filters {
            let path = [Key("probes"), Index(index), Key("filters"), Key(name)];
            let node = self.source.root.at(&path);
            let encoded = programs
                .iter()
                .filter_map(|program| program.filter(name))
                .map(|variable| encode::variable(variable, &self.with_types(variable, value, node)).err());
            let problems: Vec<_> = encoded.collect();
            if problems.is_empty() {
                let filters = programs.iter().flat_map(|program| &program.filters);
                let known = suggest_described(name, filters.map(|filter| (filter.name.as_str(), filter.doc.as_str())));
                self.say_key(Code::UnknownFilter, &path, format!("no program has a filter `{name}`{known}"));
            } else if let Some(Some(problems)) =
                problems.into_iter().collect::<Option<Vec<_>>>().map(|all| all.into_iter().next())
            {
                self.say_values(&path, name, problems);
            }
        }
    }

    fn say_values(&mut self, path: &[TreeStep<'_>], name: &str, problems: Vec<encode::ValueProblem>) {
        let node = self.source.root.at(path);
        for encode::ValueProblem { negated, index, code, message } in problems {
            let node = if negated { node.get("not").unwrap_or(node) } else { node };
            self.say_at(code, path, item_place(node, index), format!("filter `{name}`: {message}"));
        }
    }

    /// Between a `min_…` and a `max_…` of the same thing there has to be something.
    fn check_limits(&mut self, index: usize, program: &Program, settings: &[Setting]) {
        let set = |name: &str| {
            let variable = program.filter(name)?;
            let setting = settings.iter().find(|setting| setting.offset == variable.offset)?;
            let number = variable.list.is_none().then(|| decode::number(&setting.bytes))?;
            Some((number, decode::decode(variable, &setting.bytes).concat()))
        };
        for variable in &program.filters {
            let Some(of) = variable.name.strip_prefix("max_") else { continue };
            let lower = format!("min_{of}");
            if let (Some((least, shown)), Some((most, _))) = (set(&lower), set(&variable.name))
                && least > most
            {
                let path = [Key("probes"), Index(index), Key("filters"), Key(&variable.name)];
                let what = format!(
                    "filter `{}` is less than `{lower}` ({shown}), so no event passes: raise it",
                    variable.name
                );
                self.say(Code::FilterFit, &path, what);
            }
        }
    }

    /// A perf event's period is a number without a unit; a period that suits a cache is too short for a clock, whose unit is ns.
    fn check_periods(&mut self, index: usize, program: &Program, settings: &[Setting]) {
        let events = program.hooks.iter().filter_map(|hook| hook.perf_event.as_ref()).filter(|event| !event.frequency);
        let Some(event) = events.into_iter().next() else { return };
        let at = |offset: usize| program.filters.iter().find(|filter| filter.offset == offset);
        let (Some(chosen), Some(rate)) = (at(event.chosen_at), at(event.rate_at)) else { return };
        let set = |variable: &Variable| {
            let setting = settings.iter().find(|setting| setting.offset == variable.offset)?;
            Some(u32::from_ne_bytes(setting.bytes.as_slice().try_into().ok()?))
        };
        let source = set(chosen).filter(|source| PerfEvent::is_clock(*source));
        let path = |name| [Key("probes"), Index(index), Key("filters"), Key(name)];
        let needs = |name: &str| format!("write for instance `{name}: 1000000` (every millisecond)");
        match (source, set(rate)) {
            (_, Some(0)) => {
                let what = format!("filter `{}` must be greater than 0; remove it for the default", rate.name);
                self.say(Code::FilterFit, &path(&rate.name), what);
            }
            (Some(_), Some(period)) if u64::from(period) < PerfEvent::LEAST_PERIOD => {
                let least = PerfEvent::LEAST_PERIOD;
                let what = format!("filter `{}` must be at least {least} ns for a clock", rate.name);
                self.say(Code::FilterFit, &path(&rate.name), format!("{what}: {}", needs(&rate.name)));
            }
            (Some(_), None) => {
                let what = format!("filter `{}`: a clock needs `{}`, in ns", chosen.name, rate.name);
                self.say(Code::FilterFit, &path(&chosen.name), format!("{what}: {}", needs(&rate.name)));
            }
            _ => {}
        }
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
