//! Configs that no user would write: mutations of the corpus and of the shipped ones are loaded and checked. Nothing
//! panics, every problem is in the file, and the schema and the loader agree.
//!
//! `EBPF_RUN_FUZZ_SECONDS=600 cargo test --test integration fuzz:: -- --nocapture` runs longer than by default;
//! `EBPF_RUN_FUZZ_SEED=N` begins with the seed of a reported failure.

use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ebpf_run::catalog::Catalog;
use ebpf_run::check::{Format, check_text};
use ebpf_run::config::diagnostic::Code;
use ebpf_run::config::shorthand::Output;
use ebpf_run::config::{Arguments, Overlay};

/// splitmix64: small, and the same on all machines.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// Texts to be inserted.
const PIECES: &[&str] = &[
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\t",
    "#",
    "'",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    "{{",
    "}}",
    "{{ ",
    " }}",
    "{%",
    "%}",
    "|",
    ">-",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "---\n",
    "...",
    "? ",
    "~",
    "null",
    "true",
    "0",
    "-1",
    "1e9",
    "0x1F",
    ".nan",
    ".inf",
    "18446744073709551616",
    "4294967296",
    "1ms",
    "64KiB",
    "99Hz",
    "0.1%",
    "%",
    "\u{0}",
    "\u{1b}[31m",
    "日本",
    "\u{202e}",
    "\u{feff}",
    "time",
    "comm",
    "| clock",
    "| left(16)",
    "| left(-1)",
    "latency_ns / 0",
    "not: ",
    "version: 1\n",
    "probes:",
    "sinks:",
    "filters:",
    "type: csv",
    "columns:",
    "program: execsnoop",
    "buffer: {wakeup: {bytes: 1B}}",
    "*",
    "/",
    "..",
    "'kworker*'",
    "${TEAM}",
    "$${TEAM}",
    "'${PID:-7}'",
    "defaults:",
    "include: x.yaml",
    "part: true",
];

fn mutate(text: &mut String, others: &[String], random: &mut Random) {
    // The beginning of a character
    let at = |text: &str, random: &mut Random| {
        let mut at = random.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let span = |text: &str, random: &mut Random| {
        let (a, b) = (at(text, random), at(text, random));
        let (from, mut to) = (a.min(b), a.max(b).min(a.min(b) + 1 + random.below(40)));
        while !text.is_char_boundary(to) {
            to += 1;
        }
        from..to
    };
    let line = |text: &str, random: &mut Random| {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let nth = random.below(lines.len());
        let from: usize = lines.iter().take(nth).map(|line| line.len()).sum();
        from..from + lines.get(nth).map_or(0, |line| line.len())
    };
    match random.below(9) {
        0 | 1 => text.insert_str(at(text, random), random.pick(PIECES)),
        2 => text.replace_range(span(text, random), random.pick(PIECES)),
        3 => text.replace_range(span(text, random), ""),
        4 => text.replace_range(line(text, random), ""),
        5 => {
            let copied = text[line(text, random)].to_owned();
            text.insert_str(line(text, random).start, &copied);
        }
        6 => {
            let other = &others[random.below(others.len())];
            let copied = &other[line(other, random)];
            text.insert_str(line(text, random).start, copied);
        }
        7 => {
            // The value of another key
            let other = &others[random.below(others.len())];
            let copied = other[span(other, random)].to_owned();
            text.replace_range(span(text, random), &copied);
        }
        _ => {
            let start = line(text, random).start;
            let indent = " ".repeat(random.below(7));
            let blanks = text[start..].len() - text[start..].trim_start_matches(' ').len();
            text.replace_range(start..start + blanks, &indent);
        }
    }
}

fn seeds() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["tests/bad", "probes.d", "examples"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut paths: Vec<_> =
            fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("one").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
        paths.sort();
        found.extend(paths.iter().map(|path| fs::read_to_string(path).expect("it can be read")));
    }
    found
}

/// Paths for arguments.
const PATHS: &[&str] = &[
    "name",
    "labels.team",
    "labels",
    "window.duration",
    "window",
    "max_loss",
    "version",
    "include",
    "part",
    "defaults",
    "defaults.filters.pid",
    "defaults.buffer.size",
    "defaults.maps.inflight",
    "probes",
    "probes.0",
    "probes.1.name",
    "probes.biosnoop.filters.min_latency",
    "probes.execsnoop",
    "probes.0.filters.comm.0",
    "probes.0.buffer.wakeup.events",
    "sinks",
    "sinks.out",
    "sinks.out.path",
    "sinks.screen.template",
    "sinks.file.columns.0",
    "\"a.b\"",
    "..",
    "",
];

/// None, one or several arguments, with values from a config.
fn arguments(text: &str, random: &mut Random) -> Vec<String> {
    let values: Vec<&str> = text.lines().filter_map(|line| line.split_once(": ").map(|(_, value)| value)).collect();
    let one = |random: &mut Random| {
        let value = if values.is_empty() || random.below(2) == 0 { random.pick(PIECES) } else { random.pick(&values) };
        format!("{}={value}", random.pick(PATHS))
    };
    (0..random.below(4).saturating_sub(1)).map(|_| one(random)).collect()
}

/// Prints the text in which a check panics, when it is dropped.
struct Trial<'a>(u64, &'a str, &'a [String]);

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("EBPF_RUN_FUZZ_SEED={} fails with {:?} and this config:\n{}\n(end)", self.0, self.2, self.1);
        }
    }
}

/// The CPU time of this thread: a busy machine does not make the check slow.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Whether it passes the check.
fn trial(seed: u64, text: &str, sets: &[String], catalog: &Catalog) -> bool {
    let _told = Trial(seed, text, sets);
    let start = cpu_time();
    // The same texts as filters, which must not panic either
    let filters = if seed.is_multiple_of(4) { sets.to_vec() } else { Vec::new() };
    let output = sets.first().filter(|_| seed.is_multiple_of(5)).cloned().map(Output::File);
    let arguments = Arguments { filters, output, sets: sets.to_vec() };
    let outside =
        Overlay { arguments: &arguments, environment: &|name| (name.len() % 2 == 0).then(|| name.to_owned()) };
    let faulty = check_text("x.yaml", text, catalog, outside).expect("the programs are sound");
    let Some(faulty) = faulty else { return true };
    let mut places: Vec<_> =
        faulty.problems.iter().map(|problem| (problem.place, problem.code, &problem.message)).collect();
    for (place, code, message) in &places {
        assert_ne!(*code, Code::Disagreement, "{message}");
        let lines: Vec<usize> = faulty.texts[place.text].content.split('\n').map(|line| line.chars().count()).collect();
        assert!((1..=lines.len()).contains(&place.line), "line {} of {}: {message}", place.line, lines.len());
        let columns = lines[place.line - 1];
        assert!((1..=columns + 1).contains(&place.column), "column {} of {columns}: {message}", place.column);
        assert!(place.width > 0 && !message.is_empty());
    }
    places.sort();
    places.dedup();
    assert_eq!(places.len(), faulty.problems.len(), "a problem is told twice: {places:?}");
    for format in [Format::Human, Format::Json, Format::Github] {
        assert!(!faulty.written(format).is_empty());
    }
    let taken = cpu_time() - start;
    assert!(taken < Duration::from_secs(2), "it takes {taken:?}");
    false
}

#[test]
fn no_config_whatever_it_holds_makes_the_check_fail() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(number("EBPF_RUN_FUZZ_SECONDS").unwrap_or(3));
    let first = number("EBPF_RUN_FUZZ_SEED").unwrap_or(1);
    let (seeds, catalog) = (seeds(), Catalog::embedded());
    let start = Instant::now();
    let (mut tried, mut passed) = (0u64, 0u64);
    while start.elapsed() < time {
        let seed = first + tried;
        let mut random = Random(seed);
        let mut text = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(8) {
            mutate(&mut text, &seeds, &mut random);
        }
        let sets = arguments(&text, &mut random);
        passed += u64::from(trial(seed, &text, &sets, &catalog));
        tried += 1;
    }
    println!("{tried} configs in {:?}, {passed} of them without a problem", start.elapsed());
    assert!(tried > 10);
}
