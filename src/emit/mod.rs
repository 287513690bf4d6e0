//! Files that start captures: systemd units, crontab lines. Pure: the text depends on the plan and the command line,
//! not on this machine.

mod cron;
mod folders;
mod memory;
mod quote;
mod systemd;

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};
use crate::output::template::check_global;
use crate::plan::{Plan, SchedulePlan};

pub use cron::cron;
pub use systemd::systemd;

/// How the capture will be started.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// The name of the files, without their extensions.
    pub unit: String,
    /// The path of `ebpf-run` on the host.
    pub binary: String,
    /// The path of the config on the host, or the name of a built-in one.
    pub config: String,
    /// The description in the config, if it has one.
    pub description: Option<String>,
    /// Arguments of `--filter`.
    pub filters: Vec<String>,
    /// Arguments of `--set`.
    pub sets: Vec<String>,
    /// The path of the report.
    pub report: Option<String>,
    /// The environment variables that the config uses.
    pub environment: BTreeMap<String, String>,
    /// The user of the service.
    pub user: Option<String>,
    /// Number of possible CPUs.
    pub cpus: u64,
    /// `kernel.perf_event_paranoid` is above 2 on the host.
    pub strict_perf_events: bool,
}

/// A generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    /// Its directory on the host.
    pub folder: &'static str,
    /// Its name.
    pub name: String,
    /// Its content.
    pub text: String,
}

impl StartOptions {
    /// The command with its arguments.
    fn command(&self) -> Vec<&str> {
        let mut command = vec![self.binary.as_str(), "run", "--quiet"];
        for filter in &self.filters {
            command.extend(["--filter", filter]);
        }
        for set in &self.sets {
            command.extend(["--set", set]);
        }
        if let Some(report) = &self.report {
            command.extend(["--report", report]);
        }
        // After this, an argument that begins with a dash is not an option
        command.extend(["--", &self.config]);
        command
    }

    /// Checks that all values can be written into a line of text, and that all paths are valid from any directory.
    fn check(&self) -> Result<()> {
        let texts = [("the path of ebpf-run", &self.binary), ("the path of the config", &self.config)];
        let filters = self.filters.iter().map(|filter| ("an argument of --filter", filter));
        let sets = self.sets.iter().map(|set| ("an argument of --set", set));
        let environment = self.environment.values().map(|value| ("a variable of the environment", value));
        let report = self.report.iter().map(|report| ("the path of the report", report));
        for (what, text) in texts.into_iter().chain(filters).chain(sets).chain(environment).chain(report) {
            if text.chars().any(char::is_control) {
                let what =
                    format!("{what} contains a line break or another control character: `{}`", quote::shown(text));
                return Err(
                    Error::new(Kind::Config, what).hint("remove it: a line of a unit or a crontab can't contain it")
                );
            }
        }
        if let Some(problem) = self.report.iter().flat_map(|report| check_global(report)).next() {
            let what = format!("the path of the report: {}", problem.message);
            return Err(Error::new(Kind::Config, what).hint("it can use `name`, `host`, `start` and `labels`"));
        }
        for (what, path, option) in
            [("ebpf-run", &self.binary, "--binary PATH"), ("the config", &self.config, "--as PATH")]
        {
            if let Some(why) = folders::hidden(path) {
                let what = format!("{what} is at {path}, {why}");
                let hint = format!("install it in another directory, and set its path with {option}");
                return Err(Error::new(Kind::Config, what).hint(hint));
            }
        }
        Ok(())
    }
}

/// The schedule of the plan.
fn schedule(plan: &Plan) -> Result<&SchedulePlan> {
    plan.schedule.as_ref().ok_or_else(|| {
        let what = format!("{} has no `schedule`", plan.name);
        Error::new(Kind::Config, what)
            .hint("add one, such as `schedule: {every: 15min}`, or use `--set schedule.every=15min`")
    })
}

/// All files as one text for standard output, each with its path above it.
pub fn shown(files: &[UnitFile]) -> String {
    let one = |UnitFile { folder, name, text }: &UnitFile| format!("# {folder}/{name}\n{text}");
    files.iter().map(one).collect::<Vec<_>>().join("\n")
}
