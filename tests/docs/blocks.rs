//! Every config and every command line of the tutorial, the how-tos and the README works.
//!
//! A comment on the line before a block has what the test can't see:
//!
//! - `<!-- file: NAME -->`: the block is this file for the commands that follow;
//! - `<!-- wrong file: NAME -->`: the same, and `check` must report a problem in it;
//! - `<!-- live: LOAD -->`: a live test runs the block, and the shell command LOAD beside each capture of it;
//! - `<!-- live, may be empty: LOAD -->`: the same, where the host decides whether the capture has records;
//! - `<!-- not run: REASON -->`: no test can run it; its `ebpf-run` commands are parsed all the same.
//!
//! `EBPF_RUN_BLESS=1 cargo test --test integration docs::` writes the current output of offline commands into the
//! pages.

use std::path::Path;

use super::commands::{Kind, Workspace, arguments, kind, lines, matches, parse, split, tested};
use super::markdown::{Block, Page, root};

const BINARY: &str = env!("CARGO_BIN_EXE_ebpf-run");
/// The kinds of blocks. `text` is for output that no program reads.
const KNOWN: [&str; 10] = ["c", "console", "csv", "dockerfile", "json", "jsonl", "sh", "text", "toml", "yaml"];

fn binary() -> &'static Path {
    Path::new(BINARY)
}

/// `check` and `plan` of a config in a block; the name of its file.
fn check_config(page: &Page, block: &Block, workspace: &Workspace) {
    let name = block.file().unwrap_or("capture.yaml");
    if block.file().is_none() {
        std::fs::write(workspace.path().join(name), &block.text).expect("a file");
    }
    if block.is_marked("wrong file: ") {
        assert_eq!(workspace.run(&format!("ebpf-run check '{name}'"), binary()).0, 2, "{name} is right");
        return;
    }
    let part = block.text.lines().any(|line| line == "part: true");
    for command in if part { &["check"][..] } else { &["check", "plan"] } {
        let (code, output) = workspace.run(&format!("ebpf-run {command} '{name}'"), binary());
        assert_eq!(code, 0, "{}:{}: {command}: {output}", page.path.display(), block.line);
    }
}

/// Checks that the config and the arguments of a run make a plan. Options of `run` that `plan` does not have are
/// removed.
fn check_run(place: &str, program: &[String], workspace: &Workspace) {
    let mut arguments = arguments(program).expect("it is ebpf-run").to_vec();
    match arguments.first().map(String::as_str) {
        Some("doctor") => return, // its results depend on the host
        Some("run") => drop(arguments.remove(0)),
        _ => {}
    }
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--report" => drop(arguments.next()),
            "--quiet" | "-q" | "--verbose" | "-v" => {}
            _ => kept.push(format!("'{}'", argument.replace('\'', "'\\''"))),
        }
    }
    let (code, output) = workspace.run(&format!("ebpf-run plan {}", kept.join(" ")), binary());
    assert_eq!(code, 0, "{place}: {output}");
}

fn check_commands(page: &mut Page, block: &Block, workspace: &Workspace) {
    let (not_run, live) = (block.is_marked("not run: "), block.is_live());
    let (mut last_code, mut blessed) = (0, block.text.clone());
    let lines = lines(page, block);
    assert!(!lines.is_empty(), "{}:{}: no command is in this block", page.path.display(), block.line);
    for (number, line) in lines.iter().enumerate() {
        let what = format!("{}: {}", line.place, line.text);
        let programs = split(&line.text).unwrap_or_else(|error| panic!("{what}: {error}"));
        parse(line, &programs);
        if not_run {
            continue;
        }
        let kind = kind(line, &programs);
        match kind {
            _ if live => {
                for program in programs.iter().filter(|_| kind == Kind::Live) {
                    if arguments(program).is_some() {
                        check_run(&what, program, workspace);
                    }
                }
            }
            Kind::Offline => {
                let (code, output) = workspace.run(&line.text, binary());
                let code_is_shown = lines.get(number + 1).is_some_and(|next| next.text == "echo $?");
                assert!(code == 0 || code_is_shown, "{what}: exit code {code}: {output}");
                if let Some(shown) = line.shown.as_ref().filter(|shown| !matches(shown, &output)) {
                    let bless = std::env::var_os("EBPF_RUN_BLESS").is_some() && !shown.contains('…');
                    assert!(bless, "{what}\nis shown as\n{shown}\nand is\n{output}");
                    let command = format!("$ {}\n", line.text);
                    blessed = blessed.replacen(&format!("{command}{shown}"), &format!("{command}{output}"), 1);
                }
                last_code = code;
            }
            Kind::ExitCode => {
                assert_eq!(line.shown.as_deref().map(str::trim), Some(last_code.to_string().as_str()), "{what}");
            }
            Kind::Live | Kind::Foreign => panic!("{what}: a test can't run this; mark the block `live` or `not run`"),
        }
    }
    if blessed != block.text {
        page.text = page.text.replacen(&block.text, &blessed, 1);
        std::fs::write(root().join(&page.path), &page.text).expect("the page can be written");
    }
}

#[test]
fn every_config_and_command_of_the_pages_works() {
    let (mut configs, mut commands) = (0, 0);
    for mut page in tested() {
        let workspace = Workspace::new();
        for block in page.blocks() {
            let place = format!("{}:{}", page.path.display(), block.line);
            assert!(KNOWN.contains(&block.info.as_str()), "{place}: `{}` is no kind of block", block.info);
            if let Some(marker) = &block.marker {
                let kinds = ["file: ", "wrong file: ", "live: ", "live, may be empty: ", "not run: "];
                assert!(kinds.iter().any(|kind| marker.starts_with(kind)), "{place}: `{marker}` is no marker");
            }
            workspace.add(&block);
            match block.info.as_str() {
                "yaml" if !block.is_marked("not run: ") => {
                    check_config(&page, &block, &workspace);
                    configs += 1;
                }
                "console" | "sh" => {
                    check_commands(&mut page, &block, &workspace);
                    commands += 1;
                }
                _ => {}
            }
        }
    }
    assert!(configs >= 10 && commands >= 20, "only {configs} configs and {commands} blocks of commands were found");
}

/// The test would not find a command in an indented block, or in a block of another kind.
#[test]
fn every_command_is_in_a_block_that_is_tested() {
    for page in tested() {
        let mut kind = None;
        for (number, line) in page.text.lines().enumerate() {
            if let Some(info) = line.trim_start().strip_prefix("```") {
                kind = if kind.is_some() { None } else { Some(info) };
                continue;
            }
            let command = line.trim_start().trim_start_matches("$ ").trim_start_matches("sudo ");
            let is_command =
                command.starts_with("ebpf-run ") && (line.starts_with("    ") || line.trim_start().starts_with("$ "));
            let tested = kind.is_some_and(|kind| ["console", "sh"].contains(&kind));
            assert!(!is_command || tested, "{}:{}: {line}", page.path.display(), number + 1);
        }
    }
}
