//! The diagnosis as a table.

use std::fmt;

use super::{Diagnosis, ProbeDiagnosis, Status};
use crate::kernel::{HookState, Verdict};

/// Width of the column of marks.
const MARK: usize = 13;
/// Width of the column of names.
const NAME: usize = 22;

/// A diagnosis as text.
#[derive(Debug)]
pub struct DiagnosisView<'a> {
    /// The results.
    pub diagnosis: &'a Diagnosis,
    /// With every hook of every probe.
    pub hooks: bool,
}

impl fmt::Display for DiagnosisView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnosis { host, checks, probes, trials, .. } = self.diagnosis;
        writeln!(f, "This machine and this process")?;
        for (i, check) in checks.iter().enumerate() {
            line(f, check.status.key(), &check.name, &check.found)?;
            // A hint for several checks is printed once
            let again = checks.get(i + 1).is_some_and(|next| next.hint == check.hint);
            hint(f, check.hint.as_deref().filter(|_| check.status != Status::Ok && !again))?;
        }
        let mut config = None;
        for (i, probe) in probes.iter().enumerate() {
            if i == 0 || config != probe.config.as_deref() {
                config = probe.config.as_deref();
                let what =
                    config.map_or("Every program with its defaults".to_owned(), |config| format!("Probes of {config}"));
                let how = match probe.preflight.loaded {
                    true => "loaded into this kernel, not attached",
                    false => {
                        "compared with the kernel's types and symbols; whether the kernel loads them is not known without root"
                    }
                };
                writeln!(f, "\n{what} ({how})")?;
            }
            self.probe(f, probe)?;
        }
        if let Some(trials) = trials {
            writeln!(f, "\nPrograms tried (each with its defaults and a generated load)")?;
            for trial in trials {
                line(f, trial.status.key(), &trial.program, &trial.found)?;
                hint(f, trial.hint.as_deref())?;
            }
        }
        let problems = checks.iter().filter(|check| check.status == Status::Problem).count()
            + probes.iter().filter(|probe| probe.mark() == Status::Problem).count()
            + trials.iter().flatten().filter(|trial| trial.status == Status::Problem).count();
        let what = match (problems, config) {
            (0, Some(_)) => "Everything required is available.".to_owned(),
            (0, None) => "Nothing prevents a capture.".to_owned(),
            (1, _) => "1 problem.".to_owned(),
            (count, _) => format!("{count} problems."),
        };
        writeln!(
            f,
            "\n{what} docs/reference/kernels.md lists which program runs on which kernel; this kernel is {}.",
            host.release
        )
    }
}

impl DiagnosisView<'_> {
    fn probe(&self, f: &mut fmt::Formatter<'_>, probe: &ProbeDiagnosis) -> fmt::Result {
        let ProbeDiagnosis { plan, preflight, .. } = probe;
        let verdict = preflight.verdict.map_or("not possible", Verdict::key);
        // Without a load only the attach targets are known: the kernel can still refuse it
        let certain = preflight.loaded || preflight.error.is_some();
        let verdict = format!("{verdict}{}", if certain { "" } else { "?" });
        let name = match plan.name == plan.program.name {
            true => plan.name.clone(),
            false => format!("{} ({})", plan.name, plan.program.name),
        };
        let taken = preflight.hooks.iter().filter(|hook| hook.taken).count();
        let mut found = match (&preflight.reason, preflight.error.is_some()) {
            (Some(reason), true) => reason.clone(),
            _ if taken == 1 => "1 hook".to_owned(),
            _ => format!("{taken} hooks"),
        };
        let variants: Vec<&str> = preflight.variants.values().map(String::as_str).collect();
        if !variants.is_empty() {
            found += &format!(", by {}", variants.join(" and "));
        }
        line(f, &verdict, &name, &found)?;
        if let Some(reason) = preflight.reason.as_ref().filter(|_| preflight.error.is_none()) {
            writeln!(f, "  {:MARK$}{:NAME$} {reason}", "", "")?;
        }
        if !preflight.loaded && preflight.hooks.iter().any(|hook| hook.taken && hook.hook.perf_event.is_some()) {
            let what = "whether this machine has the perf events is not known without root";
            writeln!(f, "  {:MARK$}{:NAME$} {what}", "", "")?;
        }
        hint(f, preflight.error.as_ref().and_then(|error| error.hint.as_deref()))?;
        if self.hooks || probe.config.is_some() {
            preflight.hooks.iter().try_for_each(|hook| self.hook(f, hook))?;
        }
        Ok(())
    }

    fn hook(&self, f: &mut fmt::Formatter<'_>, state: &HookState) -> fmt::Result {
        let there = match self.diagnosis.is_there(state) {
            Some(_) if state.refused => "refused",
            Some(true) => "available",
            Some(false) => "missing",
            None => "",
        };
        let mut notes = Vec::new();
        if let Some((group, variant)) = &state.hook.alternative {
            notes.push(format!("variant {variant} of {group}"));
        }
        notes.extend(state.left_out.clone());
        notes.extend(state.missing.clone());
        if let Some(event) = &state.hook.perf_event {
            let name = |source: &u32| event.names.name(u64::from(*source)).unwrap_or("?").replace('_', "-");
            notes.push(event.sources.iter().map(name).collect::<Vec<_>>().join(", else "));
        }
        notes.extend(state.hook.optional.then(|| "optional".to_owned()));
        let mark = if state.taken { "*" } else { " " };
        let line = format!("  {:MARK$}{mark} {there:<9}  {:<38} {}", "", state.hook.section, notes.join("; "));
        writeln!(f, "{}", line.trim_end())
    }
}

fn line(f: &mut fmt::Formatter<'_>, mark: &str, name: &str, found: &str) -> fmt::Result {
    writeln!(f, "  {mark:<MARK$}{name:<NAME$} {found}")
}

fn hint(f: &mut fmt::Formatter<'_>, hint: Option<&str>) -> fmt::Result {
    hint.map_or(Ok(()), |hint| writeln!(f, "  {:MARK$}{:NAME$} hint: {hint}", "", ""))
}
