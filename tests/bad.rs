//! The corpus of bad configs, `tests/bad/*.yaml`. The first line of each has the expected problems and their positions:
//! `# expect: E010 4:5, E021 7:9`. The check reports exactly these. A position in another text has its name in front:
//! `E010 parts/typo.yaml 4:5`, `E023 --set 1 1:7`. Lines `# set: PATH=VALUE`, `# filter: NAME=VALUE` and `# output:
//! FILE` after the first are arguments; the environment has `TEAM` and `storage`, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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

fn errors_md() -> (std::path::PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/errors.md");
    let text = fs::read_to_string(&path).expect("it is there");
    (path, text)
}

#[test]
fn the_documented_codes_are_those_that_there_are() {
    let (_, text) = errors_md();
    let rows: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `E"))
        .map(|row| {
            let mut cells = row.split(" | ");
            let code = format!("E{}", cells.next().unwrap_or_default().trim_end_matches('`'));
            let title = cells.next().unwrap_or_default().to_owned();
            assert!(cells.next().is_some_and(|advice| advice.len() > 8), "{code}: what to do?");
            (code, title)
        })
        .collect();
    let known: Vec<(String, String)> =
        Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.title().to_owned())).collect();
    assert_eq!(rows, known);
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
