//! The corpus of bad configs, `tests/bad/*.yaml`. The first line of each has the expected problems and their positions:
//! `# expect: E010 4:5, E021 7:9`. The check reports exactly these. A position in another text has its name in front:
//! `E010 parts/typo.yaml 4:5`, `E023 --set 1 1:7`. Lines `# set: PATH=VALUE`, `# filter: NAME=VALUE` and `# output:
//! FILE` after the first are arguments; the environment has `TEAM` and `storage`, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::pairs;
use ebpf_run::catalog::Catalog;
use ebpf_run::check::{Format, InvalidFile, check, check_text};
use ebpf_run::config::diagnostic::{Code, Diagnostic, TextKind, sorted};
use ebpf_run::config::shorthand::Output;
use ebpf_run::config::{Arguments, Overlay};

/// The files with their names, in order.
fn corpus() -> Vec<(String, std::path::PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let entries = fs::read_dir(folder).expect("the corpus is there").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries
        .filter(|path| path.is_file())
        .map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path))
        .collect();
    files.sort();
    files
}

fn arguments(path: &Path) -> Arguments {
    let text = fs::read_to_string(path).expect("it can be read");
    let mut arguments = Arguments::default();
    for line in text.lines().skip(1) {
        match line.strip_prefix("# ").and_then(|line| line.split_once(": ")) {
            Some(("set", argument)) => arguments.sets.push(argument.to_owned()),
            Some(("filter", argument)) => arguments.filters.push(argument.to_owned()),
            Some(("output", argument)) => arguments.output = Some(Output::File(argument.to_owned())),
            _ => break,
        }
    }
    arguments
}

fn environment(name: &str) -> Option<String> {
    (name == "TEAM").then(|| "storage".into())
}

fn found(file: &InvalidFile, problem: &Diagnostic) -> String {
    let text = &file.texts[problem.place.text];
    let name = match text.kind {
        TextKind::Config => String::new(),
        TextKind::Included => format!("{} ", text.name.split_once("tests/bad/").expect("it is below").1),
        TextKind::Argument => format!("{} ", text.name.replace('#', "")),
    };
    format!("{} {name}{}:{}", problem.code, problem.place.line, problem.place.column)
}

fn expected(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("it can be read");
    let line = text.lines().next().and_then(|line| line.strip_prefix("# expect: "));
    let line = line.unwrap_or_else(|| panic!("{}: the first line does not say what is expected", path.display()));
    line.split(", ").map(str::to_owned).collect()
}

#[test]
fn each_fault_is_found_in_its_place_and_told_once() {
    let catalog = Catalog::embedded();
    let mut wrong = String::new();
    let files = corpus();
    assert!(files.len() >= 60, "{} files", files.len());
    for (name, path) in files {
        let arguments = arguments(&path);
        let outside = Overlay { arguments: &arguments, environment: &environment };
        let faulty = check(&path, &catalog, outside).expect("the programs are sound");
        let problems = faulty.as_ref().map_or(&[][..], |file| &file.problems);
        let found: Vec<String> =
            sorted(problems).into_iter().map(|problem| found(faulty.as_ref().expect("one has it"), problem)).collect();
        if found != expected(&path) {
            let said: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            wrong += &format!("{name}: expected {:?}, found {found:?}: {said:?}\n", expected(&path));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_corpus_has_every_kind_of_fault_that_a_file_can_show() {
    let told: BTreeSet<String> =
        corpus().iter().flat_map(|(_, path)| expected(path)).map(|one| one[..4].to_owned()).collect();
    for code in Code::ALL {
        // Other tests cover these codes; the last one would be a bug of ebpf-run
        let elsewhere = [Code::Unreadable, Code::Part, Code::Disagreement].contains(code);
        assert!(elsewhere || told.contains(code.as_str()), "{code} ({})", code.title());
    }
}

/// Pairs of which one fault makes the other unknowable, or no fault: two names, or patterns of names, and why.
const UNKNOWABLE: &[(&str, &str, &str)] = &[
    ("empty-comment-only", "*", "it is empty: with anything else in it, it is not"),
    ("not-a-mapping", "*", "a list has no keys"),
    ("only-words", "*", "text has no keys"),
    ("of-another-program", "*", "with a key of a config it is not for another program"),
    ("yaml-bad-indentation", "*", "what the line belongs to is not known"),
    ("yaml-bracket-left-open", "*", "where the bracket ends is not known"),
    ("yaml-tab", "*", "how far the line is indented is not known"),
    ("window-of-events-without-any", "*", "a probe of the other sends events"),
    ("set-unknown", "*", "the arguments replace values of the other, or name a probe that it does not have"),
    ("include-*", "lock-missing", "the file that is not included may have it"),
    ("include-*", "schedule-w*", "the file that is not included may have it"),
    ("include-*", "several", "the file that is not included may have it"),
    ("include-*", "label-mistyped", "the file that is not included may have it"),
    ("include-*", "default-unused", "the file that is not included may have it"),
    ("include-*", "missing-*", "the file that is not included may have it"),
    ("include-*", "name-sink", "the file that is not included may have it"),
    ("include-*", "probe-sink-unknown-only", "the file that is not included may have it"),
    ("include-*", "sink-unused", "the file that is not included may have it"),
    ("include-*", "count-no-sinks", "the included file has sinks"),
    ("include-with-faults", "blank-window", "the value of the included file is overridden"),
    ("sink-unused", "*", "a name or list of sinks that has a problem may mean this sink"),
    ("default-unused", "*", "the program of the other uses it, or is not known"),
    ("missing-program", "*", "which fields the events have is not known"),
    ("count-no-probes", "*", "which fields the events have is not known"),
    ("ambiguous-key", "*", "the key that can't be read may be the one"),
    ("ambiguous-word", "label-mistyped", "the key that can't be read may be the one"),
    ("character-*", "label-mistyped", "the key that can't be read may be the one"),
    ("character-*", "missing-*", "the key that can't be read may be the one"),
    ("character-*", "include-without-sinks", "the key that can't be read may be the one"),
    ("character-invisible", "misplaced-interval", "the program can't be read"),
    ("ambiguous-*", "key-twice*", "libyaml stops at the second key, so it can't be compared with"),
    ("ambiguous-*", "several-of-yaml", "libyaml stops at the second key, so it can't be compared with"),
    ("ambiguous-*", "alias-*", "libyaml does not follow the alias, so it can't be compared with"),
    ("ambiguous-*", "nested-too-deeply", "libyaml stops there, so it can't be compared with"),
    ("ambiguous-*", "document-second", "libyaml reads one document, so it can't be compared with"),
    ("ambiguous-*", "*-64-bits", "libyaml stops at the number, so it can't be compared with"),
    ("ambiguous-*", "type-long-number-for-text", "libyaml stops at the number, so it can't be compared with"),
    ("ambiguous-end-of-file", "ambiguous-question-mark", "both are the last key"),
    ("ambiguous-question-mark", "character-*", "both have the same label"),
    ("type-mapping-for-program", "misplaced-interval", "the program is not known"),
    ("schedule-windows-meet", "choice-on-locked", "the other has a lock"),
    ("period-of-a-clock-missing", "period-zero", "the other has a period"),
    ("name-sink", "several", "the other has the sink"),
    ("unknown-key-instead-of-sinks", "name-sink", "the other has the sink"),
    ("unknown-key-instead-of-sinks", "several", "the other has the sink"),
    ("key-twice-at-the-top", "missing-version", "one has a key that the other lacks"),
    ("several-of-yaml", "missing-version", "one has a key that the other lacks"),
    ("lock-missing", "lock-*", "the other has a lock"),
    ("lock-missing", "blank-duration", "the other has a lock"),
    ("schedule-windows-meet", "lock-*", "the other has a lock"),
    ("schedule-no-time", "schedule-*", "the other has a time"),
    ("schedule-without-end", "*", "the other has a duration"),
];

fn is_named(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => name.starts_with(start) && name.ends_with(end),
        None => name == pattern,
    }
}

/// What a fault is known by in another file: its code, and the text that is underlined or the message.
fn marks(file: &InvalidFile) -> Vec<(Code, String, String)> {
    let of = |problem: &Diagnostic| {
        let place = problem.place;
        let line = file.texts[place.text].content.lines().nth(place.line - 1).unwrap_or_default();
        let underlined = line.chars().skip(place.column - 1).take(place.width).collect();
        (problem.code, underlined, problem.message.clone())
    };
    file.problems.iter().map(of).collect()
}

/// A directory for configs with includes: the corpus' own included files are in it.
fn with_parts() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad/parts");
    fs::create_dir(directory.path().join("parts")).expect("a directory");
    for entry in fs::read_dir(parts).expect("it is there") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), directory.path().join("parts").join(entry.file_name())).expect("it can be copied");
    }
    directory
}

/// The problems of `text`, as a file of `directory` if it includes others.
fn check_it(directory: &Path, text: &str, sets: &[String], catalog: &Catalog) -> Option<InvalidFile> {
    let arguments = Arguments { sets: sets.to_vec(), ..Arguments::default() };
    let outside = Overlay { arguments: &arguments, environment: &environment };
    if text.contains("\ninclude:") {
        let path = directory.join("both.yaml");
        fs::write(&path, text).expect("it can be written");
        return check(&path, catalog, outside).expect("the programs are sound");
    }
    check_text("both.yaml", text, catalog, outside).expect("the programs are sound")
}

#[test]
fn a_fault_hides_no_other() {
    let catalog = Catalog::embedded();
    let directory = with_parts();
    let files: Vec<_> = corpus()
        .into_iter()
        .filter_map(|(name, path)| {
            let text = fs::read_to_string(&path).expect("it can be read");
            let Arguments { filters, output, sets } = arguments(&path);
            if !filters.is_empty() || output.is_some() {
                return None; // these are for a config of one probe, and a pair has two
            }
            let alone = marks(&check_it(directory.path(), &text, &sets, &catalog).expect("it is wrong"));
            Some((name, pairs::Parts::of(&text), sets, alone))
        })
        .collect();
    let (hidden, used, count) = (Mutex::new(Vec::new()), Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
    let next = AtomicUsize::new(0);
    let work = || {
        let (directory, catalog) = (with_parts(), Catalog::embedded());
        while let Some((one, a, sets, alone)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let index = files.iter().position(|file| file.0 == *one).expect("it is one of them");
            for (other, b, more_sets, also) in &files[index + 1..] {
                let Some(text) = pairs::pair(a, b) else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                let sets = [&sets[..], more_sets].concat();
                let found = check_it(directory.path(), &text, &sets, &catalog);
                let found = found.map(|file| marks(&file)).unwrap_or_default();
                let is_shown = |(code, underlined, message): &&(Code, String, String)| {
                    // A sink may have another name there
                    let same = |shown: &str| shown.trim_end_matches('_') == underlined;
                    found.iter().any(|shown| shown.0 == *code && (same(&shown.1) || shown.2 == *message))
                };
                let missing: Vec<_> = alone.iter().chain(also).filter(|mark| !is_shown(mark)).collect();
                if missing.is_empty() {
                    continue;
                }
                let both = |(a, b, _): &&(&str, &str, &str)| {
                    is_named(one, a) && is_named(other, b) || is_named(other, a) && is_named(one, b)
                };
                match UNKNOWABLE.iter().find(both) {
                    Some(known) => drop(used.lock().expect("no panic").insert(known)),
                    None => {
                        let pair = format!("{one} + {other}: {missing:?} is not in {found:?}:\n{text}");
                        hidden.lock().expect("no panic").push(pair);
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (hidden, used, count) =
        (hidden.into_inner().expect("no panic"), used.into_inner().expect("no panic"), count.into_inner());
    assert!(hidden.is_empty(), "{} of {count} pairs:\n{}", hidden.len(), hidden.join("\n"));
    assert!(count > 10_000, "{count} pairs");
    let unused: Vec<_> = UNKNOWABLE.iter().filter(|known| !used.contains(known)).collect();
    assert!(unused.is_empty(), "not needed: {unused:?}");
}

fn errors_md() -> (std::path::PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/errors.md");
    let text = fs::read_to_string(&path).expect("it is there");
    (path, text)
}

/// `EBPF_RUN_BLESS=1 cargo test --test integration bad::` updates them.
#[test]
fn the_documented_messages_are_what_is_shown() {
    let (path, text) = errors_md();
    let catalog = Catalog::embedded();
    let mut parts = text.split("```");
    let mut renewed = parts.next().expect("a beginning").to_owned();
    let mut count = 0;
    while let (Some(block), Some(rest)) = (parts.next(), parts.next()) {
        let shown = block.strip_prefix("text\n").expect("every block is text");
        let name = shown.split_once(".yaml").map(|(name, _)| format!("{name}.yaml")).expect("it names its file");
        let yaml = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&name)).expect("it is in the corpus");
        let arguments = arguments(Path::new(&name));
        let outside = Overlay { arguments: &arguments, environment: &environment };
        let faulty = check_text(&name, &yaml, &catalog, outside).expect("the programs are sound").expect("it is wrong");
        renewed += &format!("```text\n{}```{rest}", faulty.written(Format::Human));
        count += 1;
    }
    assert!(count >= 10, "{count} messages");
    if std::env::var_os("EBPF_RUN_BLESS").is_some() {
        fs::write(&path, &renewed).expect("the document can be written");
    }
    assert_eq!(fs::read_to_string(&path).expect("it is there"), renewed);
}
