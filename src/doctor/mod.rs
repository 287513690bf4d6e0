//! Checks what this machine and this process support, and what a run would do with each probe here. Attaches nothing;
//! [`Diagnosis::try_programs`] does, on request.

mod checks;
mod json;
mod load;
mod show;
mod trial;

use std::path::Path;

use crate::catalog::Catalog;
use crate::config::Source;
use crate::error::{Error, Kind, Result};
use crate::kernel::{self, Host, HostCapabilities, KernelInfo, Preflight, Verdict};
use crate::plan::{Overrides, Plan, ProbePlan, plan};
use crate::run;

pub use load::make_requested;
pub use show::DiagnosisView;
pub use trial::Trial;

/// The status of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// As required, or not relevant.
    Ok,
    /// Something is missing, or can differ from what is expected.
    Warning,
    /// A capture fails because of it.
    Problem,
    /// This process can't determine it.
    NotKnown,
}

impl Status {
    /// The name of the status.
    pub fn key(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Problem => "problem",
            Status::NotKnown => "unknown",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// The result.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do.
    pub hint: Option<String>,
    /// Whether it is about permissions: of this process or by a mode of the kernel; not about missing features.
    pub rights: bool,
}

/// A probe that was checked.
#[derive(Debug, Clone)]
pub struct ProbeDiagnosis {
    /// The config of the probe; `None` for a program with its defaults.
    pub config: Option<String>,
    /// The plan of the probe.
    pub plan: ProbePlan,
    /// What a run would do with it.
    pub preflight: Preflight,
}

impl ProbeDiagnosis {
    /// The status of the probe. A probe that may be skipped does not fail a capture.
    pub fn mark(&self) -> Status {
        match self.preflight.verdict {
            // The records are the same either way
            Some(Verdict::Ok | Verdict::Fallback) => Status::Ok,
            _ if self.config.is_none() || self.is_skipped() => Status::Warning,
            _ => Status::Problem,
        }
    }

    /// Whether a run continues without it.
    fn is_skipped(&self) -> bool {
        let unable = matches!(self.preflight.verdict, Some(Verdict::Unsupported | Verdict::Broken));
        self.plan.skip_unsupported && unable
    }
}

/// The results of all checks.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// This machine and this process.
    pub host: Host,
    /// The kernel's settings.
    pub capabilities: HostCapabilities,
    /// In the order of the output.
    pub checks: Vec<Check>,
    /// The probes of the configs, or every program.
    pub probes: Vec<ProbeDiagnosis>,
    /// The trials of programs; `None` if they were not requested.
    pub trials: Option<Vec<Trial>>,
}

/// Checks this machine for `plans`, each with the name of its config; without any, for every program.
///
/// # Errors
/// If an embedded program is broken.
pub fn examine(plans: &[(String, Plan)], catalog: &Catalog) -> Result<Diagnosis> {
    let (host, kernel) = (Host::read(), KernelInfo::default());
    let capabilities = HostCapabilities::read(&host, &kernel);
    // Without the capabilities every load is refused, which is no result about the kernel
    let load = host.check().is_ok();
    let mut names = Vec::new();
    let mut probes = Vec::new();
    for (config, plan) in plans {
        names.extend(checks::names(config, plan));
        // A name that can't be resolved is reported, and does not affect whether the probe can be loaded
        let plan = run::resolved(plan).unwrap_or_else(|_| plan.clone());
        probes.extend(plan.probes.into_iter().map(|plan| (Some(config.clone()), plan)));
    }
    if plans.is_empty() {
        for program in catalog.names() {
            probes.push((None, by_defaults(program, catalog)?));
        }
    }
    let look = |(config, plan): (Option<String>, ProbePlan)| {
        let preflight = kernel::preflight(&plan, &host, &kernel, load);
        ProbeDiagnosis { config, plan, preflight }
    };
    let probes: Vec<ProbeDiagnosis> = probes.into_iter().map(look).collect();
    let mut checks = checks::all(&host, &capabilities, &probes);
    checks.extend(names);
    Ok(Diagnosis { host, capabilities, checks, probes, trials: None })
}

/// A probe with nothing but its program.
fn by_defaults(program: &str, catalog: &Catalog) -> Result<ProbePlan> {
    let yaml = format!("version: 1\nprobes: [{{program: {program}}}]\nsinks: {{out: {{type: jsonl}}}}\n");
    let mut probes = checked_plan(&yaml, catalog)?.probes;
    probes.pop().ok_or_else(|| Error::failed(format!("program {program} makes no plan")))
}

/// The plan of a config that this module wrote.
fn checked_plan(yaml: &str, catalog: &Catalog) -> Result<Plan> {
    let source = Source::parse("defaults".into(), "defaults".into(), yaml.to_owned())?;
    let overrides = Overrides { no_ring_buffer: !Host::has_ring_buffer(), ..Overrides::default() };
    plan(&source, catalog, &overrides)
}

impl Diagnosis {
    /// Runs each program of the probes with its defaults and a generated load; `own_program` is the file of this
    /// program.
    ///
    /// # Errors
    /// If a signal interrupts it, or an embedded program is broken.
    pub fn try_programs(&mut self, catalog: &Catalog, own_program: &Path) -> Result<()> {
        let mut programs: Vec<String> = Vec::new();
        for probe in &self.probes {
            let name = probe.plan.program.name;
            if !programs.iter().any(|known| known == name) {
                programs.push(name.to_owned());
            }
        }
        self.trials = Some(trial::try_all(&programs, &self.host, catalog, own_program)?);
        Ok(())
    }

    /// The exit code that a run of the configs would have before its window begins: missing kernel features take
    /// precedence over missing permissions, and those over failed trials.
    pub fn exit_code(&self) -> u8 {
        let problems = || self.checks.iter().filter(|check| check.status == Status::Problem);
        let failing = || self.probes.iter().filter(|probe| probe.mark() == Status::Problem);
        let is_right =
            |probe: &ProbeDiagnosis| probe.preflight.error.as_ref().map(|error| error.kind) == Some(Kind::NotPermitted);
        let none_left = self.configs().any(|config| {
            let mut of = self.probes.iter().filter(|probe| probe.config.as_deref() == Some(config));
            of.all(ProbeDiagnosis::is_skipped)
        });
        if problems().any(|check| !check.rights) || failing().any(|probe| !is_right(probe)) || none_left {
            Kind::Unsupported.code()
        } else if problems().next().is_some() || failing().next().is_some() {
            Kind::NotPermitted.code()
        } else if self.trials.iter().flatten().any(|trial| trial.status == Status::Problem) {
            Kind::Failed.code()
        } else {
            0
        }
    }

    /// The configs, without duplicates.
    fn configs(&self) -> impl Iterator<Item = &str> {
        let mut last = None;
        self.probes.iter().filter_map(move |probe| {
            let config = probe.config.as_deref();
            (config != last).then(|| last = config)?;
            config
        })
    }
}
