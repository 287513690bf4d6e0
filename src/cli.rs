//! The command line.

mod commands;
mod describe;
mod doctor;
mod emit;
mod init;
mod reports;
mod set;
mod shorthand;
mod test;
mod window;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use sha2::{Digest, Sha256};
use signal_hook::consts::signal::SIGXFSZ;

use crate::catalog::{self, Catalog};
use crate::config::diagnostic::{Text, TextKind};
use crate::config::shorthand::Output;
use crate::config::{Arguments, Overlay, Source};
use crate::console;
use crate::error::{Error, Kind, Result};
use crate::event::text::safe_json;
use crate::kernel::Host;
use crate::plan::{Overrides, Plan, PlanView, RenderContext, difference, json, plan};
use crate::report::Circumstances;
use crate::run::{self, Options, limits};
use reports::ReportArgs;
use shorthand::{FilterArgs, OutputArgs};
use window::WindowArgs;

/// Run eBPF captures that a YAML file describes
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<RunArgs>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  the capture is complete
  1  failed; the message says what failed and what to do
  2  the config or the command line is wrong; nothing was loaded
  3  more events were lost than max_loss allows; the other records were written
  4  a probe is not supported by this kernel; nothing was attached
  5  not permitted; the message names the missing privilege
  6  skipped: another run holds the lock
  7  the counts of kernel and userspace do not reconcile; data may be missing";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a capture (the default)
    Run(RunArgs),
    /// Show every value that a capture would set (loads nothing, requires no root)
    Plan(PlanArgs),
    /// Check config files and report all problems (requires no root)
    Check(commands::CheckArgs),
    /// Render the records of a fixture through a config's sinks and compare the output (requires no root)
    Test(test::TestArgs),
    /// Check whether each probe can run on this host (attaches nothing without --try)
    Doctor(doctor::DoctorArgs),
    /// Generate a systemd timer or a cron entry from the config's `schedule`
    Emit(emit::EmitArgs),
    /// Summarize the reports of many windows: events, losses, gaps between windows, changed verdicts
    Report(ReportArgs),
    /// Write a commented config of one program to start from
    Init(init::InitArgs),
    /// Print a JSON Schema, for editors and validators
    Schema(commands::SchemaArgs),
    /// List the programs and the ready-made configs
    List(commands::ListArgs),
    /// Describe a program: fields, filters, maps, hooks, kernels, cost; or the names for a config's templates
    Describe(describe::DescribeArgs),
    /// Print a shell's completions: `source <(ebpf-run completions bash)`
    Completions(commands::CompletionsArgs),
    /// Print the manual page, or write all manual pages to a directory
    Man(commands::ManArgs),
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// A config file, or the name of a built-in config or program such as `opensnoop`
    #[arg(add = ArgValueCompleter::new(commands::complete_config))]
    config: PathBuf,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Set a value of CONFIG, as if it were in the file: `probes.slow-io.filters.min_latency=5ms`
    #[arg(long, value_name = "PATH=VALUE", add = ArgValueCompleter::new(set::complete))]
    set: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Show only the values that differ from OTHER: `-` is OTHER, `+` is CONFIG
    #[arg(long, value_name = "OTHER", conflicts_with = "json", add = ArgValueCompleter::new(commands::complete_config))]
    diff: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// A config file, or the name of a built-in config or program such as `opensnoop`
    // clap does not add arguments to the group by itself where options are flattened
    #[arg(group = "RunArgs", add = ArgValueCompleter::new(commands::complete_config))]
    config: PathBuf,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Write records to standard output as JSON Lines, in place of the config's sinks. For a config with one probe
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Set a value of the config, as if it were in the file: `probes.slow-io.filters.min_latency=5ms`
    #[arg(long, value_name = "PATH=VALUE", add = ArgValueCompleter::new(set::complete))]
    set: Vec<String>,
    /// Write the report of the run to FILE as JSON; a template with `name`, `host`, `start` and `labels`
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print errors and warnings only
    #[arg(short, long)]
    quiet: bool,
    /// Print the messages of the kernel and of libbpf with an error
    #[arg(short, long)]
    verbose: bool,
}

impl PlanArgs {
    fn arguments(&self) -> Arguments {
        Arguments { output: self.output.output(), ..self.filter.with(&self.set) }
    }
}

impl RunArgs {
    fn arguments(&self) -> Arguments {
        let output = self.output.output().or_else(|| self.json.then_some(Output::Json));
        Arguments { output, ..self.filter.with(&self.set) }
    }
}

/// Parses the command line and runs the command; returns the exit code.
pub fn main() -> u8 {
    // A process of `doctor --try`, which generates a load and does nothing else
    if let Some(code) = crate::doctor::make_requested() {
        return code;
    }
    // With this empty handler, a write past the file size limit fails with EFBIG instead of killing the process
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    limits::raise_open_files();
    // A request of the shell's completion; the process ends after the answer
    if let Some(answered) = commands::complete_request() {
        return exit_code(answered.map(|()| 0), false, false);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(shown) => {
            let code = u8::try_from(shown.exit_code()).unwrap_or(Kind::Config.code());
            return exit_code(console::show_clap(&shown).map(|()| code), false, false);
        }
    };
    let (result, verbose, quiet) = match (cli.command, cli.run) {
        (Some(Command::Run(args)), _) | (None, Some(args)) => (capture(&args).map(|()| 0), args.verbose, args.quiet),
        (Some(command), _) => (without_kernel(command), false, false),
        (None, None) => unreachable!("clap asks for a config or a command"),
    };
    exit_code(result, verbose, quiet)
}

/// The exit code of `result`. Prints the error, if there is one.
fn exit_code(result: Result<u8>, verbose: bool, quiet: bool) -> u8 {
    match result {
        Ok(code) => code,
        // A cron job that finds its last run still active is not an error
        Err(error) if error.kind == Kind::Skipped => {
            if !quiet {
                console::say(&format!("ebpf-run: skipped: {}", error.message));
            }
            error.kind.code()
        }
        Err(error) => {
            show(&error, verbose);
            error.kind.code()
        }
    }
}

/// Runs the commands that load nothing; returns the exit code.
fn without_kernel(command: Command) -> Result<u8> {
    match command {
        Command::Run(args) => capture(&args).map(|()| 0),
        Command::Plan(args) => show_plan(&args).map(|()| 0),
        Command::Check(args) => commands::check(&args),
        Command::Test(args) => test::test(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Emit(args) => emit::emit(&args).map(|()| 0),
        Command::Report(args) => reports::add_up(&args).map(|()| 0),
        Command::Init(args) => init::init(&args).map(|()| 0),
        Command::Schema(args) => commands::schema(&args).map(|()| 0),
        Command::List(args) => commands::list(&args).map(|()| 0),
        Command::Describe(args) => describe::describe(&args).map(|()| 0),
        Command::Completions(args) => commands::completions(&args).map(|()| 0),
        Command::Man(args) => commands::man(&args).map(|()| 0),
    }
}

/// Makes the plan of a config on this machine. All commands use this function.
fn make_plan(source: &Source, window: &WindowArgs) -> Result<Plan> {
    let overrides = Overrides { window: window.window(), no_ring_buffer: !Host::has_ring_buffer() };
    plan(source, &Catalog::embedded(), &overrides)
}

fn show_plan(args: &PlanArgs) -> Result<()> {
    let source = find(&args.config, &args.arguments())?;
    let plan = make_plan(&source, &args.window)?;
    let host = Host::name();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let scene = RenderContext { source: &source, possible_cpus: Host::possible_cpus(), host: &host, now };
    let shown = match &args.diff {
        Some(other) => {
            let other = find(other, &Arguments::NONE)?;
            let before = json(&make_plan(&other, &args.window)?, &RenderContext { source: &other, ..scene });
            difference(&before, &json(&plan, &scene))
        }
        None if args.json => safe_json(&format!("{:#}\n", json(&plan, &scene))),
        None => PlanView { plan: &plan, context: scene }.to_string(),
    };
    console::print(&shown)
}

fn capture(args: &RunArgs) -> Result<()> {
    limits::check_open_files(None)?;
    let arguments = args.arguments();
    let source = find(&args.config, &arguments)?;
    let plan = make_plan(&source, &args.window)?;
    let options = Options { quiet: args.quiet };
    let Some(mut session) = run::begin(&plan, &options)? else {
        if !args.quiet {
            console::say("ebpf-run: interrupted before the window began");
        }
        return Ok(());
    };
    session.will_give_up_privileges();
    if let Some(path) = &args.report {
        session.will_report_to(path)?;
    }
    let report = run::window(&plan, &options, &session)?;
    let json = report.to_json(&circumstances(&source, &plan, &arguments));
    let json = serde_json::to_string_pretty(&json).expect("a report is JSON");
    let written = session.write_report(&(json + "\n"));
    let verdict = report.verdict();
    if !args.quiet || verdict.is_some() || written.is_err() {
        console::say(&format!("ebpf-run: {report}"));
    }
    match (verdict, written) {
        (Some(verdict), Err(error)) => {
            show(&error, false);
            Err(verdict)
        }
        (Some(verdict), Ok(())) => Err(verdict),
        (None, written) => written,
    }
}

fn circumstances(source: &Source, plan: &Plan, arguments: &Arguments) -> Circumstances {
    let hash = |text: &Text| Sha256::digest(text.content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let of = |kind| source.texts.iter().filter(move |text| text.kind == kind);
    Circumstances {
        config: source.path().to_owned(),
        config_sha256: hash(&source.texts[0]),
        included: of(TextKind::Included).map(|text| (text.name.clone(), hash(text))).collect(),
        arguments: arguments.clone(),
        name: plan.name.clone(),
        labels: plan.labels.clone(),
    }
}

/// A variable of the environment; `None` if it is not set or not UTF-8.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads a file; if there is no such file and the name can't be a path, the built-in config of that name.
fn find(path: &Path, arguments: &Arguments) -> Result<Source> {
    find_with(path, Overlay { arguments, environment: &environment })
}

/// The name of a built-in config that `path` can be, if it can't be a path.
fn built_in_name(path: &Path) -> Option<&str> {
    path.to_str().filter(|name| !name.contains(['/', '.'])).filter(|_| !path.exists() || path.is_dir())
}

fn find_with(path: &Path, outside: Overlay<'_>) -> Result<Source> {
    let Some(name) = built_in_name(path) else {
        return Ok(Source::read_with(path, outside)?);
    };
    let (text, yaml) = built_in(name, &Catalog::embedded())?;
    Ok(Source::parse_with(text, name.to_owned(), yaml.to_owned(), outside)?)
}

/// The built-in config `name`: the name of its text in messages, and the text.
fn built_in(name: &str, catalog: &Catalog) -> Result<(String, &'static str)> {
    match catalog::configs().iter().find(|(known, _)| *known == name) {
        Some((_, yaml)) => Ok((format!("<built-in>/{name}.yaml"), yaml)),
        None => {
            let known = commands::suggest_name(name, catalog);
            let what = format!("there is no file `{name}` and no built-in config of that name{known}");
            Err(Error::new(Kind::Config, what))
        }
    }
}

fn show(error: &Error, verbose: bool) {
    let mut text = match error.kind {
        // A position begins a line, so that editors and terminals can jump to it
        Kind::Config if error.message.contains('\n') => {
            format!("{}\nebpf-run: error: the config is wrong; nothing was loaded", error.message)
        }
        _ => format!("ebpf-run: error: {}", error.message),
    };
    // Whatever could not be opened, the cause is the limit
    let no_descriptor = error.message.contains(&std::io::Error::from(rustix::io::Errno::MFILE).to_string());
    if let Some(hint) = error.hint.as_deref().or(no_descriptor.then_some(limits::MORE_DESCRIPTORS)) {
        text += &format!("\n  hint: {hint}");
    }
    match &error.detail {
        Some(detail) if verbose => text += &format!("\n{}", detail.trim_end()),
        _ => {}
    }
    console::say(&text);
}
