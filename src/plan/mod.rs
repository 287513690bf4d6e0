//! The plan: a checked config resolved against the catalogue. Every byte that will be set is in it before anything is
//! loaded, and making it touches neither the kernel nor the disk: what a check says holds for the run.

mod buffer;
mod decode;
mod defaults;
mod difference;
mod encode;
mod files;
mod filters;
mod json;
mod origin;
mod requirements;
mod rows;
mod schedule;
mod show;
mod sinks;
mod window;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::catalog::{Catalog, ElementKind, Hook, MapSpec, Program, Variable, program_of};
use crate::config::Source;
use crate::config::diagnostic::{Code, Diagnostic, Place, nearest, suggest};
use crate::config::model;
use crate::config::yaml::TreeStep;
use crate::config::yaml::TreeStep::{Index, Key};
use crate::error::Result;

pub use buffer::{BufferDefaults, BufferPlan, Transport, WakeupPlan};
pub use difference::difference;
pub use encode::LookupName;
pub use files::FilesPlan;
pub use json::json;
pub use origin::RenderContext;
pub use requirements::{Capability, CapabilityNeed, HostRestrictions, Requirements};
pub use rows::{AggregatePlan, KEY_AT, ROW_BUCKET, ROW_SUMMARY, STACK_HEAD, Stream, row_layouts};
pub use schedule::{SchedulePlan, Starts};
pub use show::PlanView;
pub use sinks::SinkPlan;
pub use window::WindowPlan;

/// Everything that a run will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The capture's name.
    pub name: String,
    /// Static labels.
    pub labels: BTreeMap<String, String>,
    /// When it starts and ends.
    pub window: WindowPlan,
    /// When a timer or cron starts it.
    pub schedule: Option<SchedulePlan>,
    /// Share of the events that may be lost.
    pub max_loss: f64,
    /// What is captured, in the order of the config.
    pub probes: Vec<ProbePlan>,
    /// Where records go, in the order of their names.
    pub sinks: Vec<SinkPlan>,
}

/// One probe.
#[derive(Debug, Clone)]
pub struct ProbePlan {
    /// Its name.
    pub name: String,
    /// The program that it uses.
    pub program: Arc<Program>,
    /// What is written into `.rodata` before load.
    pub rodata: Vec<Setting>,
    /// What is set besides, once the machine that runs it has looked it up.
    pub lookups: Vec<Lookup>,
    /// What is written into `.bss` before load: values that change while the program runs.
    pub bss: Vec<Setting>,
    /// Sizes of maps, by name.
    pub maps: BTreeMap<String, u32>,
    /// The buffer of its events; an aggregate has no use for it.
    pub buffer: BufferPlan,
    /// The program's hooks, with the reason why one is left out.
    pub hooks: Vec<(Hook, Option<String>)>,
    /// How its aggregate is read, if it has one.
    pub aggregate: Option<AggregatePlan>,
    /// The sorts of records that it hands out.
    pub streams: Vec<Stream>,
    /// Indices of the sinks that it writes to.
    pub sinks: Vec<usize>,
    /// Go on without it where the kernel can't run it.
    pub skip_unsupported: bool,
    /// Whether its records are to be sorted by time.
    pub sort: bool,
    /// Disks that its filters name.
    pub disks: Vec<String>,
}

impl ProbePlan {
    /// How many entries `map` of the program gets.
    pub fn entries(&self, map: &MapSpec) -> u32 {
        self.maps.get(&map.name).copied().unwrap_or(map.max_entries)
    }
}

/// One variable of `.rodata` with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The variable's C name.
    pub symbol: String,
    /// Bytes from the start of `.rodata` or `.bss`.
    pub offset: usize,
    /// The new value.
    pub bytes: Vec<u8>,
}

/// A name in a filter that only the machine that runs the capture can resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The filter.
    pub filter: String,
    /// Bytes from the start of `.rodata` or, if it is followed, of `.bss`.
    pub offset: usize,
    /// Whether it is looked up again while the capture runs.
    pub followed: bool,
    /// What is to be looked up.
    pub name: LookupName,
}

impl Lookup {
    /// The section that the value goes to.
    pub fn section(&self) -> &'static str {
        if self.followed { ".bss" } else { ".rodata" }
    }
}

/// What the command line and the host override. A check on another host uses the default.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--duration` and the other options of the window.
    pub window: model::Window,
    /// The kernel has no BPF ring buffers (before 5.8).
    pub no_ring_buffer: bool,
}

/// Resolves `source` against `catalog`.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) with every problem of the config and its place;
/// [`Kind::Failed`](crate::error::Kind::Failed) if an embedded program is broken.
pub fn plan(source: &Source, catalog: &Catalog, overrides: &Overrides) -> Result<Plan> {
    let (plan, mut problems) = examine(source, catalog, overrides)?;
    if source.is_part() {
        let what = "this file is a part of other configs (`part: true`): use a config that includes it";
        problems.push(Diagnostic::new(Code::Part, source.root.key_at(&[Key("part")]), what));
    }
    if problems.is_empty() { Ok(plan) } else { Err(source.error(&problems)) }
}

/// The plan of what is right in `source`, and all that is wrong with it.
///
/// # Errors
/// [`Kind::Failed`](crate::error::Kind::Failed) if an embedded program is broken.
pub fn examine(source: &Source, catalog: &Catalog, overrides: &Overrides) -> Result<(Plan, Vec<Diagnostic>)> {
    let mut planner = Planner { source, problems: source.problems.clone() };
    let config = &source.config;
    let mut probes = Vec::new();
    let mut used = HashSet::new();
    for (index, probe) in config.probes.iter().enumerate() {
        let sinks = planner.probe_sinks(index, probe);
        used.extend(sinks.iter().copied());
        probes.push(planner.probe(index, probe, sinks, catalog, overrides)?);
    }
    planner.check_names(&config.probes);
    planner.check_defaults(&config.probes, catalog);
    let mut probes: Vec<ProbePlan> = probes.into_iter().flatten().collect();
    let sinks = planner.sinks(&mut probes, &used);
    sinks::route(&mut probes, &sinks);
    let events = probes.iter().any(|probe| probe.aggregate.is_none());
    let all = !probes.is_empty() && probes.len() == source.written_probes();
    if config.window.max_events.is_some() && !events && all && !source.is_partial() {
        let what = "`max_events` counts events, and no probe of this config sends events: use `duration`";
        planner.say_key(Code::Window, &[Key("window"), Key("max_events")], what);
    }
    let window = planner.window(&overrides.window);
    let schedule = planner.schedule();
    let plan = Plan {
        name: config.name.clone().unwrap_or_else(|| source.stem.clone()),
        labels: config.labels.clone(),
        window,
        schedule,
        max_loss: config.max_loss.map_or(0.0, |share| share.0),
        probes,
        sinks,
    };
    // One fault may be found in several ways
    let mut reported = HashSet::new();
    planner.problems.retain(|problem| reported.insert((problem.place, problem.code, problem.message.clone())));
    Ok((plan, planner.problems))
}

/// Collects the problems of a config on the way to a plan.
struct Planner<'a> {
    source: &'a Source,
    problems: Vec<Diagnostic>,
}

impl ProbePlan {
    /// Bytes that its buffer takes on a machine with so many possible CPUs.
    pub fn buffer_memory(&self, possible_cpus: u64) -> u64 {
        if self.aggregate.is_some() { 0 } else { self.buffer.memory(possible_cpus) }
    }

    /// Bytes that its maps take at the most on such a machine, about: the kernel's own share of an entry depends on its
    /// version.
    pub fn map_memory(&self, possible_cpus: u64) -> u64 {
        const ENTRY: u64 = 64;
        let swaps = self.aggregate.as_ref().is_some_and(AggregatePlan::swaps);
        let of = |map: &MapSpec| {
            let values = if map.per_cpu { possible_cpus } else { 1 };
            let maps = if map.twice && swaps { 2 } else { 1 };
            maps * u64::from(self.entries(map)) * (ENTRY + map.key_bytes + map.value_bytes * values)
        };
        self.program.maps.iter().map(of).sum()
    }
}

impl Planner<'_> {
    /// A problem with the value at `path`.
    fn say(&mut self, code: Code, path: &[TreeStep<'_>], message: impl Into<String>) {
        self.say_at(code, path, self.source.root.at(path).place, message);
    }

    /// A problem with the key at `path`.
    fn say_key(&mut self, code: Code, path: &[TreeStep<'_>], message: impl Into<String>) {
        self.say_at(code, path, self.source.root.key_at(path), message);
    }

    /// A problem with what is at `path`, seen at `place`. One with a default is told once, not for each probe.
    fn say_at(&mut self, code: Code, path: &[TreeStep<'_>], place: Place, message: impl Into<String>) {
        let mut message = message.into();
        if let [Key("probes"), Index(index), ..] = path
            && self.source.is_default(path)
        {
            if self.problems.iter().any(|problem| (problem.code, problem.place) == (code, place)) {
                return;
            }
            let probe = &self.source.config.probes[*index];
            let name = probe.name.as_deref().unwrap_or(&probe.program);
            message += &format!(" (default of probe `{name}`)");
        }
        self.problems.push(Diagnostic::new(code, place, message));
    }

    /// The program called `name`, or the one that is probably meant; `None` if neither is known.
    fn program(&mut self, path: &[TreeStep<'_>], name: &str, catalog: &Catalog) -> Option<Result<Arc<Program>>> {
        if let Some(program) = catalog.program(name) {
            return Some(program);
        }
        // One without a name has been reported
        if !name.is_empty() {
            let known = match program_of(name) {
                Some(program) => format!("; `{name}` is a config of the program `{program}`"),
                None => suggest(name, catalog.names()),
            };
            self.say(Code::UnknownProgram, path, format!("there is no program `{name}`{known}"));
        }
        likely_program(name, catalog)
    }

    /// Checks what can be checked of a probe whose program is not known.
    fn any_program(
        &mut self,
        index: usize,
        probe: &model::Probe,
        catalog: &Catalog,
        overrides: &Overrides,
    ) -> Result<()> {
        let programs = catalog.names().filter_map(|name| catalog.program(name)).collect::<Result<Vec<_>>>()?;
        self.filters_of_any(index, probe, &programs);
        let maps: Vec<&str> = programs.iter().flat_map(|program| &program.maps).map(|map| map.name.as_str()).collect();
        for name in probe.maps.keys().filter(|name| !maps.contains(&name.as_str())) {
            let path = [Key("probes"), Index(index), Key("maps"), Key(name)];
            if !self.source.is_default(&path) {
                let what = format!("no program has a map `{name}`{}", suggest(name, maps.iter().copied()));
                self.say_key(Code::UnknownMap, &path, what);
            }
        }
        let events = programs.iter().filter(|program| program.event().is_some());
        if let Some(program) = events.min_by_key(|program| buffer::record_bytes(program)) {
            self.buffer(&[Key("probes"), Index(index), Key("buffer")], &probe.buffer, program, overrides);
        }
        Ok(())
    }

    /// `None` if the probe has problems that leave no sensible plan.
    fn probe(
        &mut self,
        index: usize,
        probe: &model::Probe,
        sinks: Vec<usize>,
        catalog: &Catalog,
        overrides: &Overrides,
    ) -> Result<Option<ProbePlan>> {
        let here = [Key("probes"), Index(index)];
        let at = |key| [here[0], here[1], Key(key)];
        let Some(program) = self.program(&at("program"), &probe.program, catalog) else {
            self.any_program(index, probe, catalog, overrides)?;
            return Ok(None);
        };
        let program = program?;
        let (mut rodata, lookups) = self.filters(index, probe, &program);
        let buffer = self.buffer(&at("buffer"), &probe.buffer, &program, overrides);
        let aggregate = self.aggregate(&here, probe, &program);
        if aggregate.is_none() {
            rodata.extend(buffer.settings(&program, buffer::record_bytes(&program)));
        }
        let has_map = |name: &str| program.maps.iter().any(|map| map.name == name);
        for name in probe.maps.keys().filter(|name| !has_map(name)) {
            let path = [here[0], here[1], Key("maps"), Key(name)];
            // A default is for the programs that have such a map
            if !self.source.is_default(&path) {
                let known = suggest(name, program.maps.iter().map(|map| map.name.as_str()));
                self.say_key(Code::UnknownMap, &path, format!("`{}` has no map `{name}`{known}", program.name));
            }
        }
        let disks = program
            .filters
            .iter()
            .filter(|filter| filter.element.kind == ElementKind::Disk)
            .filter_map(|filter| probe.filters.get(&filter.name))
            .flat_map(texts)
            .collect();
        let sort = probe.order == model::Order::Time && aggregate.is_none();
        let maps =
            probe.maps.iter().filter(|(name, _)| has_map(name)).map(|(name, size)| (name.clone(), *size)).collect();
        Ok(Some(ProbePlan {
            streams: rows::streams(&program, aggregate.as_ref()),
            aggregate,
            name: probe.name.clone().unwrap_or_else(|| probe.program.clone()),
            hooks: program.hooks.iter().map(|hook| (hook.clone(), skipped(hook, probe))).collect(),
            program,
            rodata,
            lookups,
            bss: Vec::new(),
            maps,
            buffer,
            sinks,
            skip_unsupported: probe.on_unsupported == model::OnUnsupported::Skip,
            sort,
            disks,
        }))
    }

    /// Indices of the sinks that a probe names, all of them by default.
    fn probe_sinks(&mut self, index: usize, probe: &model::Probe) -> Vec<usize> {
        let sinks = &self.source.config.sinks;
        let Some(names) = &probe.sinks else {
            let all = if self.source.is_lost(&[Key("probes"), Index(index)], "sinks") { 0 } else { sinks.len() };
            return (0..all).collect();
        };
        let written = self.source.written_names("sinks");
        let mut found = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let path = [Key("probes"), Index(index), Key("sinks"), Index(i)];
            if names[..i].contains(name) {
                self.say(Code::SinkTwice, &path, format!("sink `{name}` is here twice: remove one of them"));
                continue;
            }
            match (sinks.keys().position(|sink| sink == name), &written) {
                (Some(sink), _) => found.push(sink),
                (None, Some(written)) if !written.contains(&name.as_str()) => {
                    // Another file may have the sink
                    if !self.source.is_partial() {
                        let known = suggest(name, written.iter().copied());
                        self.say(Code::UnknownSink, &path, format!("there is no sink `{name}`{known}"));
                    }
                }
                (None, _) => {}
            }
        }
        found
    }

    fn check_names(&mut self, probes: &[model::Probe]) {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, probe) in probes.iter().enumerate() {
            let here = [Key("probes"), Index(i)];
            let name = probe.name.as_deref().unwrap_or(&probe.program);
            if name.is_empty() || probe.name.is_none() && self.source.is_lost(&here, "name") {
                continue;
            }
            let first = *names.entry(name).or_insert(i);
            if first != i {
                let path = [here[0], here[1], Key("name")];
                let place = |path: &[TreeStep<'_>]| self.source.root.at(path).place;
                let line = self.source.place_in(place(&[Key("probes"), Index(first)]), place(&path));
                let message = format!("a second probe is called `{name}` (the first: {line}): give it another `name`");
                self.say(Code::ProbeTwice, &path, message);
            }
        }
    }
}

/// The program that is probably meant by `name`.
fn likely_program(name: &str, catalog: &Catalog) -> Option<Result<Arc<Program>>> {
    catalog.program(nearest(name, catalog.names())?)
}

fn setting(variable: &Variable, bytes: Vec<u8>) -> Setting {
    Setting { symbol: variable.symbol.clone(), offset: variable.offset, bytes }
}

/// A variable of the runner's own. A program that lacks it is none that the tests let pass.
pub fn internal(program: &Program, symbol: &str, bytes: &[u8]) -> Option<Setting> {
    let variable = program.internals.iter().find(|variable| variable.symbol == symbol)?;
    Some(setting(variable, bytes.to_vec()))
}

/// Why the probe does not need `hook`.
fn skipped(hook: &Hook, probe: &model::Probe) -> Option<String> {
    let (filter, only) = hook.skip_if.as_ref()?;
    let values = texts(probe.filters.get(filter)?);
    (values.len() == 1 && values[0] == *only).then(|| format!("not needed with `{filter}: {only}`"))
}

/// A value or the values of a list, as text.
fn texts(value: &serde_yaml::Value) -> Vec<String> {
    match value {
        serde_yaml::Value::Sequence(items) => items.iter().flat_map(texts).collect(),
        serde_yaml::Value::String(text) => vec![text.clone()],
        serde_yaml::Value::Bool(value) => vec![value.to_string()],
        serde_yaml::Value::Number(value) => vec![value.to_string()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
