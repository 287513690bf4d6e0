//! A config's structure: what is refused, where, and in which words.

use super::*;

const GOOD: &str = "\
version: 1
window: {duration: 10s}
max_loss: 0.1%
probes:
  - program: biosnoop
    filters: {min_latency: 1ms, comm: [dd, fio]}
    buffer: {size: 1MiB, max_latency: 50ms}
    maps: {inflight: 4096}
    sinks: [screen]
sinks:
  screen:
    type: stdout
    template: '{{ comm }}'
  file:
    type: csv
    path: out.csv
    columns: [comm, {ms: '{{ latency_ns / 1e6 }}'}]
";

fn parse(text: &str) -> Result<Source> {
    let source = Source::parse("x.yaml".into(), "x".into(), text.into())?;
    if source.problems.is_empty() { Ok(source) } else { Err(source.error(&source.problems)) }
}

/// Replaces `from` by `to` in the good config and expects the problem `says` at line:column.
#[track_caller]
fn wrong(from: &str, to: &str, at: &str, says: &str) {
    assert!(GOOD.contains(from), "{from}");
    let error = parse(&GOOD.replacen(from, to, 1)).expect_err("it is wrong");
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.starts_with(&format!("x.yaml:{at}: ")), "{error}");
    assert!(error.message.contains(says), "{error}");
}

#[test]
fn a_good_config_is_read() {
    let config = parse(GOOD).expect("it is good").config;
    assert_eq!(config.window.duration, Some(quantity::Nanoseconds(10_000_000_000)));
    assert_eq!(config.probes[0].buffer.size, Some(quantity::Bytes(1 << 20)));
    assert_eq!(config.probes[0].maps["inflight"], 4096);
    assert!(matches!(&config.sinks["file"], model::Sink::Csv { columns: Some(c), .. } if c.len() == 2));
    assert_eq!(config.sinks["screen"].path(), "-");
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    wrong("max_loss", "max_los", "3:1", "unknown key `max_los` in the config, did you mean `max_loss`?");
    wrong("buffer:", "buffr:", "7:5", "did you mean `buffer`?");
    wrong("size:", "siez:", "7:14", "unknown key `siez` in `buffer`, did you mean `size`?");
    wrong("path: out.csv", "paht: out.csv", "16:5", "did you mean `path`?");
    wrong("duration", "durration", "2:10", "did you mean `duration`?");
}

#[test]
fn wrong_types_and_values_are_refused() {
    wrong("version: 1", "version: 2", "1:10", "`version` must be 1, not 2");
    wrong("10s", "10", "2:20", "`duration`: `10` has no unit: write for instance `10ms`");
    wrong("1MiB", "1M", "7:20", "did you mean `1MiB`?");
    wrong("0.1%", "0.1", "3:11", "write `0.1%`");
    wrong("[screen]", "screen", "9:12", "`sinks` must be a list, not text");
    wrong("[screen]", "[]", "9:12", "`sinks` is empty");
    wrong("4096", "0", "8:22", "`inflight` must be at least 1, not 0");
    wrong("4096", "-1", "8:22", "`inflight` must be");
    wrong("4096", "'4096'", "8:22", "remove the quotes");
    wrong("{size", "{type: perfbuff, size", "7:20", "`perfbuff`");
    wrong("type: csv", "type: cvs", "15:11", "`cvs` is not a sink type, did you mean `csv`?");
    wrong("    type: csv\n", "", "15:5", "add `type` (stdout, csv, jsonl)");
    wrong("program: biosnoop", "name: x", "5:5", "add `program`");
    wrong("out.csv", "7", "16:11", "put quotes around it: \"7\"");
    wrong("{ms:", "{a: b, ms:", "17:21", "more than one key");
}

#[test]
fn yaml_that_is_none_is_refused() {
    wrong("'{{ comm }}'", "{{ comm }}", "13:15", "quotes");
    wrong("'{{ comm }}'", "{{ comm }} x", "13:15", "quotes");
    wrong("max_loss", "version", "3:1", "`version` is here twice, first on line 1");
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = GOOD.replace("10s", "10").replace("1MiB", "1M").replace("csv\n    path", "cvs\n    path");
    let message = parse(&text).expect_err("it is wrong").message;
    let places: Vec<&str> = message.lines().filter_map(|line| line.strip_prefix("x.yaml:")).collect();
    assert_eq!(places.len(), 3, "{message}");
    assert!(places[0].starts_with("2:20") && places[1].starts_with("7:20") && places[2].starts_with("15:11"));
}

#[test]
fn a_file_that_is_not_utf_8_is_refused_with_its_encoding_or_the_place() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("x.yaml");
    let problem = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("a file");
        let unusable = Source::read(&path).expect_err("it is not UTF-8");
        assert_eq!((unusable.problems.len(), unusable.problems[0].code), (1, Code::Unreadable));
        unusable.problems[0].message.clone()
    };
    let utf16 = |big: bool| -> Vec<u8> {
        let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        "\u{feff}version: 1\n".encode_utf16().flat_map(bytes).collect()
    };
    for big in [false, true] {
        assert!(problem(&utf16(big)).ends_with("the file is UTF-16: save it as UTF-8"));
    }
    assert!(problem(b"\xff\xfe\0\0v\0\0\0").contains("the file is UTF-32"));
    assert!(problem(b"\0\0\xfe\xff\0\0\0v").contains("the file is UTF-32"));
    let latin = "version: 1\n# é".as_bytes().iter().copied().chain(*b"\xe9t\n").collect::<Vec<_>>();
    let shown = problem(&latin);
    assert!(shown.contains("byte 0xe9 in line 2, column 4"), "{shown}");
    let refused = crate::error::Error::from(Source::read(&path).expect_err("it is not UTF-8")).message;
    assert!(refused.contains("x.yaml:2:4: E001 ") && refused.contains("\n     2 | # é\u{fffd}t\n"), "{refused}");
    // One mark at the beginning has no meaning; a second one is in the text
    std::fs::write(&path, format!("\u{feff}{GOOD}")).expect("a file");
    assert!(Source::read(&path).is_ok());
    std::fs::write(&path, format!("\u{feff}\u{feff}{GOOD}")).expect("a file");
    let unusable = Source::read(&path).expect("it can be read");
    assert_eq!((unusable.problems[0].code, unusable.problems[0].place), (Code::Character, Place::new(1, 1, 1)));
}
