//! Files for those who start captures: units of systemd, lines of cron. Pure: what is written depends on the plan and on
//! what the command line says, not on this machine.

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
    /// The name of the files, without their endings.
    pub unit: String,
    /// The path of `ebpf-run` there.
    pub binary: String,
    /// The path of the config there, or the name of one that is built in.
    pub config: String,
    /// What the config is for, if it says so.
    pub description: Option<String>,
    /// Arguments of `--filter`.
    pub filters: Vec<String>,
    /// Arguments of `--set`.
    pub sets: Vec<String>,
    /// Where the report goes.
    pub report: Option<String>,
    /// The variables of the environment that the config has asked for.
    pub environment: BTreeMap<String, String>,
    /// The user that a service is to run as.
    pub user: Option<String>,
    /// CPUs that there may be.
    pub cpus: u64,
    /// `kernel.perf_event_paranoid` is above 2 there.
    pub strict_perf_events: bool,
}

/// A file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    /// Where it belongs.
    pub folder: &'static str,
    /// Its name there.
    pub name: String,
    /// What is in it.
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
        // What begins with a dash is no option behind this
        command.extend(["--", &self.config]);
        command
    }

    /// Whether all of it can be written into a line of text, and be found by whoever is not at this place now.
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

/// When the plan says that it is to be started.
fn schedule(plan: &Plan) -> Result<&SchedulePlan> {
    plan.schedule.as_ref().ok_or_else(|| {
        let what = format!("{} has no `schedule`", plan.name);
        Error::new(Kind::Config, what)
            .hint("add one, such as `schedule: {every: 15min}`, or use `--set schedule.every=15min`")
    })
}

/// All files for standard output, each with its place above it.
pub fn shown(files: &[UnitFile]) -> String {
    let one = |UnitFile { folder, name, text }: &UnitFile| format!("# {folder}/{name}\n{text}");
    files.iter().map(one).collect::<Vec<_>>().join("\n")
}
