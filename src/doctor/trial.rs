//! Trials: each program runs with a generated load, and the events that arrive are compared with the load.

use std::path::Path;

use super::load::{LoadEffect, ReadyLoad, effect};
use super::{Status, checked_plan};
use crate::catalog::{Catalog, Load, Program};
use crate::error::{Error, Kind, Result};
use crate::kernel::Host;
use crate::report::{Account, End};
use crate::run::{self, Options, StopSignal};

/// The trial of one program.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The program.
    pub program: String,
    /// The result: [`Status::NotKnown`] if the program could not be tried.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do.
    pub hint: Option<String>,
    /// The load; `None` if there is none for the program.
    pub load: Option<Load>,
    /// Number of events that the load causes.
    pub expected: Option<u64>,
    /// Number of events that arrived; `None` if the program was not tried.
    pub arrived: Option<u64>,
}

/// Tries `programs`, one after the other; `own_program` is the file of this program.
///
/// # Errors
/// If a signal interrupts it, or an embedded program is broken.
pub(super) fn try_all(programs: &[String], host: &Host, catalog: &Catalog, own_program: &Path) -> Result<Vec<Trial>> {
    let stop = StopSignal::install()?;
    let unable = match host.check() {
        Err(error) => Some(error.message),
        Ok(()) if !host.initial_pid_namespace => {
            Some("this process runs in a pid namespace, and filters use the host's pids".into())
        }
        Ok(()) => None,
    };
    let mut trials = Vec::new();
    for name in programs {
        let program = catalog.program(name).ok_or_else(|| Error::failed(format!("there is no program {name}")))??;
        let mut trial = Trial {
            program: name.clone(),
            status: Status::NotKnown,
            found: String::new(),
            hint: None,
            load: program.load,
            expected: program.load.map(|load| effect(load).events.into()),
            arrived: None,
        };
        let not_tried = |why: &str| format!("not tried: {why}");
        match (program.load, &unable) {
            (None, _) => trial.found = not_tried("no harmless load"),
            (Some(_), Some(why)) => trial.found = not_tried(why),
            (Some(load), None) => match ReadyLoad::start(load, own_program) {
                Err(why) => trial.found = not_tried(&why),
                Ok(mut ready) => trial.run(&program, effect(load), &mut ready, catalog)?,
            },
        }
        if stop.by_signal() {
            return Err(Error::failed("interrupted; not every program was tried"));
        }
        trials.push(trial);
    }
    Ok(trials)
}

impl Trial {
    /// Runs the program with the load, and evaluates the result.
    fn run(&mut self, program: &Program, effect: LoadEffect, ready: &mut ReadyLoad, catalog: &Catalog) -> Result<()> {
        let alone = program.filter("pid").is_some();
        let yaml = config(program, ready);
        let plan = checked_plan(&yaml, catalog)?;
        let mut load = Ok(());
        // A separate thread, because the run can raise its priority: the next load has the usual one
        let ran = std::thread::scope(|scope| {
            let run = || {
                let options = Options { quiet: true };
                let begun = run::begin(&plan, &options)?.ok_or_else(|| Error::failed("interrupted"))?;
                run::window_around(&plan, &options, &begun, || load = ready.run())
            };
            scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let report = match ran {
            Ok(report) => report,
            Err(error) => {
                let known = matches!(error.kind, Kind::Unsupported | Kind::Broken | Kind::NotPermitted);
                self.status = if known { Status::NotKnown } else { Status::Problem };
                self.found = if known { format!("not tried: {}", error.message) } else { error.message };
                self.hint = error.hint;
                return Ok(());
            }
        };
        if let Err(why) = load {
            self.found = format!("not tried: the load failed: {why}");
            return Ok(());
        }
        let failure = report.verdict().filter(|error| error.kind != Kind::Loss);
        match (report.accounts.first(), failure) {
            _ if report.end == End::Interrupted => {}
            (_, Some(error)) => (self.status, self.found, self.hint) = (Status::Problem, error.message, error.hint),
            (None, None) => (self.status, self.found) = (Status::Problem, "the run has no counts for it".into()),
            (Some(account), None) => self.judge(account, effect, alone),
        }
        Ok(())
    }

    /// Compares the events that arrived with those of the load. Without `alone`, events of other processes are among
    /// them.
    fn judge(&mut self, account: &Account, effect: LoadEffect, alone: bool) {
        let LoadEffect { noun, exact, .. } = effect;
        let expected = u64::from(effect.events);
        // End to end: up to a sink, or up to the rows of an aggregate
        let arrived = account.counted.unwrap_or(account.written);
        self.arrived = Some(arrived);
        self.found = match exact && alone {
            true => format!("{arrived} of {expected} {noun} arrived"),
            false => format!("{arrived} {noun} arrived, at least {expected} expected"),
        };
        if !alone {
            self.found += " (those of other processes count too)";
        }
        if arrived == expected || arrived > expected && !(exact && alone) {
            self.status = Status::Ok;
        } else if effect.hidden_at_times && arrived < expected && arrived >= expected / 2 {
            self.status = Status::Warning;
            self.found += "; some hosts hide some of these events from all tracing programs";
            self.hint = Some(
                "captures on this machine may lack a share of these events: see docs/explanation/limits.md".into(),
            );
        } else {
            self.status = Status::Problem;
            self.found +=
                &format!("; the program counted {}, of which {} were lost", account.kernel.seen, account.lost());
            let hint = "do not rely on captures of this program on this machine; report it with the output of \
                        `ebpf-run doctor --try --json`";
            self.hint = Some(hint.into());
        }
    }
}

/// A capture of the load's processes with the defaults of the program.
fn config(program: &Program, ready: &ReadyLoad) -> String {
    let pids: Vec<String> = ready.pids().map(|pid| pid.to_string()).collect();
    let filters = match &ready.disk {
        _ if program.filter("pid").is_some() => format!("{{pid: [{}]}}", pids.join(", ")),
        Some(disk) if program.filter("device").is_some() => format!("{{device: \"{disk}\"}}"),
        _ => "{}".into(),
    };
    let name = program.name;
    format!(
        "version: 1\nwindow: {{duration: 10ms}}\nprobes: [{{program: {name}, filters: {filters}}}]\n\
         sinks: {{out: {{type: jsonl, path: /dev/null}}}}\n"
    )
}
