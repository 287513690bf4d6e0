//! The command lines of the documents: found in their blocks, split as by a shell, and classified by what is required
//! to run them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::Parser as _;
use ebpf_run::cli::Cli;
use tempfile::TempDir;

use super::markdown::{Block, Page, pages, root};

/// Subcommands that load nothing: the test runs them.
const OFFLINE: [&str; 11] =
    ["check", "plan", "describe", "list", "test", "emit", "report", "init", "schema", "completions", "man"];
/// Programs that run the command in their arguments.
const WRAPPERS: [&str; 4] = ["sudo", "setpriv", "timeout", "env"];
/// Programs that can be part of a line that the test runs.
const TOOLS: [&str; 12] = ["cat", "cp", "cut", "diff", "grep", "head", "ls", "mkdir", "sed", "sort", "tail", "wc"];

/// The pages whose commands are checked.
pub fn tested() -> Vec<Page> {
    let mut tested = ["README.md", "docs/README.md", "docs/reference/config-example.md"].map(Page::read).to_vec();
    for directory in ["docs/tutorial", "docs/how-to"] {
        tested.append(&mut pages(directory));
    }
    tested
}

/// A command line of a `console` or `sh` block.
pub struct Line {
    /// Its text, with continued lines joined.
    pub text: String,
    /// In a `console` block, the lines that follow it.
    pub shown: Option<String>,
    /// The line of the block's fence.
    pub place: String,
}

/// The handling of a command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// Run it.
    Offline,
    /// Check its files; the live tests run it, with a command that causes events.
    Live,
    /// `echo $?`: the exit code of the one before.
    ExitCode,
    /// It requires something that the test does not have.
    Foreign,
}

/// The programs of a line, each with its arguments, without redirections.
pub type Programs = Vec<Vec<String>>;

pub fn lines(page: &Page, block: &Block) -> Vec<Line> {
    let place = format!("{}:{}", page.path.display(), block.line);
    let text = block.text.replace("\\\n", " ");
    let mut lines: Vec<Line> = Vec::new();
    for line in text.lines() {
        let command = if block.info == "console" { line.strip_prefix("$ ") } else { Some(line) };
        match (command, lines.last_mut()) {
            (Some(command), _) if command.is_empty() || command.starts_with('#') => {}
            (Some(command), _) => {
                let shown = (block.info == "console").then(String::new);
                lines.push(Line { text: command.to_owned(), shown, place: place.clone() });
            }
            (None, Some(Line { shown: Some(shown), .. })) => *shown += &format!("{line}\n"),
            (None, _) => panic!("{place}: a `console` block begins with `$ `: {line}"),
        }
    }
    lines
}

/// Splits a line as a shell does. Returns an error for syntax that this test does not support, such as a loop.
pub fn split(line: &str) -> Result<Programs, String> {
    let (mut programs, mut words, mut word): (Programs, Vec<String>, Option<String>) = Default::default();
    let mut redirection = false;
    let mut chars = line.chars().peekable();
    let end_word = |word: &mut Option<String>, words: &mut Vec<String>, redirection: &mut bool| {
        if let Some(word) = word.take()
            && !std::mem::take(redirection)
        {
            words.push(word);
        }
    };
    while let Some(c) = chars.next() {
        match c {
            ' ' => end_word(&mut word, &mut words, &mut redirection),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(|| format!("{line}: a {c} is not closed"))? {
                        end if end == c => break,
                        '\\' if c == '"' => word.extend(chars.next()),
                        inner => word.push(inner),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            '>' | '<' => {
                // The number of a file descriptor belongs to the redirection
                if word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
                    word = None;
                }
                end_word(&mut word, &mut words, &mut redirection);
                while chars.next_if(|next| ">&(".contains(*next)).is_some() {}
                redirection = true;
            }
            '|' | ';' | '&' => {
                end_word(&mut word, &mut words, &mut redirection);
                programs.push(std::mem::take(&mut words));
                chars.next_if_eq(&c);
            }
            '#' if word.is_none() => break,
            '`' | '(' | ')' => return Err(format!("{line}: `{c}` is not understood")),
            _ => word.get_or_insert_default().push(c),
        }
    }
    end_word(&mut word, &mut words, &mut redirection);
    programs.push(words);
    for program in &mut programs {
        // Variables of its environment
        while program.first().and_then(|first| first.split_once('=')).is_some_and(|(name, _)| !name.contains('-')) {
            program.remove(0);
        }
        let is_wrapped = program.first().is_some_and(|first| WRAPPERS.contains(&first.as_str()));
        let command = program.iter().position(|word| is_ebpf_run(word)).filter(|_| is_wrapped);
        program.drain(..command.unwrap_or(usize::from(program.first().is_some_and(|first| first == "sudo"))));
    }
    programs.retain(|program| !program.is_empty());
    Ok(programs)
}

fn is_ebpf_run(word: &str) -> bool {
    word == "ebpf-run" || ["bin", "debug", "release"].iter().any(|parent| word.ends_with(&format!("{parent}/ebpf-run")))
}

/// The arguments of `ebpf-run` in a program of a line, if it is `ebpf-run`.
pub fn arguments(program: &[String]) -> Option<&[String]> {
    let (name, arguments) = program.split_first()?;
    is_ebpf_run(name).then_some(arguments)
}

/// Checks that clap accepts every `ebpf-run` of a line.
pub fn parse(line: &Line, programs: &Programs) {
    for arguments in programs.iter().filter_map(|program| arguments(program)) {
        let words = std::iter::once("ebpf-run").chain(arguments.iter().map(String::as_str));
        if let Err(error) = Cli::try_parse_from(words)
            && error.use_stderr()
        {
            panic!("{}: {}: {error}", line.place, line.text);
        }
    }
}

pub fn kind(line: &Line, programs: &Programs) -> Kind {
    if line.text == "echo $?" {
        return Kind::ExitCode;
    }
    let offline = |program: &Vec<String>| match arguments(program) {
        Some(arguments) => arguments.first().is_some_and(|first| {
            OFFLINE.contains(&first.as_str()) || ["--version", "--help", "help"].contains(&first.as_str())
        }),
        None => TOOLS.contains(&program[0].as_str()),
    };
    // Files that a test writes are in its workspace
    let writes_elsewhere = line.text.contains(">/") || line.text.contains("> /") || line.text.contains("--output /");
    if programs.iter().all(offline) && !writes_elsewhere {
        Kind::Offline
    } else if programs.iter().any(|program| arguments(program).is_some() && !offline(program)) {
        Kind::Live
    } else {
        Kind::Foreign
    }
}

/// A directory with the files of a page, and with those of the repository that commands can use.
pub struct Workspace(TempDir);

impl Workspace {
    pub fn new() -> Workspace {
        let workspace = Workspace(tempfile::tempdir().expect("a directory"));
        for directory in ["probes.d", "examples", "schemas"] {
            let copied = Command::new("cp").arg("-R").arg(root().join(directory)).arg(workspace.path()).status();
            assert!(copied.is_ok_and(|status| status.success()), "{directory} can be copied");
        }
        workspace
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a block that `<!-- file: NAME -->` names.
    pub fn add(&self, block: &Block) {
        if let Some(name) = block.file() {
            let path = self.path().join(name);
            fs::create_dir_all(path.parent().expect("it is in the workspace")).expect("a directory");
            fs::write(path, &block.text).expect("a file");
        }
    }

    /// A shell that finds `ebpf-run`, with both outputs combined.
    pub fn shell(&self, line: &str, binary: &Path) -> Command {
        let mut path = binary.parent().expect("it has a directory").as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec 2>&1\n{line}")]).current_dir(self.path()).env("PATH", path);
        command.env("NO_COLOR", "1").env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    /// Runs a line; its exit code and its output.
    pub fn run(&self, line: &str, binary: &Path) -> (i32, String) {
        let output = self.shell(line, binary).output().expect("there is a shell");
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).expect("all output is UTF-8"))
    }
}

/// Whether `actual` matches the output in a page. A line `…` matches any lines, `…` in a line any text.
pub fn matches(shown: &str, actual: &str) -> bool {
    fn rest(shown: &[&str], actual: &[&str]) -> bool {
        match (shown, actual) {
            ([], []) => true,
            (["…", shown @ ..], _) => (0..=actual.len()).any(|skipped| rest(shown, &actual[skipped..])),
            ([line, shown @ ..], [other, actual @ ..]) => line_matches(line, other) && rest(shown, actual),
            _ => false,
        }
    }
    rest(&shown.lines().collect::<Vec<_>>(), &actual.lines().collect::<Vec<_>>())
}

fn line_matches(shown: &str, actual: &str) -> bool {
    let mut parts = shown.trim_end().split('…');
    let actual = actual.trim_end();
    let Some(mut left) = parts.next().and_then(|first| actual.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_shell_does() {
        let programs = split("sudo A=1 ebpf-run run 'a b' --set \"x=\\\"y\\\"\" 2>err | head -n 1 && wc >out # why");
        let expected: Programs =
            [vec!["ebpf-run", "run", "a b", "--set", "x=\"y\""], vec!["head", "-n", "1"], vec!["wc"]]
                .map(|program| program.into_iter().map(str::to_owned).collect())
                .into();
        assert_eq!(programs, Ok(expected));
        assert!(split("for x in $(ls)").is_err() && split("'a").is_err());
    }

    #[test]
    fn lines_are_sorted_by_what_they_take() {
        let kind = |text: &str| {
            let line = Line { text: text.into(), shown: None, place: String::new() };
            kind(&line, &split(text).expect("it is simple"))
        };
        assert_eq!(kind("ebpf-run check a.yaml | head"), Kind::Offline);
        assert_eq!(kind("ebpf-run --version"), Kind::Offline);
        assert_eq!(kind("sudo ebpf-run a.yaml"), Kind::Live);
        assert_eq!(kind("sudo target/release/ebpf-run doctor"), Kind::Live);
        assert_eq!(kind("ebpf-run emit systemd a.yaml --output /etc/systemd/system"), Kind::Foreign);
        assert_eq!(kind("systemctl daemon-reload"), Kind::Foreign);
        assert_eq!(kind("echo $?"), Kind::ExitCode);
    }

    #[test]
    fn an_ellipsis_stands_for_text_and_for_lines() {
        assert!(matches("a\n…\nd …f\n", "a\nb\nc\nd e f\n"));
        assert!(matches("…\n", ""));
        assert!(!matches("a\n", "a\nb\n"));
        assert!(!matches("a …c\n", "a b\n"));
        assert!(!matches("a…a\n", "a\n"));
    }
}
