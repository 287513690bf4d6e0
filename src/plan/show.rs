//! The plan for a person: every value that will be set, where it comes from, and what it costs.

use std::fmt::{self, Write as _};

use super::{
    AggregatePlan, BufferPlan, Lookup, Plan, ProbePlan, RenderContext, Setting, SinkPlan, Transport, WakeupPlan, decode,
};
use crate::catalog::{self, PerfEvent};
use crate::config::quantity::{Bytes, Nanoseconds, Share};
use crate::config::yaml::TreeStep::{self, Index, Key};
use crate::event::text::one_line;
use crate::output::{SinkColumn, SinkFormat};

/// Columns that the first word of a line takes.
const FIRST: usize = 22;

/// A plan as text. Behind each value stands in brackets what it comes from.
#[derive(Debug, Clone, Copy)]
pub struct PlanView<'a> {
    /// What is shown.
    pub plan: &'a Plan,
    /// What it is seen with.
    pub context: RenderContext<'a>,
}

impl fmt::Display for PlanView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { name, labels, window, schedule, max_loss, probes, sinks } = self.plan;
        writeln!(f, "plan of {}; nothing is loaded", one_line(name))?;
        let from = |key: &str| format!("  [{}]", self.context.window_origin(self.plan, key));
        if let Some(schedule) = schedule {
            let from = self.from(&[Key("schedule")]);
            line(f, "schedule", &format!("{schedule}, local time; for `ebpf-run emit`{from}"))?;
        }
        if let Some(start) = window.start_from(&from) {
            line(f, "window starts", &start)?;
        }
        let mut ends = window.ends_from(&from);
        ends.push("when interrupted".into());
        line(f, "window ends", &ends.join(", or "))?;
        if let Some(drain) = window.drain {
            line(f, "drain", &format!("{} at the most{}", Nanoseconds::from(drain), from("drain")))?;
        }
        if let Some(lock) = &window.lock {
            line(f, "lock", &format!("{lock}{}", from("lock")))?;
            line(f, "on_locked", &format!("{}{}", window.on_locked.name(), from("on_locked")))?;
        }
        line(f, "max_loss", &format!("{}{}", Share(*max_loss), self.from(&[Key("max_loss")])))?;
        for (name, label) in labels {
            line(f, &format!("label {name}"), &format!("{label}{}", self.from(&[Key("labels"), Key(name)])))?;
        }
        let sum = |of: fn(&ProbePlan, u64) -> u64| {
            Bytes(probes.iter().map(|probe| of(probe, self.context.possible_cpus)).sum())
        };
        line(f, "memory of buffers", &sum(ProbePlan::buffer_memory).to_string())?;
        line(
            f,
            "memory of full maps",
            &format!("{} with {} possible CPUs", sum(ProbePlan::map_memory), self.context.possible_cpus),
        )?;
        for (index, probe) in probes.iter().enumerate() {
            self.probe(f, index, probe)?;
        }
        sinks.iter().try_for_each(|plan| self.sink(f, plan))
    }
}

impl PlanView<'_> {
    /// The origin of the value at `path`, to be put behind it.
    fn from(&self, path: &[TreeStep<'_>]) -> String {
        format!("  [{}]", self.context.origin(path))
    }

    fn probe(&self, f: &mut fmt::Formatter<'_>, index: usize, probe: &ProbePlan) -> fmt::Result {
        let program = &probe.program;
        let here = [Key("probes"), Index(index)];
        let key = |key| self.from(&[here[0], here[1], Key(key)]);
        let filter_from = |name| self.from(&[here[0], here[1], Key("filters"), Key(name)]);
        writeln!(f, "\nprobe {}: {}, {}", one_line(&probe.name), program.name, program.doc())?;
        let variables = || program.filters.iter().chain(&program.internals);
        writeln!(f, " variables, set before load")?;
        for Setting { symbol, offset, bytes } in &probe.rodata {
            let variable = variables().find(|variable| variable.symbol == *symbol);
            let value = variable.map(|variable| decode::decode(variable, bytes).join(", ")).unwrap_or_default();
            let from = match program.filters.iter().find(|filter| filter.symbol == *symbol) {
                Some(filter) => filter_from(&filter.name),
                None => format!("  [{}]", self.context.buffer_origin(index, symbol, probe.buffer.transport)),
            };
            line(f, symbol, &format!("{value}{from}  ({} bytes at .rodata+{offset}: {})", bytes.len(), hex(bytes)))?;
        }
        for lookup @ Lookup { filter, offset, name, followed } in &probe.lookups {
            let (from, section) = (filter_from(filter), lookup.section());
            let followed = if *followed { " and followed" } else { "" };
            let when = format!("looked up when the capture starts{followed}");
            line(f, filter, &format!("{name}{from}  at {section}+{offset}, {when}"))?;
        }
        line(f, "runner_self", "the runner's own process")?;
        if super::Requirements::of(probe, std::iter::empty()).user_stacks {
            line(f, "runner_helper", "the process that looks up symbols for it")?;
        }
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
            let from = self.context.origin_or_program(&[here[0], here[1], Key("maps"), Key(&map.name)]);
            line(f, &map.name, &format!("{} entries  [{from}]  {}", probe.entries(map), map.doc))?;
        }
        match &probe.aggregate {
            Some(aggregate) => reading(f, aggregate, &key)?,
            None => {
                writeln!(f, " buffer")?;
                self.buffer(f, &probe.buffer, &|key| self.from(&[here[0], here[1], Key("buffer"), Key(key)]))?;
                line(f, "order", &format!("{}{}", if probe.sort { "time" } else { "arrival" }, key("order")))?;
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
                Some(reason) => write!(what, ", skipped: {reason}")?,
                None if hook.optional => what += ", optional",
                None => {}
            }
            line(f, &hook.name, &what)?;
        }
        if probe.skip_unsupported {
            writeln!(f, " skipped with a warning where the kernel can't run it{}", key("on_unsupported"))?;
        }
        let sinks: Vec<&str> = probe.sinks.iter().map(|index| self.plan.sinks[*index].name.as_str()).collect();
        writeln!(f, " sinks: {}{}", one_line(&sinks.join(", ")), key("sinks"))
    }

    fn buffer(
        &self,
        f: &mut fmt::Formatter<'_>,
        buffer: &BufferPlan,
        from: &dyn Fn(&'static str) -> String,
    ) -> fmt::Result {
        let chosen = |auto: bool, what: String| if auto { format!("auto: {what}") } else { what };
        let perf = buffer.transport == Transport::Perf;
        let kind = match buffer.transport {
            Transport::Reserve => "ringbuf, submit reserve",
            Transport::Output => "ringbuf, submit output",
            Transport::Perf => "perfbuf",
        };
        let asked_way = if buffer.transport == Transport::Output { "submit" } else { "type" };
        line(f, "type", &(chosen(buffer.left.kind, kind.into()) + &from(asked_way)))?;
        let (asked, size) = (Bytes(buffer.asked), Bytes(buffer.effective.into()));
        let each = if perf { " a CPU" } else { "" };
        let asked = if buffer.left.size { String::new() } else { format!(" (asked: {asked})") };
        line(f, "size", &format!("{size}{each}{asked}{}", from("size")))?;
        let possible_cpus = self.context.possible_cpus;
        let memory = Bytes(buffer.memory(possible_cpus));
        let cpus = if perf { format!(", {size} for each of {possible_cpus} possible CPUs") } else { "".into() };
        line(f, "memory", &format!("{memory}{cpus}"))?;
        let wakeup = match buffer.wakeup {
            WakeupPlan::Adaptive => "adaptive: when the runner has read everything before".into(),
            WakeupPlan::Events(1) => "every_event".into(),
            WakeupPlan::Events(events) => format!("with every {events} events of a CPU"),
            WakeupPlan::Bytes(bytes) => format!("wakeup at {} unread", Bytes(bytes.into())),
            WakeupPlan::Timer => "never: the runner looks by itself".into(),
        };
        line(f, "wakeup", &(chosen(buffer.left.wakeup, wakeup) + &from("wakeup")))?;
        let key = if buffer.wakeup == WakeupPlan::Timer { "wakeup" } else { "max_latency" };
        line(f, "max_latency", &format!("{}{}", Nanoseconds::from(buffer.max_latency), from(key)))
    }

    fn sink(&self, f: &mut fmt::Formatter<'_>, sink: &SinkPlan) -> fmt::Result {
        let SinkPlan { name, path, probe, shape, files } = sink;
        let now = self.context.path_now(self.plan, sink);
        let to = if path == "-" { "standard output" } else { &now };
        let kind = match shape {
            SinkFormat::Text { .. } | SinkFormat::Pretty { .. } => "stdout",
            SinkFormat::Csv { .. } => "csv",
            SinkFormat::Jsonl { .. } => "jsonl",
        };
        let of = probe.as_ref().map(|probe| format!(", of probe {probe}")).unwrap_or_default();
        writeln!(f, "\nsink {}", one_line(&format!("{name}{of}: {kind} to {to}")))?;
        let from = |keys: &str| {
            let mut path = vec![Key("sinks"), Key(name)];
            path.extend(keys.split('.').map(Key));
            self.from(&path)
        };
        line(f, "path", &format!("{path}{}", from("path")))?;
        let list = |columns: &[SinkColumn]| columns.iter().map(SinkColumn::name).collect::<Vec<_>>().join(", ");
        let (key, value) = match shape {
            SinkFormat::Text { template, .. } => ("template", template.clone()),
            SinkFormat::Pretty { .. } => ("template", "none: tables and histograms".into()),
            SinkFormat::Csv { columns } => ("columns", list(columns)),
            SinkFormat::Jsonl { fields: Some(fields) } => ("fields", list(fields)),
            SinkFormat::Jsonl { fields: None } => ("fields", "all".into()),
        };
        line(f, key, &(value + &from(key)))?;
        if let SinkFormat::Text { header: Some(header), .. } | SinkFormat::Pretty { header: Some(header) } = shape {
            line(f, "header", &format!("{header}{}", from("header")))?;
        }
        let files = files.shown(&from);
        if files.is_empty() { Ok(()) } else { line(f, "files", &files) }
    }
}

/// The perf events that are tried, by name: one if the probe chooses it, else the program's in their order.
fn sources<'a>(event: &'a PerfEvent, rodata: &[Setting]) -> Vec<&'a str> {
    let set = rodata.iter().find(|setting| setting.offset == event.chosen_at);
    let chosen = set.and_then(|setting| Some(u32::from_ne_bytes(setting.bytes.as_slice().try_into().ok()?)));
    let tried = chosen.filter(|source| *source != 0).map_or_else(|| event.sources.clone(), |source| vec![source]);
    tried.iter().map(|source| event.names.name((*source).into()).unwrap_or("?")).collect()
}

fn reading(f: &mut fmt::Formatter<'_>, plan: &AggregatePlan, from: &dyn Fn(&'static str) -> String) -> fmt::Result {
    writeln!(f, " reading of map {}", plan.spec.map)?;
    let interval = plan.interval.map(|interval| format!("every {}, and at the end", Nanoseconds::from(interval)));
    let clear = if plan.clear { "true: what came since the last reading" } else { "false: all since the start" };
    let per_cpu = if plan.per_cpu { "true" } else { "false: CPUs are added up" };
    let top = plan.top.map(|top| format!("the first {top}"));
    line(f, "interval", &(interval.unwrap_or_else(|| "at the end only".into()) + &from("interval")))?;
    line(f, "clear", &format!("{clear}{}", from("clear")))?;
    line(f, "per_cpu", &format!("{per_cpu}{}", from("per_cpu")))?;
    line(f, "top", &(top.unwrap_or_else(|| "all".into()) + &from("top")))?;
    let catalog::AggregateShape::Counters { fields, .. } = &plan.spec.shape else { return Ok(()) };
    line(f, "sort", &format!("{}: largest first{}", fields[plan.sort].name, from("sort")))
}

/// What a config says may have line ends in it, and must not look like more lines of the plan.
fn line(f: &mut fmt::Formatter<'_>, first: &str, rest: &str) -> fmt::Result {
    writeln!(f, "  {:FIRST$} {}", one_line(first), one_line(rest))
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
