//! The plan as JSON, each value with what it comes from.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::origin::{RenderContext, said};
use super::{FilesPlan, Plan, ProbePlan, SchedulePlan, SinkPlan, Starts, Transport, WakeupPlan, decode};
use crate::catalog;
use crate::config::files::Compress;
use crate::config::quantity::{Nanoseconds, Share};
use crate::config::yaml::TreeStep::{Index, Key};
use crate::output::{SinkColumn, SinkFormat};

/// A plan as JSON, seen in `context`.
pub fn json(plan: &Plan, context: &RenderContext<'_>) -> Json {
    let memory =
        |of: fn(&ProbePlan, u64) -> u64| plan.probes.iter().map(|probe| of(probe, context.possible_cpus)).sum::<u64>();
    let probes: Vec<Json> =
        plan.probes.iter().enumerate().map(|(index, probe)| probe_json(plan, index, probe, context)).collect();
    let labels: Map<String, Json> = plan
        .labels
        .iter()
        .map(|(name, label)| (name.clone(), said(label, context.origin(&[Key("labels"), Key(name)]))))
        .collect();
    json!({
        "format": 1,
        "name": said(&plan.name, context.origin(&[Key("name")])),
        "labels": labels,
        "window": window_json(plan, context),
        "schedule": plan.schedule.as_ref().map(|plan| schedule_json(plan, context)),
        "max_loss": said(Share(plan.max_loss).to_string(), context.origin(&[Key("max_loss")])),
        "buffer_bytes": memory(ProbePlan::buffer_memory),
        "map_bytes": memory(ProbePlan::map_memory),
        "probes": probes,
        "sinks": plan.sinks.iter().map(|sink| sink_json(plan, sink, context)).collect::<Vec<_>>(),
    })
}

fn time(time: Duration) -> String {
    Nanoseconds::from(time).to_string()
}

fn window_json(plan: &Plan, context: &RenderContext<'_>) -> Json {
    let window = &plan.window;
    let values = [
        ("duration", json!(window.duration.map(time))),
        ("max_events", json!(window.max_events)),
        ("max_bytes", json!(window.max_bytes)),
        ("warmup", json!(time(window.warmup))),
        ("drain", json!(window.drain.map(time))),
        ("lock", json!(window.lock)),
        ("on_locked", json!(window.on_locked.name())),
        ("splay", json!(time(window.splay))),
        ("align", json!(window.align.map(time))),
    ];
    values.into_iter().map(|(key, value)| (key.to_owned(), said(value, context.window_origin(plan, key)))).collect()
}

fn schedule_json(plan: &SchedulePlan, context: &RenderContext<'_>) -> Json {
    let from = |key| context.origin(&[Key("schedule"), Key(key)]);
    let days: Vec<&str> = plan.days.iter().map(|day| day.name()).collect();
    let (key, value) = match &plan.starts {
        Starts::Every(minutes) => ("every", json!(time(Duration::from_secs(u64::from(*minutes) * 60)))),
        Starts::At(times) => ("at", json!(times.iter().map(ToString::to_string).collect::<Vec<_>>())),
    };
    json!({ key: said(value, from(key)), "days": said(days, from("days")) })
}

fn probe_json(plan: &Plan, index: usize, probe: &ProbePlan, context: &RenderContext<'_>) -> Json {
    let program = &probe.program;
    let here = [Key("probes"), Index(index)];
    let filter_from = |name| context.origin(&[here[0], here[1], Key("filters"), Key(name)]);
    let key = |name| context.origin(&[here[0], here[1], Key(name)]);
    let mut variables = Map::new();
    for setting in &probe.rodata {
        let filter = program.filters.iter().find(|filter| filter.symbol == setting.symbol);
        let variable = filter.or_else(|| program.internals.iter().find(|other| other.symbol == setting.symbol));
        let value = variable.map(|variable| decode::decode(variable, &setting.bytes).join(", "));
        let from = match filter {
            Some(filter) => filter_from(&filter.name),
            None => context.buffer_origin(index, &setting.symbol, probe.buffer.transport),
        };
        let bytes: String = setting.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let entry = json!({"value": value, "bytes": bytes, "offset": setting.offset, "from": from});
        variables.insert(setting.symbol.clone(), entry);
    }
    let mut lookups = BTreeMap::<&str, Vec<String>>::new();
    for lookup in &probe.lookups {
        lookups.entry(&lookup.filter).or_default().push(lookup.name.to_string());
    }
    let lookups: Map<String, Json> =
        lookups.into_iter().map(|(name, found)| (name.to_owned(), said(found, filter_from(name)))).collect();
    let maps: Map<String, Json> = program
        .maps
        .iter()
        .map(|map| {
            let from = context.origin_or_program(&[here[0], here[1], Key("maps"), Key(&map.name)]);
            (map.name.clone(), json!({"entries": probe.entries(map), "from": from}))
        })
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
        let sort = match &plan.spec.shape {
            catalog::AggregateShape::Counters { fields, .. } => Some(fields[plan.sort].name.as_str()),
            catalog::AggregateShape::Histogram { .. } => None,
        };
        json!({
            "interval": said(plan.interval.map(time), key("interval")),
            "clear": said(plan.clear, key("clear")),
            "per_cpu": said(plan.per_cpu, key("per_cpu")),
            "top": said(plan.top, key("top")),
            "sort": said(sort, key("sort")),
        })
    });
    let buffer = if probe.aggregate.is_some() { Json::Null } else { buffer_json(probe, context, index) };
    json!({
        "name": probe.name, "program": program.name, "variables": variables, "looked_up_at_the_start": lookups,
        "maps": maps, "buffer": buffer, "aggregate": aggregate,
        "order": said(if probe.sort { "time" } else { "arrival" }, key("order")),
        "on_unsupported": said(if probe.skip_unsupported { "skip" } else { "fail" }, key("on_unsupported")),
        "hooks": hooks, "sinks": said(sinks, key("sinks")),
    })
}

fn buffer_json(probe: &ProbePlan, context: &RenderContext<'_>, index: usize) -> Json {
    let from = |name| context.origin(&[Key("probes"), Index(index), Key("buffer"), Key(name)]);
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
        "type": said(kind, from("type")),
        "submit": said(submit, from("submit")),
        "size": {"value": buffer.effective, "asked": buffer.asked, "from": from("size")},
        "wakeup": said(wakeup, from("wakeup")),
        "max_latency": said(time(buffer.max_latency), from("max_latency")),
    })
}

fn sink_json(plan: &Plan, sink: &SinkPlan, context: &RenderContext<'_>) -> Json {
    let columns = |columns: &[SinkColumn]| -> Vec<Json> {
        let one = |column: &SinkColumn| match column {
            SinkColumn::Field(name) => json!(name),
            SinkColumn::Template(name, template) => json!({name: template}),
        };
        columns.iter().map(one).collect()
    };
    let from = |key| context.origin(&[Key("sinks"), Key(&sink.name), Key(key)]);
    let mut object = match &sink.shape {
        SinkFormat::Text { template, header } => json!({
            "type": "stdout", "template": said(template, from("template")), "header": said(header, from("header")),
        }),
        SinkFormat::Pretty { header } => json!({
            "type": "stdout", "template": said(Json::Null, from("template")), "header": said(header, from("header")),
        }),
        SinkFormat::Csv { columns: list } => json!({"type": "csv", "columns": said(columns(list), from("columns"))}),
        SinkFormat::Jsonl { fields } => {
            json!({"type": "jsonl", "fields": said(fields.as_deref().map(columns), from("fields"))})
        }
    };
    object["name"] = sink.name.clone().into();
    object["probe"] = json!(sink.probe);
    object["path"] = json!({"value": sink.path, "now": context.path_now(plan, sink), "from": from("path")});
    if sink.path != "-" {
        object["files"] = files_json(&sink.files, &|keys| {
            let mut path = vec![Key("sinks"), Key(&sink.name)];
            path.extend(keys.split('.').map(Key));
            context.origin(&path)
        });
    }
    object
}

fn files_json(files: &FilesPlan, from: &dyn Fn(&str) -> String) -> Json {
    let of = |key: &str, value: Json| said(value, from(key));
    json!({
        "mode": of("mode", json!(format!("{:04o}", files.mode))),
        "owner": of("owner", json!(files.owner)),
        "group": of("group", json!(files.group)),
        "rotate": {
            "size": of("rotate.size", json!(files.rotate_size)),
            "every": of("rotate.every", json!(files.rotate_every.map(time))),
        },
        "keep": {
            "files": of("keep.files", json!(files.keep_files)),
            "age": of("keep.age", json!(files.keep_age.map(time))),
            "bytes": of("keep.bytes", json!(files.keep_bytes)),
        },
        "compress": of("compress", json!(files.compress.map(Compress::name))),
        "min_free": of("min_free", json!(files.min_free)),
        "allow_unsafe_path": of("allow_unsafe_path", json!(files.allow_unsafe_path)),
    })
}

#[cfg(test)]
pub(super) mod tests;
