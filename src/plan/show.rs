//! The plan for a person: every value that will be set, where it comes from, and what it costs.

use std::fmt::{self, Write as _};

use super::{AggregatePlan, BufferPlan, Lookup, Plan, ProbePlan, Setting, SinkPlan, Transport, WakeupPlan, decode};
use crate::catalog::PerfEvent;
use crate::config::quantity::{Bytes, Nanoseconds, Share};
use crate::output::{Column, Shape};

/// Columns that the first word of a line takes.
const FIRST: usize = 22;

/// A plan as text, for a machine with so many possible CPUs.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// What is shown.
    pub plan: &'a Plan,
    /// CPUs that there may ever be: perf buffers are counted for each of them.
    pub possible_cpus: u64,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { name, window, max_loss, probes, sinks, .. } = self.plan;
        writeln!(f, "plan of {name}; nothing is loaded")?;
        if let Some(start) = window.start() {
            line(f, "window starts", &start)?;
        }
        let mut ends = window.ends();
        ends.push("when interrupted".into());
        line(f, "window ends", &ends.join(", or "))?;
        if let Some(lock) = &window.lock {
            line(f, "lock", lock)?;
        }
        line(f, "max_loss", &Share(*max_loss).to_string())?;
        let memory = probes.iter().map(|probe| probe.buffer_memory(self.possible_cpus)).sum();
        line(f, "memory of buffers", &Bytes(memory).to_string())?;
        for probe in probes {
            self.probe(f, probe)?;
        }
        sinks.iter().try_for_each(|plan| sink(f, plan))
    }
}

impl Shown<'_> {
    fn probe(&self, f: &mut fmt::Formatter<'_>, probe: &ProbePlan) -> fmt::Result {
        let program = &probe.program;
        writeln!(f, "\nprobe {}: {}, {}", probe.name, program.name, program.doc())?;
        let variables = || program.filters.iter().chain(&program.internals);
        writeln!(f, " variables, set before load")?;
        for Setting { symbol, offset, bytes } in &probe.rodata {
            let variable = variables().find(|variable| variable.symbol == *symbol);
            let value = variable.map(|variable| decode::decode(variable, bytes).join(", ")).unwrap_or_default();
            line(f, symbol, &format!("{value}  ({} bytes at .rodata+{offset}: {})", bytes.len(), hex(bytes)))?;
        }
        for Lookup { filter, offset, name } in &probe.lookups {
            line(f, filter, &format!("{name}, at .rodata+{offset}, looked up when the capture starts"))?;
        }
        line(f, "runner_self", "the runner's own process")?;
        let set = |symbol: &String| probe.rodata.iter().any(|setting| setting.symbol == *symbol);
        let left = program.filters.iter().filter(|filter| !set(&filter.symbol));
        let left: Vec<&str> = left.map(|filter| filter.name.as_str()).collect();
        if !left.is_empty() {
            line(f, "left as they are", &left.join(", "))?;
        }
        if !program.maps.is_empty() {
            writeln!(f, " maps")?;
        }
        for map in &program.maps {
            let origin = if probe.maps.contains_key(&map.name) { "" } else { ", the program's own size" };
            line(f, &map.name, &format!("{} entries{origin}: {}", probe.entries(map), map.doc))?;
        }
        match &probe.aggregate {
            Some(aggregate) => reading(f, aggregate)?,
            None => {
                writeln!(f, " buffer")?;
                self.buffer(f, &probe.buffer)?;
                line(f, "order", if probe.sort { "time" } else { "arrival" })?;
            }
        }
        writeln!(f, " hooks, attached from the last to the first")?;
        for (hook, skipped) in &probe.hooks {
            let mut what = hook.section.clone();
            if let Some(event) = &hook.perf_event {
                write!(what, ": {}", sources(event, &probe.rodata).join(", else "))?;
            }
            if let Some((group, variant)) = &hook.alternative {
                write!(what, ", variant {variant} of {group}: the first that the kernel takes")?;
            }
            match skipped {
                Some(reason) => write!(what, ", left out: {reason}")?,
                None if hook.optional => what += ", where the kernel has it",
                None => {}
            }
            line(f, &hook.name, &what)?;
        }
        if probe.skip_unsupported {
            writeln!(f, " skipped with a warning where the kernel can't run it")?;
        }
        let sinks: Vec<&str> = probe.sinks.iter().map(|index| self.plan.sinks[*index].name.as_str()).collect();
        writeln!(f, " sinks: {}", sinks.join(", "))
    }

    fn buffer(&self, f: &mut fmt::Formatter<'_>, buffer: &BufferPlan) -> fmt::Result {
        let chosen = |auto: bool, what: String| if auto { format!("auto: {what}") } else { what };
        let perf = buffer.transport == Transport::Perf;
        let kind = match buffer.transport {
            Transport::Reserve => "ringbuf, submit reserve",
            Transport::Output => "ringbuf, submit output",
            Transport::Perf => "perfbuf",
        };
        line(f, "type", &chosen(buffer.left.kind, kind.into()))?;
        let (asked, size) = (Bytes(buffer.asked), Bytes(buffer.effective.into()));
        let each = if perf { " a CPU" } else { "" };
        let origin = if buffer.left.size { "the default".into() } else { format!("asked: {asked}") };
        line(f, "size", &format!("{size}{each} ({origin})"))?;
        let memory = Bytes(buffer.memory(self.possible_cpus));
        let cpus = if perf { format!(", {size} for each of {} possible CPUs", self.possible_cpus) } else { "".into() };
        line(f, "memory", &format!("{memory}{cpus}"))?;
        let wakeup = match buffer.wakeup {
            WakeupPlan::Adaptive => "adaptive: when the runner has read everything before".into(),
            WakeupPlan::Events(1) => "every_event".into(),
            WakeupPlan::Events(events) => format!("with every {events} events of a CPU"),
            WakeupPlan::Bytes(bytes) => format!("wakeup at {} unread", Bytes(bytes.into())),
            WakeupPlan::Timer => "never: the runner looks by itself".into(),
        };
        line(f, "wakeup", &chosen(buffer.left.wakeup, wakeup))?;
        line(f, "max_latency", &Nanoseconds::from(buffer.max_latency).to_string())
    }
}

/// The perf events that are tried, by name: one if the probe chooses it, else the program's in their order.
fn sources<'a>(event: &'a PerfEvent, rodata: &[Setting]) -> Vec<&'a str> {
    let set = rodata.iter().find(|setting| setting.offset == event.chosen_at);
    let chosen = set.and_then(|setting| Some(u32::from_ne_bytes(setting.bytes.as_slice().try_into().ok()?)));
    let tried = chosen.filter(|source| *source != 0).map_or_else(|| event.sources.clone(), |source| vec![source]);
    tried.iter().map(|source| event.names.name((*source).into()).unwrap_or("?")).collect()
}

fn reading(f: &mut fmt::Formatter<'_>, plan: &AggregatePlan) -> fmt::Result {
    writeln!(f, " reading of map {}", plan.spec.map)?;
    let interval = plan.interval.map(|interval| format!("every {}, and at the end", Nanoseconds::from(interval)));
    line(f, "interval", &interval.unwrap_or_else(|| "at the end only".into()))?;
    line(f, "clear", if plan.clear { "true: what came since the last reading" } else { "false: all since the start" })?;
    line(f, "per_cpu", if plan.per_cpu { "true" } else { "false: CPUs are added up" })?;
    let top = plan.top.map(|top| format!("the {top} largest"));
    line(f, "top", &top.unwrap_or_else(|| "all".into()))
}

fn sink(f: &mut fmt::Formatter<'_>, SinkPlan { name, path, shape, files }: &SinkPlan) -> fmt::Result {
    let path = if path == "-" { "standard output" } else { path };
    let kind = match shape {
        Shape::Text { .. } | Shape::Drawn { .. } => "stdout",
        Shape::Csv { .. } => "csv",
        Shape::Jsonl { .. } => "jsonl",
    };
    writeln!(f, "\nsink {name}: {kind} to {path}")?;
    let list = |columns: &[Column]| columns.iter().map(Column::name).collect::<Vec<_>>().join(", ");
    match shape {
        Shape::Text { template, .. } => line(f, "template", template),
        Shape::Drawn { .. } => line(f, "template", "none: tables and histograms"),
        Shape::Csv { columns } => line(f, "columns", &list(columns)),
        Shape::Jsonl { fields: Some(fields) } => line(f, "fields", &list(fields)),
        Shape::Jsonl { fields: None } => line(f, "fields", "all"),
    }?;
    let files = files.shown();
    if files.is_empty() { Ok(()) } else { line(f, "files", &files) }
}

fn line(f: &mut fmt::Formatter<'_>, first: &str, rest: &str) -> fmt::Result {
    writeln!(f, "  {first:FIRST$} {rest}")
}

/// The bytes as they lie in memory, without the zeros behind the last that is none.
fn hex(bytes: &[u8]) -> String {
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut out: Vec<String> = bytes[..used].iter().map(|byte| format!("{byte:02x}")).collect();
    if used < bytes.len() {
        out.push(if used == 0 { "all 0".into() } else { "then 0".into() });
    }
    out.join(" ")
}
