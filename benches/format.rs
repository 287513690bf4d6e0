//! The cost of writing an event: nanoseconds for each kind of sink, with the same event of eight fields.
//!
//! No benchmark library: only ratios matter, and on a noisy machine they are valid only if the variants take turns, round
//! by round. `cargo bench --bench format`

use std::fs::OpenOptions;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ebpf_run::event::{Field, FieldKind, Layout, Record, ValueNames};
use ebpf_run::output::sink::RecordSource;
use ebpf_run::output::{Destination, Globals, OpenSink, SinkColumn, SinkFormat};

const EVENTS: u32 = 200_000;
const ROUNDS: usize = 15;

/// ts, pid, tid, comm, bytes, lat, ret, kind: 64 bytes.
fn layout() -> Arc<Layout> {
    let field = |name: &str, kind, offset, size| Field {
        name: name.into(),
        doc: "x".into(),
        unit: None,
        errno: false,
        kind,
        offset,
        size,
    };
    let names = ValueNames::from_c(vec![(0, "KIND_READ".into()), (1, "KIND_WRITE".into()), (2, "KIND_OPEN".into())]);
    Arc::new(Layout {
        doc: "An event of eight fields".into(),
        fields: vec![
            field("ts", FieldKind::Uint, 0, 8),
            field("pid", FieldKind::Uint, 8, 4),
            field("tid", FieldKind::Uint, 12, 4),
            field("comm", FieldKind::Text, 16, 16),
            field("bytes", FieldKind::Uint, 32, 8),
            field("lat", FieldKind::Uint, 40, 8),
            field("ret", FieldKind::Int, 48, 8),
            field("kind", FieldKind::Enum(Arc::new(names)), 56, 4),
        ],
        size: 64,
        min_size: 64,
    })
}

fn event(number: u32) -> Vec<u8> {
    let n = u64::from(number);
    let mut raw = (1_763_704_800_000_000_000 + n * 1_337).to_ne_bytes().to_vec();
    raw.extend([(4_000 + number % 64).to_ne_bytes(), (4_000 + number % 97).to_ne_bytes()].concat());
    raw.extend(b"postgres\0\0\0\0\0\0\0\0");
    raw.extend((4096 * (1 + n % 64)).to_ne_bytes());
    raw.extend((n * 7_919 % 10_000_000).to_ne_bytes());
    raw.extend((-((n % 3) as i64)).to_ne_bytes());
    raw.extend((number % 3).to_ne_bytes());
    raw.resize(64, 0);
    raw
}

/// Names of the eight fields that each variant writes.
const FIELDS: [&str; 8] = ["ts", "pid", "tid", "comm", "bytes", "lat", "ret", "kind"];

fn variants() -> Vec<(&'static str, SinkFormat)> {
    let columns: Vec<SinkColumn> = FIELDS.iter().map(|name| SinkColumn::Field((*name).into())).collect();
    let plain = FIELDS.map(|name| format!("{{{{ {name} }}}}")).join(" ");
    // An expression sends the whole template through minijinja
    let logic = plain.replace("{{ kind }}", "{{ kind if true else 0 }}");
    let table = "{{ ts }} {{ pid | left(7) }} {{ tid }} {{ comm | left(16) }} {{ bytes | bytes | right(8) }} \
                 {{ lat | duration | right(8) }} {{ ret | errno }} {{ kind }}";
    let text = |template: &str| SinkFormat::Text { template: template.into(), header: None };
    vec![
        ("jsonl", SinkFormat::Jsonl { fields: Some(columns.clone()) }),
        ("csv", SinkFormat::Csv { columns }),
        ("template", text(&plain)),
        ("template with formatters", text(table)),
        ("minijinja", text(&logic)),
    ]
}

fn main() {
    let layout = layout();
    let globals = Arc::new(Globals::default());
    let events: Vec<Vec<u8>> = (0..1024).map(event).collect();
    let mut sinks: Vec<(&str, OpenSink)> = variants()
        .into_iter()
        .map(|(name, shape)| {
            let null = OpenOptions::new().write(true).open("/dev/null").expect("/dev/null is there");
            let sources = [Some(RecordSource { layout: &layout, name: "bench" })];
            let sink =
                OpenSink::new(&shape, &sources, &globals, Destination::File(null)).expect("the shapes are right");
            (name, sink)
        })
        .collect();

    let mut times = vec![Vec::new(); sinks.len()];
    for _ in 0..ROUNDS {
        for ((_, sink), times) in sinks.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for raw in events.iter().cycle().take(EVENTS as usize) {
                let record = Record { layout: &layout, raw: black_box(raw), time: 0, probe: "bench" };
                sink.write(0, &record).expect("/dev/null takes everything");
            }
            sink.flush().expect("/dev/null takes everything");
            times.push(start.elapsed().as_nanos() as f64 / f64::from(EVENTS));
        }
    }

    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let base = median(&mut times[0]);
    println!("{ROUNDS} interleaved rounds of {EVENTS} events, to /dev/null");
    println!("{:<26} {:>10} {:>10} {:>8}", "", "median ns", "least ns", "x jsonl");
    for ((name, _), times) in sinks.iter().zip(&mut times) {
        let median = median(times);
        println!("{name:<26} {median:>10.1} {:>10.1} {:>8.2}", times[0], median / base);
    }
}
