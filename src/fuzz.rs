//! What the targets in `fuzz/` call: one function for each, of any bytes, that must return. Compiled for them and for the
//! tests only, which call each of them with the repository's own configs, fixtures and templates.

use std::sync::{Arc, LazyLock};

use crate::catalog::{Catalog, Program};
use crate::check::check_text;
use crate::config::{Overlay, Source};
use crate::event::{Layout, Record};
use crate::fixture;
use crate::output::{FieldRef, Globals, RecordTemplate, TextMode, template};
use crate::plan::{Overrides, Plan, plan};

/// Two programs that between them have fields of all kinds, and one that aggregates.
const CONFIG: &str = "\
version: 1
probes:
  - {name: exec, program: execsnoop}
  - {name: connect, program: tcpconnect}
  - {name: latency, program: runqlat}
sinks: {out: {type: jsonl, path: out.jsonl}}
";

static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::embedded);

static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let source = Source::parse("fuzz.yaml".into(), "fuzz".into(), CONFIG.into()).expect("the config is valid");
    plan(&source, &CATALOG, &Overrides::default()).expect("the config has a plan")
});

static LAYOUTS: LazyLock<Vec<Arc<Layout>>> = LazyLock::new(|| {
    let program = |name| -> Arc<Program> { CATALOG.program(name).expect("is listed").expect("is readable") };
    CATALOG.names().filter_map(|name| program(name).event().cloned()).collect()
});

/// A config: read, checked and planned.
pub fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = check_text("fuzz.yaml", text, &CATALOG, Overlay::NOTHING);
    }
}

/// Lines of a fixture, for the probes of [`CONFIG`].
pub fn fixture(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = fixture::records(text, &PLAN);
    }
}

/// A record's bytes, as a program could send them. The first byte chooses the program. Each field is read and rendered.
pub fn record(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    let layout = &LAYOUTS[usize::from(which) % LAYOUTS.len()];
    let mut raw = bytes[..bytes.len().min(layout.size)].to_vec();
    raw.resize(raw.len().max(layout.min_size), 0); // what is shorter is not taken from the kernel
    let names: Vec<String> = FieldRef::all(layout).into_iter().map(|(_, name)| format!("{{{{ {name} }}}}")).collect();
    render(&names.join(" "), layout, &raw).expect("a template of names is valid and renders all records");
}

/// A template, checked and, if it is valid, rendered for a record of zeros.
pub fn template(data: &[u8]) {
    let Some((&which, source)) = data.split_first() else { return };
    let Ok(source) = std::str::from_utf8(source) else { return };
    let layout = &LAYOUTS[usize::from(which) % LAYOUTS.len()];
    let _ = template::check_path(source);
    let _ = template::labels(source);
    if template::check(source, layout).is_empty() {
        let _ = render(source, layout, &vec![0; layout.min_size]);
    }
}

fn render(source: &str, layout: &Arc<Layout>, raw: &[u8]) -> Result<String, String> {
    let globals = Arc::new(Globals::default());
    let record = Record { layout, raw, time: 0, probe: "fuzz" };
    let mut out = String::new();
    RecordTemplate::new(source, layout, "fuzz", &globals, TextMode::Shown)?.render(&record, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests;
