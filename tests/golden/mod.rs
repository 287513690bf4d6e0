//! Canned records of each program through every kind of sink, against what they should become. No root, no kernel.
//!
//! `tests/golden/<program>.hex` holds the records; `<program>.txt`, `.csv` and `.jsonl` what they become.
//! `EBPF_RUN_BLESS=1 cargo test --test integration golden::` writes these anew: look at the diff.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebpf_run::catalog::{Catalog, Program};
use ebpf_run::event::{Record, text};
use ebpf_run::output::sink::RecordSource;
use ebpf_run::output::{Destination, Globals, OpenSink, SinkColumn, SinkFormat};

/// 2025-11-21T06:00:00Z at a monotonic time of 0.
const BOOT: i64 = 1_763_704_800_000_000_000;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn program(name: &str) -> Arc<Program> {
    Catalog::embedded().program(name).expect("it is there").expect("it is sound")
}

/// The records of a hex file: paragraphs, `#` begins a comment.
fn records(name: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(path(&format!("{name}.hex"))).expect("the records are there");
    let hex = |paragraph: &str| -> Vec<u8> {
        let lines = paragraph.lines().filter(|line| !line.starts_with('#'));
        lines.flat_map(str::split_whitespace).map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
    };
    text.split("\n\n").map(hex).filter(|record| !record.is_empty()).collect()
}

fn rendered(program: &Program, shape: &SinkFormat) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("out");
    let sources = [Some(RecordSource { layout: program.event().expect("it has events"), name: "probe" })];
    let output = Destination::File(fs::File::create(&file).expect("a file"));
    let mut sink = OpenSink::new(shape, &sources, &Arc::new(Globals::default()), output).expect("the shape is right");
    for raw in records(program.name) {
        assert!(
            raw.len() >= program.event().expect("it has events").min_size,
            "a record of {} bytes is none",
            raw.len()
        );
        let time = BOOT.wrapping_add(program.event().expect("it has events").ts(&raw) as i64);
        let record = Record { layout: program.event().expect("it has events"), raw: &raw, time, probe: "probe" };
        sink.write(0, &record).expect("it is written");
    }
    sink.flush().expect("it is written");
    fs::read_to_string(file).expect("every sink writes UTF-8")
}

#[track_caller]
fn golden(program: &str, ending: &str, actual: &str) {
    let path = path(&format!("{program}.{ending}"));
    if std::env::var_os("EBPF_RUN_BLESS").is_some() {
        fs::write(&path, actual).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == actual, "{} is not what it was:\n{actual}", path.display());
}

fn all(program: &Program) -> Vec<SinkColumn> {
    ebpf_run::output::FieldRef::all(program.event().expect("it has events"))
        .iter()
        .map(|(_, name)| SinkColumn::Field((*name).to_owned()))
        .collect()
}

#[test]
fn text_is_for_people() {
    let bio = "{{ time | date('%T') }} {{ comm | left(16) }} {{ pid | right(10) }} {{ device }} {{ op }} [{{ flags }}] \
               {{ sector }} {{ bytes | bytes }} {{ queued_ns | duration }} {{ latency_ns | duration }} \
               {{ error | errno }}";
    let exec = "{{ time }} {{ pid }} {{ ppid }} {{ uid }} {{ comm }} {{ filename }} {{ ret | errno }} {{ argv }}\
                {% if argv | length > 7 %} 4th: {{ argv[3] }}{% endif %}";
    let tcp = "{{ time | date('%T') }} {{ comm | left(16) }} {{ family }} {{ saddr | left(24) }} {{ sport }} {{ daddr }} {{ dport }}\
               {% if daddr == '::1' %} here: {{ daddr | upper }}{% endif %}";
    for (name, template) in [("biosnoop", bio), ("execsnoop", exec), ("tcpconnect", tcp)] {
        let shape = SinkFormat::Text { template: template.into(), header: Some("HEADER".into()) };
        let shown = rendered(&program(name), &shape);
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "nothing that a terminal obeys: {shown:?}");
        assert_eq!(shown.lines().count(), records(name).len() + 1, "a line a record, whatever names hold");
        golden(name, "txt", &shown);
    }
}

#[test]
fn csv_is_for_spreadsheets_and_safe_there() {
    for name in ["biosnoop", "execsnoop", "tcpconnect"] {
        let program = program(name);
        let mut columns = all(&program);
        columns.push(SinkColumn::Template("upper".into(), "{{ comm | upper }}".into()));
        let table = rendered(&program, &SinkFormat::Csv { columns });
        golden(name, "csv", &table);
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        let names = reader.headers().expect("a header").clone();
        for (row, raw) in reader.records().zip(records(name)) {
            let row = row.expect("every row has all columns");
            let cell = |name: &str| row.get(names.iter().position(|n| n == name).expect("a column")).expect("a cell");
            let comm = text::restore(cell("comm").strip_prefix('\'').unwrap_or(cell("comm")));
            let at = &program.event().expect("it has events").fields
                [program.event().expect("it has events").index("comm").expect("a field")];
            assert!(raw[at.offset..].starts_with(&comm), "the bytes can be had back");
            let dangerous = |cell: &str| cell.starts_with(['=', '+', '@', '\t', '\r']);
            assert!(!row.iter().any(dangerous), "a spreadsheet would run a cell of {row:?}");
        }
    }
}

#[test]
fn json_is_for_programs_and_exact() {
    for name in ["biosnoop", "execsnoop", "tcpconnect"] {
        let program = program(name);
        let lines = rendered(&program, &SinkFormat::Jsonl { fields: None });
        golden(name, "jsonl", &lines);
        assert_eq!(lines.lines().count(), records(name).len());
        for (line, raw) in lines.lines().zip(records(name)) {
            let object: serde_json::Value = serde_json::from_str(line).expect("every line is JSON");
            assert_eq!(object["ts"].as_u64(), Some(program.event().expect("it has events").ts(&raw)), "all 64 bits");
            let keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
            assert_eq!(keys.len(), all(&program).len());
        }
    }
    let lines = rendered(&program("execsnoop"), &SinkFormat::Jsonl { fields: None });
    let second: serde_json::Value = serde_json::from_str(lines.lines().nth(1).expect("a line")).expect("JSON");
    let argv: Vec<Vec<u8>> =
        second["argv"].as_array().expect("a list").iter().map(|a| text::restore(a.as_str().expect("text"))).collect();
    let expected: [&[u8]; 8] =
        [b"sh", b"a b", b"it's \"x\"", b"two\nlines", b"", b"\xff\xfe", "hé".as_bytes(), b"back\\slash"];
    assert_eq!(argv, expected, "byte for byte");
}
