//! `docs/reference/command-line.md`.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::{code, compare, in_cell, table};
use crate::cli::Cli;

/// The name of an option, or of a positional argument, with its value.
fn name(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default();
    let value: Vec<String> =
        if arg.get_action().takes_values() { values.iter().map(ToString::to_string).collect() } else { Vec::new() };
    let value = value.join(" ");
    if arg.is_positional() {
        let many = if arg.get_num_args().is_some_and(|number| number.max_values() > 1) { "…" } else { "" };
        return code(&format!("{value}{many}"));
    }
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    code(format!("{} {value}", names.join(", ")).trim())
}

/// What it does, and the values that it takes.
fn meaning(arg: &Arg) -> String {
    let mut out = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if arg.get_action().takes_values() {
        let possible = arg.get_possible_values();
        let shown: Vec<String> = possible.iter().filter(|v| !v.is_hide_set()).map(|v| code(v.get_name())).collect();
        if !shown.is_empty() {
            write!(out, ". Values: {}", shown.join(" ")).expect("a String takes all");
        }
        let defaults: Vec<String> =
            arg.get_default_values().iter().map(|value| code(&value.to_string_lossy())).collect();
        if !defaults.is_empty() {
            write!(out, ". Default: {}", defaults.join(" ")).expect("a String takes all");
        }
    }
    out
}

fn section(command: &Command) -> String {
    let mut out = String::new();
    writeln!(out, "## `ebpf-run {}`\n", command.get_name()).expect("a String takes all");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(out, "{}.\n", in_cell(&about)).expect("a String takes all");
    let args = || command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "help");
    let row = |arg: &Arg| [name(arg), meaning(arg)];
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) = args().partition(|arg| arg.is_positional());
    for (head, args) in [("argument", positional), ("option", options)] {
        let table = table([head, "meaning"], args.into_iter().map(row));
        if !table.is_empty() {
            writeln!(out, "{table}").expect("a String takes all");
        }
    }
    out
}

#[test]
fn the_page_of_the_command_line_has_every_option() {
    compare("reference/command-line.md", |_| {
        let mut command = Cli::command();
        command.build();
        let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
        command.get_subcommands().filter(shown).map(section).collect()
    });
}
