//! The commands that load nothing: check, schema, list, completions, man.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::Shells;

use super::Cli;
use super::shorthand::{FilterArgs, OutputArgs};
use crate::catalog::{Catalog, configs, configs_of, description};
use crate::check::{self, Format};
use crate::config::diagnostic::{nearest, suggest};
use crate::config::structure::schema_text;
use crate::config::{Arguments, Overlay};
use crate::console;
use crate::describe;
use crate::error::{Error, Kind, Result};
use crate::files::small_file;

/// Every user may read a manual page.
const MODE: u32 = 0o644;

/// The environment variable that a shell's completion sets.
pub(super) const COMPLETE: &str = "EBPF_RUN_COMPLETE";

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Config files, names of built-in configs, and directories, in which all *.yaml and *.yml are checked
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Set a value of each config, as if it were in the file: `window.duration=10s`
    #[arg(long, value_name = "PATH=VALUE", add = ArgValueCompleter::new(super::set::complete))]
    set: Vec<String>,
    /// Format of the problems
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// bash, zsh, fish, elvish or powershell
    shell: String,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for each command to this directory; default: the main page to standard output
    folder: Option<PathBuf>,
}

/// Prints problems to standard output and the summary to standard error; returns the exit code.
pub(super) fn check(args: &CheckArgs) -> Result<u8> {
    let files = check::files(&args.paths)?;
    let catalog = Catalog::embedded();
    let arguments = Arguments { output: args.output.output(), ..args.filter.with(&args.set) };
    let outside = Overlay { arguments: &arguments, environment: &super::environment };
    let (mut problems, mut faulty, mut told) = (0, 0, HashSet::new());
    for path in &files {
        let found = match super::built_in_name(path) {
            Some(name) => {
                let (text, yaml) = super::built_in(name, &catalog)?;
                check::check_text(&text, yaml, &catalog, outside)?
            }
            None => check::check(path, &catalog, outside)?,
        };
        if let Some(mut file) = found {
            faulty += 1;
            file.leave_out(&mut told);
            if files.len() > 1 {
                file.name_arguments();
            }
            print(&file.written(args.format))?;
            problems += file.problems.len();
        }
    }
    console::say(&format!("ebpf-run: {}", check::summary(problems, faulty, files.len())));
    Ok(if problems == 0 { 0 } else { Kind::Config.code() })
}

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// What the schema describes
    #[arg(value_enum, default_value_t)]
    of: SchemaSubject,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum SchemaSubject {
    /// A config
    #[default]
    Config,
    /// The JSON that `--report` writes
    Report,
}

pub(super) fn schema(args: &SchemaArgs) -> Result<()> {
    print(match args.of {
        SchemaSubject::Config => schema_text(),
        SchemaSubject::Report => crate::report::format::SCHEMA,
    })
}

pub(super) fn list(args: &ListArgs) -> Result<()> {
    let catalog = Catalog::embedded();
    let mut programs = Vec::new();
    for name in catalog.names() {
        programs.extend(catalog.program(name).transpose()?);
    }
    if args.json {
        let all: Vec<_> = programs.iter().map(|program| describe::json(program)).collect();
        return print(&(serde_json::to_string_pretty(&all).expect("it is JSON") + "\n"));
    }
    let mut out = String::from("Programs (ebpf-run describe PROGRAM)\n");
    for program in programs {
        writeln!(out, "  {:<16} {}", program.name, program.doc()).expect("a String takes all");
    }
    out += "\nReady-made configs (ebpf-run NAME)\n";
    for (name, yaml) in configs() {
        writeln!(out, "  {name:<16} {}", description(yaml)).expect("a String takes all");
    }
    print(&out)
}

/// Programs and configs with a name similar to `name`, and the list of both. Of a program with several configs, all of
/// them.
pub(super) fn suggest_name(name: &str, catalog: &Catalog) -> String {
    let known: BTreeSet<&str> = catalog.names().chain(configs().iter().map(|(name, _)| *name)).collect();
    let meant = nearest(name, known.iter().copied());
    let configs: Vec<_> = meant.map(configs_of).unwrap_or_default().into_iter().map(|(name, _)| name).collect();
    let of = match (meant, configs.as_slice()) {
        (Some(program), [_, _, ..]) => format!("; configs of program `{program}`: {}", configs.join(", ")),
        _ => String::new(),
    };
    suggest(name, known) + &of
}

/// The script that a shell loads; it calls this binary for the completions at the cursor.
pub(super) fn completions(args: &CompletionsArgs) -> Result<()> {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&args.shell) else {
        let known = suggest(&args.shell, shells.names());
        return Err(Error::new(Kind::Config, format!("there are no completions for `{}`{known}", args.shell)));
    };
    let mut script = Vec::new();
    shell
        .write_registration(COMPLETE, "ebpf-run", "ebpf-run", "ebpf-run", &mut script)
        .map_err(|error| Error::failed(format!("the completions can't be generated: {error}")))?;
    print(&String::from_utf8_lossy(&script))
}

/// Answers a completion request of a shell; `None` if this is no such request. clap's own function discards the answer
/// if standard output does not accept it at once.
pub(super) fn complete_request() -> Option<Result<()>> {
    let name = std::env::var_os(COMPLETE).filter(|name| !name.is_empty() && name != "0")?;
    Some(answer(Path::new(&name)))
}

fn answer(shell: &Path) -> Result<()> {
    let shells = Shells::builtins();
    // It can be the path of the shell
    let name = shell.file_stem().unwrap_or(shell.as_os_str()).to_string_lossy();
    let Some(shell) = shells.completer(&name) else {
        let known = suggest(&name, shells.names());
        return Err(Error::new(Kind::Config, format!("there are no completions for `{name}`{known}")));
    };
    let failed = |error: std::io::Error| Error::failed(format!("the completions can't be generated: {error}"));
    let args: Vec<_> = std::env::args_os().skip_while(|arg| arg != "--").skip(1).collect();
    let mut out = Vec::new();
    if args.is_empty() {
        shell.write_registration(COMPLETE, "ebpf-run", "ebpf-run", "ebpf-run", &mut out).map_err(failed)?;
    } else {
        let mut command = Cli::command();
        command.build();
        let folder = std::env::current_dir().ok();
        shell.write_complete(&mut command, args, folder.as_deref(), &mut out).map_err(failed)?;
    }
    console::print_bytes(&out)
}

pub(super) fn man(args: &ManArgs) -> Result<()> {
    match &args.folder {
        Some(folder) => {
            let mut command = Cli::command().disable_help_subcommand(true);
            command.build();
            write_pages(&command, folder)
        }
        None => console::print_bytes(&page(&clap_mangen::Man::new(Cli::command()))?),
    }
}

/// The man page of `command` and those of its subcommands.
fn write_pages(command: &clap::Command, folder: &Path) -> Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, folder)?;
    }
    let man = clap_mangen::Man::new(command.clone());
    let path = folder.join(man.get_filename());
    let written = small_file::write_whole(&path, &page(&man)?, MODE);
    written.map_err(|error| Error::failed(format!("{} can't be written: {error}", path.display())))
}

fn page(man: &clap_mangen::Man) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render(&mut page).map_err(|error| Error::failed(format!("a man page can't be generated: {error}")))?;
    Ok(page)
}

/// Completes a config: a built-in one, or a file.
pub(super) fn complete_config(current: &OsStr) -> Vec<CompletionCandidate> {
    let is_yaml = |path: &Path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let mut found = PathCompleter::file().filter(is_yaml).complete(current);
    let names = configs().iter().map(|(name, _)| *name);
    found.extend(starting(current, names.map(|name| (name.to_owned(), "built-in config".to_owned()))));
    found
}

pub(super) fn starting(current: &OsStr, all: impl Iterator<Item = (String, String)>) -> Vec<CompletionCandidate> {
    let start = current.to_string_lossy();
    let fitting = all.filter(|(name, _)| name.starts_with(start.as_ref()));
    fitting.map(|(name, doc)| CompletionCandidate::new(name).help(Some(doc.into()))).collect()
}

pub(super) fn print(text: &str) -> Result<()> {
    console::print(text)
}
