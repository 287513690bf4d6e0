//! The plan as JSON, each value with the line of the config that it comes from; and what is different in two of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::{FilesPlan, Plan, ProbePlan, SinkPlan, Transport, WakeupPlan, decode};
use crate::config::Source;
use crate::config::files::Compress;
use crate::config::quantity::{Nanoseconds, Share};
use crate::config::yaml::Step::{self, Index, Key};
use crate::output::{Column, Shape};

/// A plan as JSON, for a machine with so many possible CPUs. `source` is what it was made from: its lines are the origins.
pub fn json(plan: &Plan, source: &Source, possible_cpus: u64) -> Json {
    let memory: u64 = plan.probes.iter().map(|probe| probe.buffer_memory(possible_cpus)).sum();
    let probes: Vec<Json> =
        plan.probes.iter().enumerate().map(|(index, probe)| probe_json(plan, index, probe, source)).collect();
    json!({
        "format": 1,
        "name": plan.name,
        "labels": plan.labels,
        "window": {
            "duration": plan.window.duration.map(time),
            "max_events": plan.window.max_events,
            "max_bytes": plan.window.max_bytes,
            "warmup": time(plan.window.warmup),
            "drain": plan.window.drain.map(time),
            "lock": plan.window.lock,
            "on_locked": plan.window.on_locked.name(),
            "splay": time(plan.window.splay),
            "align": plan.window.align.map(time),
        },
        "max_loss": Share(plan.max_loss).to_string(),
        "buffer_bytes": memory,
        "probes": probes,
        "sinks": plan.sinks.iter().map(sink_json).collect::<Vec<_>>(),
    })
}

fn time(time: Duration) -> String {
    Nanoseconds::from(time).to_string()
}

/// `line 7`, or that it is a default.
fn origin(source: &Source, path: &[Step<'_>]) -> String {
    let Some((last, parents)) = path.split_last() else { return "default".into() };
    let Key(name) = last else { return "default".into() };
    // `at` goes as far as it can: a parent that is not there has another parent's place
    let there = source.root.at(parents).get(name).is_some()
        && parents.iter().enumerate().all(|(i, step)| match step {
            Key(name) => source.root.at(&parents[..i]).get(name).is_some(),
            Index(_) => true,
        });
    if there { format!("line {}", source.root.key_at(path).line) } else { "default".into() }
}

fn probe_json(plan: &Plan, index: usize, probe: &ProbePlan, source: &Source) -> Json {
    let program = &probe.program;
    let here = [Key("probes"), Index(index)];
    let of = |group, name| origin(source, &[here[0], here[1], Key(group), Key(name)]);
    let key = |name| origin(source, &[here[0], here[1], Key(name)]);
    let mut variables = Map::new();
    for setting in &probe.rodata {
        let filter = program.filters.iter().find(|filter| filter.symbol == setting.symbol);
        let variable = filter.or_else(|| program.internals.iter().find(|other| other.symbol == setting.symbol));
        let value = variable.map(|variable| decode::decode(variable, &setting.bytes).join(", "));
        // The runner's own are what it makes of `buffer`
        let from = filter.map_or_else(|| key("buffer"), |filter| of("filters", &filter.name));
        let bytes: String = setting.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let entry = json!({"value": value, "bytes": bytes, "offset": setting.offset, "from": from});
        variables.insert(setting.symbol.clone(), entry);
    }
    let mut lookups = BTreeMap::<&str, Vec<String>>::new();
    for lookup in &probe.lookups {
        lookups.entry(&lookup.filter).or_default().push(lookup.name.to_string());
    }
    let maps: Map<String, Json> = program
        .maps
        .iter()
        .map(|map| (map.name.clone(), json!({"entries": probe.entries(map), "from": of("maps", &map.name)})))
        .collect();
    let hooks: Vec<Json> = probe
        .hooks
        .iter()
        .map(|(hook, skipped)| {
            json!({
                "name": hook.name, "section": hook.section, "optional": hook.optional, "left_out": skipped,
                "alternative": hook.alternative.as_ref().map(|(group, variant)| format!("{group}/{variant}")),
            })
        })
        .collect();
    let sinks: Vec<&str> = probe.sinks.iter().map(|index| plan.sinks[*index].name.as_str()).collect();
    let aggregate = probe.aggregate.as_ref().map(|plan| {
        json!({
            "interval": plan.interval.map(time),
            "clear": plan.clear, "per_cpu": plan.per_cpu, "top": plan.top,
        })
    });
    let buffer = if probe.aggregate.is_some() { Json::Null } else { buffer_json(probe, source, index) };
    json!({
        "name": probe.name, "program": program.name, "variables": variables, "looked_up_at_the_start": lookups,
        "maps": maps, "buffer": buffer, "aggregate": aggregate,
        "order": {"value": if probe.sort { "time" } else { "arrival" }, "from": key("order")},
        "on_unsupported": if probe.skip_unsupported { "skip" } else { "fail" },
        "hooks": hooks, "sinks": {"value": sinks, "from": key("sinks")},
    })
}

fn buffer_json(probe: &ProbePlan, source: &Source, index: usize) -> Json {
    let from = |name| origin(source, &[Key("probes"), Index(index), Key("buffer"), Key(name)]);
    let buffer = &probe.buffer;
    let kind = match buffer.transport {
        Transport::Reserve | Transport::Output => "ringbuf",
        Transport::Perf => "perfbuf",
    };
    let submit = match buffer.transport {
        Transport::Reserve => Some("reserve"),
        Transport::Output => Some("output"),
        Transport::Perf => None,
    };
    let wakeup = match buffer.wakeup {
        WakeupPlan::Adaptive => "adaptive".into(),
        WakeupPlan::Events(events) => format!("every {events} events"),
        WakeupPlan::Bytes(bytes) => format!("at {bytes} bytes"),
        WakeupPlan::Timer => "timer".into(),
    };
    json!({
        "type": {"value": kind, "from": from("type")},
        "submit": {"value": submit, "from": from("submit")},
        "size": {"value": buffer.effective, "asked": buffer.asked, "from": from("size")},
        "wakeup": {"value": wakeup, "from": from("wakeup")},
        "max_latency": {"value": time(buffer.max_latency), "from": from("max_latency")},
    })
}

fn sink_json(sink: &SinkPlan) -> Json {
    let columns = |columns: &[Column]| -> Vec<Json> {
        let one = |column: &Column| match column {
            Column::Field(name) => json!(name),
            Column::Template(name, template) => json!({name: template}),
        };
        columns.iter().map(one).collect()
    };
    let mut object = match &sink.shape {
        Shape::Text { template, header } => json!({"type": "stdout", "template": template, "header": header}),
        Shape::Drawn { header } => json!({"type": "stdout", "template": null, "header": header}),
        Shape::Csv { columns: list } => json!({"type": "csv", "columns": columns(list)}),
        Shape::Jsonl { fields } => json!({"type": "jsonl", "fields": fields.as_deref().map(columns)}),
    };
    object["name"] = sink.name.clone().into();
    object["path"] = sink.path.clone().into();
    if sink.path != "-" {
        object["files"] = files_json(&sink.files);
    }
    object
}

fn files_json(files: &FilesPlan) -> Json {
    json!({
        "mode": format!("{:04o}", files.mode), "owner": files.owner, "group": files.group,
        "rotate": {"size": files.rotate_size, "every": files.rotate_every.map(time)},
        "keep": {"files": files.keep_files, "age": files.keep_age.map(time), "bytes": files.keep_bytes},
        "compress": files.compress.map(Compress::name), "min_free": files.min_free,
        "allow_unsafe_path": files.allow_unsafe_path,
    })
}

/// What `new` would set otherwise than `old`, a line for each value: `-` was, `+` will be. Empty where nothing is
/// different. Where a value stands in the file makes no difference, and neither does the order of probes.
pub fn difference(old: &Json, new: &Json) -> String {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten(old, String::new(), &mut before);
    flatten(new, String::new(), &mut after);
    let mut out = String::new();
    let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for path in paths {
        let (was, will) = (before.get(path), after.get(path));
        if was != will {
            let lines = [("-", was), ("+", will)];
            for (sign, value) in lines.into_iter().filter_map(|(sign, value)| Some((sign, value?))) {
                writeln!(out, "{sign} {path}: {value}").expect("a String takes all");
            }
        }
    }
    out
}

fn flatten(value: &Json, path: String, found: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Json::Object(map) => {
            // What a value comes from is no value, and its bytes say what it says
            let values = map.iter().filter(|(name, _)| !["from", "bytes", "offset"].contains(&name.as_str()));
            values.for_each(|(name, value)| flatten(value, below(name), found));
        }
        Json::Array(items) => match items.iter().map(|item| item["name"].as_str()).collect::<Option<Vec<_>>>() {
            // What has a name goes by it
            Some(names) if !names.is_empty() => {
                names.into_iter().zip(items).for_each(|(name, item)| flatten(item, below(name), found));
            }
            _ => drop(found.insert(path, value.to_string())),
        },
        Json::Null => {}
        Json::String(text) => drop(found.insert(path, text.clone())),
        other => drop(found.insert(path, other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::plan::{Overrides, plan};

    const YAML: &str = "\
version: 1
probes:
  - program: biosnoop
    filters: {min_latency: 1ms, uid: root}
    buffer:
      size: 300KiB
    sinks: [out]
  - program: runqlat
    interval: 1s
    sinks: [out]
sinks:
  out: {type: jsonl}
";

    fn planned(yaml: &str) -> Json {
        let source = Source::parse("x.yaml".into(), "x".into(), yaml.into()).expect("it is YAML");
        let plan = plan(&source, &Catalog::embedded(), &Overrides::default()).expect("it is good");
        json(&plan, &source, 4)
    }

    #[test]
    fn each_value_has_its_bytes_and_its_line() {
        let plan = planned(YAML);
        let probe = &plan["probes"][0];
        let latency = &probe["variables"]["min_latency_ns"];
        assert_eq!((&latency["value"], &latency["from"]), (&json!("1ms"), &json!("line 4")));
        assert_eq!(latency["bytes"], "40420f0000000000");
        assert_eq!(probe["looked_up_at_the_start"]["uid"], json!(["user root"]));
        assert_eq!(probe["buffer"]["size"], json!({"value": 512 << 10, "asked": 300 << 10, "from": "line 6"}));
        assert_eq!(probe["buffer"]["type"], json!({"value": "ringbuf", "from": "default"}));
        assert_eq!(probe["variables"]["runner_transport"]["from"], "line 5");
        assert_eq!(probe["maps"]["inflight"]["from"], "default");
        assert_eq!(
            (&plan["probes"][1]["buffer"], &plan["probes"][1]["aggregate"]["interval"]),
            (&Json::Null, &json!("1s"))
        );
    }

    #[test]
    fn a_difference_has_what_would_be_set_otherwise_and_nothing_else() {
        let moved = YAML.replace("version: 1\n", "# a line more\nversion: 1\n");
        assert_eq!(difference(&planned(YAML), &planned(&moved)), "");
        let changed = YAML.replace("min_latency: 1ms", "min_latency: 5ms, op: read");
        let difference = difference(&planned(YAML), &planned(&changed));
        assert_eq!(
            difference,
            "- probes.biosnoop.variables.min_latency_ns.value: 1ms\n\
             + probes.biosnoop.variables.min_latency_ns.value: 5ms\n\
             + probes.biosnoop.variables.op.value: read\n"
        );
    }
}
