//! Names that do not behave, from a process's start to the file: commands, paths and arguments with bytes that mean
//! something to a terminal, to JSON, to CSV, to a spreadsheet or to a shell, and bytes that are no text at all.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ebpf_run::event::text::{is_deceptive, restore};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, records, summary};
use crate::common::{Scratch, copy_program};
use crate::load::{Held, copy_as};
use crate::root;

/// File names of at most 15 bytes, so that a command has all of them.
const NAMES: &[&[u8]] = &[
    b"=1+cmd|'x'!A0",
    b"\x1b]0;own\x07\x1b[2J",
    b"a\nb\r\n\"c\",'d",
    b"\xff\xfe\x80 \xc3(\xed\xa0\x80",
    b"\xee\xbe\x80\xe2\x80\xaegnp.exe", // a character that stands for a byte, and text from right to left
    b"'",
    b"\t@x",
    b"\n=2",
    b"\\n \\x1b {{ 1 }}",
    b"-$(id)`id`&;#",
    "＝Ｘ é".as_bytes(),
];

fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !(c.is_control() || is_deceptive(c)))
}

/// What a shell makes of `words`.
fn words(words: &str) -> Vec<Vec<u8>> {
    let output = Command::new("bash").arg("-c").arg(format!("printf '%s\\0' {words}")).output().expect("bash runs");
    let mut all: Vec<Vec<u8>> = output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    assert_eq!(all.pop().as_deref(), Some(&b""[..]), "a NUL behind each");
    all
}

/// The recipe of docs/reference/config.md, in Python; `None` where there is none.
fn restored_in_python(text: &str) -> Option<Vec<u8>> {
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/config.md"))
        .expect("it is there");
    let recipe = manual.lines().find(|line| line.trim().starts_with("b\"\".join(")).expect("the recipe").trim();
    let script = format!("import sys\ntext = sys.stdin.buffer.read().decode()\nsys.stdout.buffer.write({recipe})");
    let mut python = Command::new("python3");
    let mut child = python.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    Some(output.stdout)
}

/// What each sink shows of a name is a filter that finds it.
#[test]
fn a_name_that_is_copied_from_the_output_into_a_filter_matches() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let shell = copy_as(&scratch, "sh", "shell");
    let program = copy_as(&scratch, "true", "true");
    let paths: Vec<_> = NAMES.iter().map(|name| scratch.path("").join(OsStr::from_bytes(name))).collect();
    for path in &paths {
        copy_program(&program, path);
    }
    let loads = || -> Vec<Held> { paths.iter().map(|path| Held::new(&shell, path, ["x"])).collect() };
    let go = |loads: Vec<Held>| loads.into_iter().for_each(|load| assert_eq!(load.go(), Some(0)));
    let file = |name: &str| scratch.path(name);
    let held = loads();
    let pids: Vec<u32> = held.iter().map(Held::pid).collect();
    let config = json!({
        "version": 1,
        "probes": [{"program": "execsnoop", "filters": {"failed": false, "pid": pids}}],
        "sinks": {
            "shown": {"type": "stdout", "path": file("shown"), "template": "{{ comm }}"},
            "csv": {"type": "csv", "path": file("csv"), "columns": ["comm"]},
            "jsonl": {"type": "jsonl", "path": file("jsonl"), "fields": ["comm"]},
        },
    });
    let capture = Capture::start(&scratch, &config, &[]);
    go(held);
    capture.stop().expect(0);
    let read = |name: &str| fs::read_to_string(file(name)).expect("every sink writes UTF-8");
    let shown: Vec<String> = read("shown").lines().map(str::to_owned).collect();
    let table = read("csv");
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let cells: Vec<String> = rows.records().map(|row| row.expect("every row has all columns")[0].to_owned()).collect();
    let values = records(&read("jsonl")).into_iter().map(|object| object["comm"].as_str().expect("text").to_owned());
    let values: Vec<String> = values.collect();

    let mut probes = Vec::new();
    for (form, texts) in [("shown", &shown), ("csv", &cells), ("jsonl", &values)] {
        assert_eq!(texts.len(), NAMES.len(), "{form}: {texts:?}");
        for (i, text) in texts.iter().enumerate().filter(|(_, text)| !text.contains('*')) {
            let filters = json!({"failed": false, "comm": text});
            probes.push(json!({"program": "execsnoop", "name": format!("{form} {i}"), "filters": filters}));
        }
    }
    let wanted = probes.len();
    let sinks = json!({"out": {"type": "jsonl", "fields": ["probe", "comm"]}});
    let capture = Capture::start(&scratch, &json!({"version": 1, "probes": probes, "sinks": sinks}), &[]);
    go(loads());
    let ended = capture.stop().expect(0);
    let found = records(&ended.stdout);
    assert_eq!(found.len(), wanted, "{}", ended.stdout);
    for record in found {
        let probe = record["probe"].as_str().expect("text");
        let index: usize = probe.rsplit(' ').next().expect("a word").parse().expect("a number");
        assert_eq!(restore(record["comm"].as_str().expect("text")), NAMES[index], "{probe}");
    }
}

#[test]
fn no_name_does_harm_and_every_name_can_be_had_back() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let shell = copy_as(&scratch, "sh", "shell");
    let program = copy_as(&scratch, "true", "true");
    let paths: Vec<_> = NAMES.iter().map(|name| scratch.path("").join(OsStr::from_bytes(name))).collect();
    for path in &paths {
        copy_program(&program, path);
    }
    let args = || NAMES.iter().map(|name| OsStr::from_bytes(name));
    let loads: Vec<Held> = paths.iter().map(|path| Held::new(&shell, path, args())).collect();
    let pids: Vec<u32> = loads.iter().map(Held::pid).collect();
    let file = |name: &str| scratch.path(name);
    let config = json!({
        "version": 1, "max_loss": "100%",
        "probes": [{"program": "execsnoop", "name": "calls", "filters": {"pid": pids, "failed": false}, "order": "time"}],
        "sinks": {
            "names": {"type": "stdout", "path": file("names"), "template": "{{ comm }}\u{a0}{{ filename }}\u{a0}{{ comm | upper }}"},
            "words": {"type": "stdout", "path": file("words"), "template": "{{ argv }}"},
            "csv": {"type": "csv", "path": file("csv"), "columns": ["comm", "filename", "argv", {"again": "{{ comm }}"}]},
            "jsonl": {"type": "jsonl", "path": file("jsonl")},
        },
    });
    let capture = Capture::start(&scratch, &config, &[]);
    loads.into_iter().for_each(|load| assert_eq!(load.go(), Some(0)));
    let ended = capture.stop().expect(0);
    assert_eq!(summary(&ended, "calls"), [NAMES.len() as u64, NAMES.len() as u64, 0]);

    let read = |name: &str| fs::read_to_string(file(name)).expect("every sink writes UTF-8");
    let argv = |path: &Path| -> Vec<Vec<u8>> {
        [path.as_os_str().as_bytes()].into_iter().chain(NAMES.iter().copied()).map(<[u8]>::to_vec).collect()
    };
    // A terminal shows lines, and obeys nothing; a shell has the arguments back
    let (names, lines) = (read("names"), read("words"));
    assert!(is_harmless(&names) && is_harmless(&lines), "{names:?}\n{lines:?}");
    assert_eq!((names.lines().count(), lines.lines().count()), (NAMES.len(), NAMES.len()));
    for (line, path) in lines.lines().zip(&paths) {
        assert_eq!(words(line), argv(path), "{line}");
    }
    assert!(names.starts_with("=1+cmd|'x'!A0\u{a0}") && names.contains("\\x1b]0;own\\x07"), "{names}");

    // JSON has them byte for byte, and is harmless to look at
    let text = read("jsonl");
    assert!(is_harmless(&text), "{text:?}");
    let objects = records(&text);
    let bytes = |value: &Json| restore(value.as_str().expect("text"));
    for ((object, name), path) in objects.iter().zip(NAMES).zip(&paths) {
        assert_eq!(bytes(&object["comm"]), *name);
        assert_eq!(bytes(&object["filename"]), path.as_os_str().as_bytes());
        let all: Vec<Vec<u8>> = object["argv"].as_array().expect("a list").iter().map(bytes).collect();
        assert_eq!(all, argv(path));
    }

    // CSV too, and no cell is one that a spreadsheet runs
    let table = read("csv");
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let mut count = 0;
    for ((row, name), path) in rows.records().zip(NAMES).zip(&paths) {
        let row = row.expect("every row has all columns");
        let runs = |cell: &str| cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
        assert!(!row.iter().any(runs), "{row:?}");
        let cell = |index: usize| row[index].strip_prefix('\'').unwrap_or(&row[index]);
        assert_eq!((restore(cell(0)), restore(cell(3))), (name.to_vec(), name.to_vec()));
        assert_eq!(restore(cell(1)), path.as_os_str().as_bytes());
        assert_eq!(words(cell(2)), argv(path));
        count += 1;
    }
    assert_eq!(count, NAMES.len());

    for (object, name) in objects.iter().zip(NAMES) {
        match restored_in_python(object["comm"].as_str().expect("text")) {
            Some(bytes) => assert_eq!(bytes, *name),
            None => return eprintln!("SKIPPED: python3 is not installed"),
        }
    }
}
