//! `ebpf-run emit`: files for systemd and cron.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::commands::{complete_config, print};
use crate::catalog::Catalog;
use crate::config::{Overlay, shown};
use crate::console;
use crate::emit::{self, StartOptions, UnitFile};
use crate::error::{Error, Kind, Result};
use crate::files::small_file;
use crate::kernel::Host;
use crate::plan::{Overrides, Plan, plan};

/// Every user may read how a capture is started.
const MODE: u32 = 0o644;

#[derive(Debug, Args)]
pub(super) struct EmitArgs {
    #[command(subcommand)]
    what: EmitTarget,
}

#[derive(Debug, Subcommand)]
enum EmitTarget {
    /// A service with the privileges that the capture needs and no others, and its timer
    Systemd(SystemdArgs),
    /// A file for /etc/cron.d
    Cron(CommonEmitArgs),
}

#[derive(Debug, Args)]
struct SystemdArgs {
    #[command(flatten)]
    common: CommonEmitArgs,
    /// Run as this user; default: a user that systemd creates, or root where the directories of the files require it
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// For a host where kernel.perf_event_paranoid is above 2: perf events require CAP_SYS_ADMIN there
    #[arg(long)]
    strict_perf_events: bool,
    /// Number of CPUs of the host; default: that of this host
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=65536))]
    cpus: Option<u64>,
}

#[derive(Debug, Args)]
struct CommonEmitArgs {
    /// A config file with a `schedule`, or the name of a built-in config
    #[arg(add = ArgValueCompleter::new(complete_config))]
    config: PathBuf,
    #[command(flatten)]
    filter: super::shorthand::FilterArgs,
    /// Set a value of CONFIG, now and in each run: `schedule.every=15min`
    #[arg(long, value_name = "PATH=VALUE", add = ArgValueCompleter::new(super::set::complete))]
    set: Vec<String>,
    /// Path of the config on the host; default: its path now
    #[arg(long = "as", value_name = "PATH")]
    installed: Option<PathBuf>,
    /// Path of ebpf-run on the host; default: the path of this program
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Write the report of each run to FILE; a template with `name`, `host`, `start` and `labels`
    #[arg(long, value_name = "FILE")]
    report: Option<String>,
    /// Name of the files without their endings; default: `ebpf-run-` and the capture's name
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
    /// Write the files to this directory; default: standard output
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn emit(args: &EmitArgs) -> Result<()> {
    let (common, files) = match &args.what {
        EmitTarget::Systemd(args) => {
            let (plan, mut start) = args.common.start()?;
            start.user.clone_from(&args.user);
            start.strict_perf_events = args.strict_perf_events;
            start.cpus = args.cpus.unwrap_or(start.cpus);
            (&args.common, emit::systemd(&plan, &start)?)
        }
        EmitTarget::Cron(common) => {
            let (plan, start) = common.start()?;
            (common, emit::cron(&plan, &start)?)
        }
    };
    let Some(folder) = &common.output else { return print(&emit::shown(&files)) };
    for UnitFile { name, text, .. } in &files {
        let path = folder.join(name);
        let failed = |error| Error::failed(format!("{} can't be written: {error}", path.display()));
        small_file::write_whole(&path, text.as_bytes(), MODE).map_err(failed)?;
        console::say(&format!("ebpf-run: wrote {}", path.display()));
    }
    Ok(())
}

impl CommonEmitArgs {
    fn start(&self) -> Result<(Plan, StartOptions)> {
        let asked = RefCell::new(BTreeMap::new());
        let environment = |name: &str| {
            let value = super::environment(name)?;
            asked.borrow_mut().insert(name.to_owned(), value.clone());
            Some(value)
        };
        let arguments = self.filter.with(&self.set);
        let source = super::find_with(&self.config, Overlay { arguments: &arguments, environment: &environment })?;
        let plan = plan(&source, &Catalog::embedded(), &Overrides::default())?;
        let config = match (&self.installed, super::built_in_name(&self.config)) {
            (Some(path), _) => whole(path)?,
            (None, Some(name)) => name.to_owned(),
            (None, None) => whole(&self.config)?,
        };
        let binary = match &self.binary {
            Some(path) => whole(path)?,
            None => whole(&std::env::current_exe().map_err(|error| {
                Error::failed(format!("the path of this program can't be determined: {error}"))
                    .hint("set it with --binary PATH")
            })?)?,
        };
        let start = StartOptions {
            unit: self.unit.clone().unwrap_or_else(|| format!("ebpf-run-{}", plan.name)),
            binary,
            config,
            description: source.config.description.clone(),
            filters: arguments.filters,
            sets: arguments.sets,
            report: self.report.clone(),
            environment: asked.take(),
            user: None,
            cpus: Host::possible_cpus(),
            strict_perf_events: false,
        };
        Ok((plan, start))
    }
}

/// An absolute path, as text.
fn whole(path: &Path) -> Result<String> {
    let failed = |why: &str| Error::new(Kind::Config, format!("the path {} {why}", shown(path)));
    let whole = std::path::absolute(path).map_err(|error| failed(&format!("can't be made absolute: {error}")))?;
    whole.into_os_string().into_string().map_err(|_| failed("is not UTF-8, which units and crontabs require"))
}
