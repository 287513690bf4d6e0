//! Describes a program from the catalogue and its measurements: as text and as JSON.

mod accuracy;
pub mod config;
pub(crate) mod measured;
pub mod starter;

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::catalog::{ElementKind, Hook, Program, Variable, configs_of, description};
use crate::event::{self, FieldKind, Layout, ValueNames};
use crate::output;
use crate::plan::{AggregatePlan, row_layouts};
use measured::{Tested, costs, tested};

/// Kinds of hooks, and the first Linux version with them.
const SINCE: &[(&str, &str)] = &[
    ("tp_btf", "5.5"),
    ("fentry", "5.5"),
    ("fexit", "5.5"),
    ("raw_tp", "4.17"),
    ("raw_tracepoint", "4.17"),
    ("tracepoint", "4.7"),
    ("tp", "4.7"),
    ("perf_event", "4.9"),
    ("iter", "5.8"),
    ("kprobe", "4.1"),
    ("kretprobe", "4.1"),
];

/// A field of a program's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its meaning.
    pub doc: String,
    /// Its possible values.
    pub values: String,
}

/// Every field that records of `program` can have; of an aggregate, those of all kinds of rows.
pub fn fields(program: &Program) -> Vec<Described> {
    let layouts: Vec<Layout> = match (program.event(), program.aggregate()) {
        (Some(layout), _) => vec![layout.as_ref().clone()],
        (None, Some(spec)) => {
            let spec = Arc::clone(spec);
            row_layouts(&AggregatePlan { spec, interval: None, clear: true, per_cpu: true, top: None, sort: 0 })
        }
        (None, None) => Vec::new(),
    };
    fields_of(layouts.iter())
}

/// Every field of records of any of `layouts`, each once.
fn fields_of<'a>(layouts: impl Iterator<Item = &'a Layout>) -> Vec<Described> {
    let mut found: Vec<Described> = Vec::new();
    for layout in layouts {
        for (field, name) in output::FieldRef::all(layout) {
            let (doc, values) = match field {
                output::FieldRef::Event(index) => (layout.fields[index].doc.as_str(), values_of(&layout.fields[index])),
                output::FieldRef::Time => ("Wall-clock time of the event", "time".into()),
                output::FieldRef::Probe => ("Name of the probe", "text".into()),
            };
            if !found.iter().any(|known| known.name == name) {
                found.push(Described { name: name.into(), doc: doc.into(), values });
            }
        }
    }
    found
}

fn values_of(field: &event::Field) -> String {
    let unit = field.unit.as_ref().map(|unit| format!(", {unit}")).unwrap_or_default();
    match &field.kind {
        FieldKind::Uint | FieldKind::Int if field.errno => format!("number, negative: an error{unit}"),
        FieldKind::Uint | FieldKind::Int => format!("number{unit}"),
        FieldKind::Bool => "true or false".into(),
        FieldKind::Text | FieldKind::Tail { .. } => "text".into(),
        FieldKind::Enum(names) => list(names),
        FieldKind::Bits(names) => format!("any of {}", list(names)),
        FieldKind::List { .. } => "list of texts".into(),
        FieldKind::Ip => "address, of IPv4 or IPv6".into(),
        FieldKind::Stack { .. } => "stack, the innermost frame first".into(),
    }
}

fn list(names: &ValueNames) -> String {
    names.iter().map(|(_, name)| name).collect::<Vec<_>>().join(" ")
}

/// The values that a filter accepts.
pub(crate) fn takes(filter: &Variable) -> String {
    let one = match &filter.element.kind {
        ElementKind::Uint | ElementKind::Int => "number".into(),
        ElementKind::Duration => "time (10ms)".into(),
        ElementKind::Bytes => "size (64KiB)".into(),
        ElementKind::Frequency => "frequency (99Hz)".into(),
        ElementKind::Bool => "true or false".into(),
        ElementKind::Text => format!("text of at most {} bytes", filter.element.size - 1),
        ElementKind::Comm => "command, or its beginning and a *".into(),
        ElementKind::Disk => "disk by name or major:minor".into(),
        ElementKind::User => "user by number or name".into(),
        ElementKind::Cgroup => "path of a cgroup".into(),
        ElementKind::Unit => "systemd unit".into(),
        ElementKind::Enum(names) => list(names),
    };
    match filter.list {
        Some(shape) if shape.max > 1 => format!("{one}; up to {}, or {{not: …}}", shape.max),
        _ => one,
    }
}

/// The first Linux version with all kinds of hooks that `program` requires.
fn since(program: &Program) -> Option<&'static str> {
    let of = |hook: &Hook| {
        let kind = hook.section.split('/').next().unwrap_or_default();
        SINCE.iter().find(|(known, _)| *known == kind).map(|(_, version)| *version)
    };
    let number = |version: &&str| {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
        (parts.next(), parts.next())
    };
    let needed = program.hooks.iter().filter(|hook| !hook.optional && hook.alternative.is_none());
    let least_choice =
        || program.hooks.iter().filter(|hook| hook.alternative.is_some()).filter_map(of).min_by_key(number);
    needed.filter_map(of).chain(least_choice()).max_by_key(number)
}

/// Everything, as JSON.
pub fn json(program: &Program) -> Json {
    let fields: Vec<Json> = fields(program)
        .into_iter()
        .map(|field| json!({"name": field.name, "doc": field.doc, "values": field.values}))
        .collect();
    let filters: Vec<Json> = program
        .filters
        .iter()
        .map(|filter| {
            let choices = match &filter.element.kind {
                ElementKind::Enum(names) => names.iter().map(|(_, name)| name).collect::<Vec<_>>().into(),
                _ => Json::Null,
            };
            json!({
                "name": filter.name, "doc": filter.doc, "takes": takes(filter), "choices": choices,
                "max": filter.list.map_or(1, |shape| shape.max), "not": filter.list.is_some(),
            })
        })
        .collect();
    let maps: Vec<Json> =
        program.maps.iter().map(|map| json!({"name": map.name, "doc": map.doc, "entries": map.max_entries})).collect();
    let hooks: Vec<Json> = program
        .hooks
        .iter()
        .map(|hook| {
            let alternative =
                hook.alternative.as_ref().map(|(group, variant)| json!({"group": group, "variant": variant}));
            json!({
                "function": hook.name, "section": hook.section, "optional": hook.optional, "alternative": alternative,
                "left_out_if": hook.skip_if.as_ref().map(|(filter, value)| format!("{filter}: {value}")),
            })
        })
        .collect();
    let examples: Vec<&str> = configs_of(program.name).into_iter().map(|(name, _)| name).collect();
    let kernels = tested(program.name);
    json!({
        "name": program.name, "doc": program.doc(),
        "hands_out": if program.event().is_some() { "events" } else { "rows" },
        "fields": fields, "filters": filters, "maps": maps, "hooks": hooks,
        "accuracy": accuracy::json(&program.accuracy),
        "hooks_since_linux": since(program), "configs": examples,
        "since_linux": runs_since(&kernels).map(|first| &first.kernel), "oldest_tested": kernels.first().map(|k| &k.kernel),
        "tested": kernels.iter().map(|k| json!({"kernel": k.kernel, "verdict": k.verdict, "reason": k.reason}))
            .collect::<Vec<_>>(),
        "cost": costs(program.name).map(|measured| {
            let one = |cost: &measured::Cost| json!({"with": cost.with, "load": cost.load, "ns_an_event": cost.nanoseconds});
            let all: Vec<Json> = measured.costs.iter().map(one).collect();
            json!({"measured": all, "how": measured.how, "command": measured.command})
        }),
    })
}

/// Everything, as text.
pub fn text(program: &Program) -> String {
    let mut out = format!("{}: {}\n", program.name, program.doc());
    let what = if program.event().is_some() { "event" } else { "row, read from a map" };
    section(&mut out, &format!("Fields of each {what}"));
    let brief = |name: &str, values: &str| brief(values, &format!("ebpf-run describe {}.{name}", program.name));
    for field in fields(program) {
        entry(&mut out, &field.name, &field.doc, &brief(&field.name, &field.values));
    }
    section(&mut out, "Filters");
    for filter in &program.filters {
        entry(&mut out, &filter.name, &filter.doc, &brief(&filter.name, &takes(filter)));
    }
    if !program.maps.is_empty() {
        section(&mut out, "Maps");
    }
    for map in &program.maps {
        entry(&mut out, &map.name, &map.doc, &format!("{} entries by default; set with `maps`", map.max_entries));
    }
    section(&mut out, "Hooks");
    for hook in &program.hooks {
        let mut note = Vec::new();
        if let Some((group, variant)) = &hook.alternative {
            note.push(format!("variant {variant} of {group}: the first one that the kernel supports is used"));
        }
        note.extend(hook.optional.then(|| "optional".to_owned()));
        note.extend(hook.skip_if.as_ref().map(|(filter, value)| format!("not with `{filter}: {value}`")));
        if let Some(event) = &hook.perf_event {
            let named = |source: &u32| event.names.name(u64::from(*source)).unwrap_or_default().to_owned();
            note.push(event.sources.iter().map(named).collect::<Vec<_>>().join(", else "));
        }
        writeln!(out, "  {:<32} {}", hook.section, note.join("; ")).expect("a String takes all");
    }
    if let Some(version) = since(program) {
        writeln!(out, "\nHooks of these kinds require Linux {version} or later.").expect("fits");
    }
    section(&mut out, "Accuracy (docs/explanation/accuracy.md)");
    out += &accuracy::text(&program.accuracy);
    section(&mut out, "Kernels (docs/reference/kernels.md)");
    out += &kernels(&tested(program.name));
    section(&mut out, "Cost (docs/explanation/performance.md)");
    out += &cost(program.name);
    let configs = configs_of(program.name);
    if let [_, others @ ..] = configs.as_slice()
        && !others.is_empty()
    {
        section(&mut out, "Other configs (ebpf-run NAME)");
        for (name, yaml) in others {
            writeln!(out, "  {name:<16} {}", description(yaml)).expect("a String takes all");
        }
    }
    for (name, yaml) in configs.into_iter().take(1) {
        section(&mut out, &format!("Example: ebpf-run {name}"));
        yaml.lines().for_each(|line| writeln!(out, "  {line}").expect("a String takes all"));
    }
    // Lines have no trailing blanks
    out.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The first tested kernel that the program ran on; `None`: none.
fn runs_since(kernels: &[Tested]) -> Option<&Tested> {
    kernels.iter().find(|tested| tested.ran())
}

/// The kernels on which it was tested, and the results.
fn kernels(tested: &[Tested]) -> String {
    let Some(oldest) = tested.first() else { return "  not tested on any\n".into() };
    let mut out = match runs_since(tested) {
        Some(first) if first == oldest => format!("  since {}, the oldest kernel tested\n", oldest.kernel),
        Some(first) => format!("  since {}, of the kernels tested\n", first.kernel),
        None => "  on none of the kernels tested, which are virtual machines\n".into(),
    };
    let each: Vec<String> = tested.iter().map(|one| format!("{} {}", one.kernel, one.verdict)).collect();
    writeln!(out, "  {}", each.join(", ")).expect("a String takes all");
    let mut said = Vec::new();
    for one in tested {
        if let Some(reason) = one.reason.as_deref().filter(|reason| !said.contains(reason)) {
            writeln!(out, "    {}: {reason}", one.kernel).expect("a String takes all");
            said.push(reason);
        }
    }
    out
}

/// The CPU time that the program takes in the kernel from the process that causes an event.
fn cost(program: &str) -> String {
    let Some(measured) = costs(program) else { return "  not measured\n".into() };
    let mut out = String::new();
    for cost in &measured.costs {
        let with = cost.with.as_ref().map(|with| format!(", {with}")).unwrap_or_default();
        writeln!(out, "  {} ns in the kernel for each event{with} ({})", cost.nanoseconds, cost.load).expect("fits");
    }
    writeln!(out, "  {}; to repeat: {}", measured.how, measured.command).expect("a String takes all");
    out
}

/// The beginning of a list of names that is too long to be printed, and the command that prints all of it.
pub(crate) fn brief(values: &str, all: &str) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = values.split(' ').collect();
    if names.len() <= 3 * SHOWN {
        return values.to_owned();
    }
    format!("{} … (all: {all})", names[..SHOWN].join(" "))
}

fn section(out: &mut String, title: &str) {
    write!(out, "\n{title}\n").expect("a String takes all");
}

fn entry(out: &mut String, name: &str, doc: &str, values: &str) {
    writeln!(out, "  {name:<16} {doc}\n  {:16} = {values}", "").expect("a String takes all");
}

/// The parts of a program that [`one`] finds, with their docs.
pub fn parts(program: &Program) -> Vec<(String, String)> {
    let mut parts: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, doc: &str| {
        if !parts.iter().any(|(known, _)| known == name) {
            parts.push((name.to_owned(), doc.to_owned()));
        }
    };
    fields(program).iter().for_each(|field| add(&field.name, &field.doc));
    program.filters.iter().for_each(|filter| add(&filter.name, &filter.doc));
    program.maps.iter().for_each(|map| add(&map.name, &map.doc));
    parts
}

/// The field, filter and map with the name `name`, as text; `None` if there is none.
pub fn one(program: &Program, name: &str) -> Option<String> {
    let mut out = String::new();
    let mut say = |kind: &str, doc: &str, values: &str| {
        writeln!(out, "{kind} `{name}` of {}: {doc}\n  {values}", program.name).expect("a String takes all");
    };
    if let Some(field) = fields(program).iter().find(|field| field.name == name) {
        say("field", &field.doc, &field.values);
    }
    if let Some(filter) = program.filter(name) {
        say("filter", &filter.doc, &takes(filter));
    }
    if let Some(map) = program.maps.iter().find(|map| map.name == name) {
        say("map", &map.doc, &format!("{} entries by default; set with `maps`", map.max_entries));
    }
    Some(out).filter(|out| !out.is_empty())
}

#[cfg(test)]
mod tests;
