//! An aggregate in a plan: how often it is read, and the shape of the rows that sinks get.
//!
//! Rows are records like any other: flat bytes that a [`Layout`] describes, so sinks and templates need nothing new.

use std::sync::Arc;
use std::time::Duration;

use super::{Plan, Planner, ProbePlan};
use crate::catalog::{Aggregate, AggregateShape, Program, ProgramOutput};
use crate::config::code::Code;
use crate::config::diagnostic::suggest;
use crate::config::model;
use crate::config::yaml::TreeStep;
use crate::config::yaml::TreeStep::Key;
use crate::event::{Field, FieldKind, Layout, ValueNames};
use crate::output::sink::RecordSource;

/// Where a row's own words end and the copy of the key begins: `ts`, and which kind of row it is.
pub const KEY_AT: usize = 16;
/// Bytes of the head of a stack: where its frames begin in the tail, their bytes, whether there were more.
pub const STACK_HEAD: usize = 12;
/// Which kind of row: the numbers of `row`.
pub const ROW_BUCKET: u32 = 0;
pub const ROW_SUMMARY: u32 = 1;
/// Reading a map costs CPU time in the kernel.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// How a probe's aggregate is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregatePlan {
    /// What is read.
    pub spec: Arc<Aggregate>,
    /// How often; `None`: at the end only.
    pub interval: Option<Duration>,
    /// Rows tell what came since the last reading, not since the start.
    pub clear: bool,
    /// CPUs are kept apart.
    pub per_cpu: bool,
    /// Only so many rows, the first.
    pub top: Option<usize>,
    /// Counters: rows with the largest of this one come first. An index of them.
    pub sort: usize,
}

impl AggregatePlan {
    /// Whether the map exists twice, and is emptied each time that it is read: then it has to hold what one interval has.
    /// Not where `per_cpu` changes the map's type: libbpf can't change that of the maps within a map.
    pub fn swaps(&self) -> bool {
        self.interval.is_some() && self.clear && self.spec.is_hash && (self.spec.per_cpu || !self.per_cpu)
    }
}

/// One sort of records of a probe, and the sinks that they go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The shape of its records.
    pub layout: Arc<Layout>,
    /// Indices of the sinks.
    pub sinks: Vec<usize>,
}

impl Plan {
    /// The streams of all probes, in the order in which a run numbers them, each with its probe.
    pub fn streams(&self) -> impl Iterator<Item = (&ProbePlan, &Stream)> {
        self.probes.iter().flat_map(|probe| probe.streams.iter().map(move |stream| (probe, stream)))
    }

    /// What the sink with this index writes records of: an entry for each stream, `None` where it goes elsewhere.
    pub fn sources(&self, sink: usize) -> Vec<Option<RecordSource<'_>>> {
        self.streams()
            .map(|(probe, stream)| {
                let source = RecordSource { layout: &stream.layout, name: &probe.name };
                stream.sinks.contains(&sink).then_some(source)
            })
            .collect()
    }
}

/// The sorts of records that a probe has: its events; or its rows; or its buckets, then its summaries.
pub(super) fn streams(program: &Program, aggregate: Option<&AggregatePlan>) -> Vec<Stream> {
    let layouts = match (&program.output, aggregate) {
        (ProgramOutput::Events(layout), _) => vec![Arc::clone(layout)],
        (ProgramOutput::Aggregate(_), Some(plan)) => row_layouts(plan).into_iter().map(Arc::new).collect(),
        (ProgramOutput::Aggregate(_), None) => Vec::new(),
    };
    layouts.into_iter().map(|layout| Stream { layout, sinks: Vec::new() }).collect()
}

/// The shapes of the rows that an aggregate gives: see [`Stream`].
pub fn row_layouts(plan: &AggregatePlan) -> Vec<Layout> {
    match &plan.spec.shape {
        AggregateShape::Counters { fields, .. } => {
            let values = fields.iter().map(|field| (field.name.clone(), field.doc.clone(), field.unit.clone()));
            vec![layout(plan, false, values.collect())]
        }
        AggregateShape::Histogram { field, .. } => {
            let unit = || field.unit.clone();
            let value = |name: &str, doc: &str, unit| (name.to_owned(), doc.to_owned(), unit);
            let bucket = vec![
                value("bucket_low", &format!("Lower bound of the bucket. Value: {}", field.doc), unit()),
                value("bucket_high", "Upper bound of the bucket", unit()),
                value("count", "Number of events in the bucket", None),
            ];
            let summary = vec![
                value("count", "Number of events", None),
                value("sum", "Sum of the values", unit()),
                value("p50", "Median, as the upper bound of its bucket", unit()),
                value("p90", "90th percentile, as the upper bound of its bucket", unit()),
                value("p99", "99th percentile, as the upper bound of its bucket", unit()),
                value("max", "Largest value; an upper bound of it if a row covers a part of the window", unit()),
            ];
            vec![layout(plan, true, bucket), layout(plan, true, summary)]
        }
    }
}

/// `ts`, `row` where there are several kinds, the key, the CPU, the values, the stacks.
fn layout(plan: &AggregatePlan, kinds: bool, values: Vec<(String, String, Option<String>)>) -> Layout {
    let spec = &plan.spec;
    let field = |name: &str, doc: &str, kind, offset, size| Field {
        name: name.into(),
        doc: doc.into(),
        unit: None,
        errno: false,
        kind,
        offset,
        size,
    };
    let mut fields = vec![field("ts", "When the map was read", FieldKind::Uint, 0, 8)];
    if kinds {
        let names = vec![(u64::from(ROW_BUCKET), "bucket".into()), (u64::from(ROW_SUMMARY), "summary".into())];
        let names = Arc::new(ValueNames::from_c(names));
        fields.push(field("row", "A bucket of a histogram, or its summary", FieldKind::Enum(names), 8, 4));
    }
    let stacks = spec.key.iter().filter(|key| key.stack.is_some()).count();
    let cpu_at = KEY_AT + spec.key_size.next_multiple_of(8);
    let values_at = cpu_at + 8;
    let stacks_at = values_at + 8 * values.len();
    let tail = (stacks_at + STACK_HEAD * stacks).next_multiple_of(8);
    let mut stack = 0;
    for key in &spec.key {
        let mut one = key.field.clone();
        if key.stack.is_some() {
            (one.kind, one.offset, one.size) = (FieldKind::Stack { tail }, stacks_at + STACK_HEAD * stack, STACK_HEAD);
            stack += 1;
        } else {
            one.offset += KEY_AT;
        }
        fields.push(one);
    }
    if plan.per_cpu {
        fields.push(field("cpu", "CPU", FieldKind::Uint, cpu_at, 4));
    }
    for (i, (name, doc, unit)) in values.into_iter().enumerate() {
        let mut one = field(&name, &doc, FieldKind::Uint, values_at + 8 * i, 8);
        one.unit = unit;
        fields.push(one);
    }
    Layout { doc: spec.doc.clone(), fields, size: tail, min_size: tail }
}

impl Planner<'_> {
    /// What a probe says of its aggregate; problems where the program has none.
    pub(super) fn aggregate(
        &mut self,
        here: &[TreeStep<'_>; 2],
        probe: &model::Probe,
        program: &Program,
    ) -> Option<AggregatePlan> {
        let at = |key| [here[0], here[1], Key(key)];
        let Some(spec) = program.aggregate() else {
            let given = [
                ("interval", probe.interval.is_some()),
                ("clear", probe.clear.is_some()),
                ("per_cpu", probe.per_cpu.is_some()),
                ("top", probe.top.is_some()),
                ("sort", probe.sort.is_some()),
            ];
            // A default is for the programs that have a use for it
            for (key, _) in given.into_iter().filter(|(key, given)| *given && !self.source.is_default(&at(key))) {
                let what =
                    format!("`{key}` is for aggregating programs, and `{}` sends events: remove it", program.name);
                self.say_key(Code::Misplaced, &at(key), what);
            }
            return None;
        };
        if self.source.root.at(here).get("buffer").is_some() && !self.source.is_default(&at("buffer")) {
            let what = format!(
                "`buffer` is for programs that send events, and `{}` aggregates: remove it (`interval` sets how often it is read)",
                program.name
            );
            self.say_key(Code::Misplaced, &at("buffer"), what);
        }
        if probe.order == model::Order::Time && !self.source.is_default(&at("order")) {
            self.say(Code::Misplaced, &at("order"), "`order` is for programs that send events: remove it");
        }
        let interval = probe.interval.map(Duration::from);
        if interval.is_some_and(|interval| interval < LEAST_INTERVAL) {
            self.say(Code::Latency, &at("interval"), "`interval` must be at least 10ms");
        }
        let histogram = matches!(spec.shape, AggregateShape::Histogram { .. });
        if probe.top.is_some() && histogram && !self.source.is_default(&at("top")) {
            self.say_key(
                Code::Misplaced,
                &at("top"),
                "`top` is for programs with counters, and this one has a histogram: remove it",
            );
        }
        Some(AggregatePlan {
            spec: Arc::clone(spec),
            interval,
            clear: probe.clear.unwrap_or(true),
            per_cpu: probe.per_cpu.unwrap_or(false),
            top: probe.top.filter(|_| !histogram).map(|top| top as usize),
            sort: self.sort(here, probe, spec),
        })
    }

    /// Which counter the rows are sorted by.
    fn sort(&mut self, here: &[TreeStep<'_>; 2], probe: &model::Probe, spec: &Aggregate) -> usize {
        let at = [here[0], here[1], Key("sort")];
        let Some(name) = &probe.sort else { return 0 };
        let AggregateShape::Counters { fields, .. } = &spec.shape else {
            self.say_key(
                Code::Misplaced,
                &at,
                "`sort` is for programs with counters, and this one has a histogram: remove it",
            );
            return 0;
        };
        fields.iter().position(|field| field.name == *name).unwrap_or_else(|| {
            let known = suggest(name, fields.iter().map(|field| field.name.as_str()));
            self.say(Code::UnknownField, &at, format!("`{}` has no counter `{name}`{known}", probe.program));
            0
        })
    }
}

#[cfg(test)]
mod tests;
