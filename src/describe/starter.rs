//! A config of one program to start from, as `ebpf-run init` writes it. Lines that begin with `##` explain; those that
//! begin with `#` are settings, each of which can be uncommented by itself.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::{brief, takes};
use crate::catalog::{AggregateShape, ElementKind, Program, Variable};
use crate::config::structure::schema;
use crate::event::{Field, FieldKind};

/// Columns of a line that explains.
const WIDTH: usize = 100;

/// The config.
pub fn config(program: &Program) -> String {
    let mut out = Out::default();
    let name = program.name;
    out.doc(0, &format!("Made by `ebpf-run init {name}`; `ebpf-run describe {name}` prints fields and accuracy."));
    out.doc(0, "Lines with one # are settings: remove the # and change the value. Then: ebpf-run check FILE");
    out.line(0, "version: 1");
    out.line(0, &format!("description: {}", quoted(program.doc())));
    out.line(0, "");

    out.line(0, "window:");
    out.key("Window", "duration", 2);
    out.line(2, "duration: 30s");
    if program.event().is_some() {
        out.key("Window", "max_events", 2);
        out.setting(2, "max_events: 1000");
    }
    out.key("Window", "max_bytes", 2);
    out.setting(2, "max_bytes: 100MiB");
    out.line(0, "");

    out.line(0, "probes:");
    out.line(2, &format!("- program: {name}"));
    // Braces, so that there may be no filter at all
    out.line(4, "filters: {");
    for filter in &program.filters {
        let values = brief(&takes(filter), &format!("ebpf-run describe {name}.{}", filter.name));
        out.doc(6, &format!("{}. Value: {values}", filter.doc.trim_end_matches('.')));
        out.setting(6, &format!("{}: {},", filter.name, example(filter)));
    }
    out.line(6, "}");
    match program.aggregate() {
        None => out.buffer(),
        Some(spec) => out.aggregate(&spec.shape),
    }
    if !program.maps.is_empty() {
        let entries: Vec<String> =
            program.maps.iter().map(|map| format!("{}: {}", map.name, map.max_entries)).collect();
        out.key("Probe", "maps", 4);
        out.setting(4, &format!("maps: {{{}}}", entries.join(", ")));
    }
    out.key("Probe", "on_unsupported", 4);
    out.setting(4, "on_unsupported: skip");
    out.line(0, "");

    out.line(0, "sinks:");
    out.line(2, "screen:");
    out.line(4, "type: stdout");
    if let Some(layout) = program.event() {
        out.line(4, "template: >-");
        out.wrapped(6, "", &template(&layout.fields));
    }
    let path = |ending: &str| quoted(&format!("{name}-{{{{ start | date('%Y%m%dT%H%M%SZ') }}}}.{ending}"));
    out.doc(2, "JSON Lines, one object for each record");
    out.setting(2, &format!("lines: {{type: jsonl, path: {}}}", path("jsonl")));
    out.doc(2, "Comma-separated values, compressed");
    out.setting(2, &format!("table: {{type: csv, path: {}, compress: zstd}}", path("csv")));
    out.0
}

#[derive(Default)]
struct Out(String);

impl Out {
    fn line(&mut self, indent: usize, text: &str) {
        writeln!(self.0, "{:indent$}{text}", "").expect("a String takes all");
    }

    fn setting(&mut self, indent: usize, text: &str) {
        self.line(indent, &format!("# {text}"));
    }

    fn doc(&mut self, indent: usize, text: &str) {
        self.wrapped(indent, "## ", &text.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    /// The words of `text`, on as many lines as they take; a template's expression is one word.
    fn wrapped(&mut self, indent: usize, mark: &str, text: &str) {
        let (mut line, mut depth) = (String::new(), 0_usize);
        for part in text.split_inclusive(' ') {
            let begins = depth == 0;
            depth = (depth + part.matches("{{").count()).saturating_sub(part.matches("}}").count());
            let word = part.trim_end();
            if begins && !line.is_empty() && indent + mark.len() + line.len() + word.len() > WIDTH {
                self.line(indent, format!("{mark}{line}").trim_end());
                line.clear();
            }
            line.push_str(part);
        }
        self.line(indent, format!("{mark}{line}").trim_end());
    }

    /// What the schema says of a key.
    fn key(&mut self, of: &str, key: &str, indent: usize) {
        let doc = schema().pointer(&format!("/$defs/{of}/properties/{key}/description")).and_then(Json::as_str);
        self.doc(indent, doc.unwrap_or_default());
    }

    fn buffer(&mut self) {
        self.line(4, "buffer:");
        self.key("Buffer", "size", 6);
        self.line(6, "size: 1MiB");
        for (key, value) in
            [("type", "ringbuf"), ("submit", "output"), ("wakeup", "every_event"), ("max_latency", "10ms")]
        {
            self.key("Buffer", key, 6);
            self.setting(6, &format!("{key}: {value}"));
        }
        self.key("Probe", "order", 4);
        self.setting(4, "order: time");
    }

    fn aggregate(&mut self, shape: &AggregateShape) {
        let mut settings = vec![("clear", "false"), ("per_cpu", "true")];
        if let AggregateShape::Counters { fields, .. } = shape {
            settings.push(("top", "20"));
            settings.extend(fields.first().map(|field| ("sort", field.name.as_str())));
        }
        self.key("Probe", "interval", 4);
        self.line(4, "interval: 5s");
        for (key, value) in settings {
            self.key("Probe", key, 4);
            self.setting(4, &format!("{key}: {value}"));
        }
    }
}

/// Text in double quotes, which YAML reads as JSON does.
fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// A value that the filter takes.
fn example(filter: &Variable) -> String {
    match &filter.element.kind {
        ElementKind::Uint | ElementKind::Int if filter.element.size == 1 => "1".into(),
        ElementKind::Uint | ElementKind::Int => "1234".into(),
        ElementKind::Duration => "10ms".into(),
        ElementKind::Bytes => "64KiB".into(),
        ElementKind::Frequency => "99Hz".into(),
        ElementKind::Bool => "true".into(),
        ElementKind::Text => "/etc/".into(),
        ElementKind::Comm => "nginx".into(),
        ElementKind::Disk => "sda".into(),
        ElementKind::User => "root".into(),
        ElementKind::Cgroup => "/system.slice/nginx.service".into(),
        ElementKind::Unit => "nginx.service".into(),
        ElementKind::Enum(names) => names.iter().map(|(_, name)| name.to_owned()).next().unwrap_or_default(),
    }
}

/// Each field with its name; quantities with their units.
fn template(fields: &[Field]) -> String {
    let mut out = String::from("{{ time | clock }}");
    for field in fields.iter().filter(|field| field.name != "ts") {
        let formatter = match (&field.kind, field.unit.as_deref()) {
            (FieldKind::Uint | FieldKind::Int, _) if field.errno => " | errno",
            (FieldKind::Uint | FieldKind::Int, Some("ns")) => " | duration",
            (FieldKind::Uint | FieldKind::Int, Some("bytes")) => " | bytes",
            (FieldKind::Stack { .. }, _) => " | folded",
            _ => "",
        };
        let name = &field.name;
        write!(out, " {name}={{{{ {name}{formatter} }}}}").expect("a String takes all");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::check::check_text;
    use crate::config::Overlay;

    fn problems(name: &str, yaml: &str, catalog: &Catalog) -> Option<String> {
        let faulty = check_text(&format!("{name}.yaml"), yaml, catalog, Overlay::NOTHING).expect("sound")?;
        Some(faulty.written(crate::check::Format::Human))
    }

    #[test]
    fn what_init_writes_passes_the_check_with_any_setting_uncommented() {
        let catalog = Catalog::embedded();
        for name in catalog.names() {
            let program = catalog.program(name).expect("it is there").expect("it is sound");
            let yaml = config(&program);
            assert_eq!(problems(name, &yaml, &catalog), None, "{yaml}");
            let lines: Vec<&str> = yaml.lines().collect();
            let is_setting = |line: &str| line.trim_start().starts_with("# ");
            let settings: Vec<usize> = (0..lines.len()).filter(|at| is_setting(lines[*at])).collect();
            for filter in &program.filters {
                let setting = format!("      # {}: ", filter.name);
                assert_eq!(lines.iter().filter(|line| line.starts_with(&setting)).count(), 1, "{setting}");
            }
            for at in settings {
                let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
                changed[at] = changed[at].replacen("# ", "", 1);
                assert_eq!(problems(name, &changed.join("\n"), &catalog), None, "{}", changed[at]);
            }
            assert!(lines.iter().all(|line| !line.ends_with(' ')), "{yaml}");
        }
    }

    #[test]
    fn settings_can_be_uncommented_together() {
        let catalog = Catalog::embedded();
        let program = catalog.program("biosnoop").expect("it is there").expect("it is sound");
        let yaml = config(&program).replace("      # ", "      ");
        let faulty = problems("biosnoop", &yaml, &catalog);
        assert_eq!(faulty, None, "{yaml}");
    }
}
