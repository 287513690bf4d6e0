//! Loads the programs of a plan, with the values that only this machine knows.

use std::path::PathBuf;

use super::resolve;
use crate::config::quantity::Nanoseconds;
use crate::error::Result;
use crate::kernel::{Host, KernelInfo, Loaded, Verdict};
use crate::plan::{Plan, ProbePlan};
use crate::report::Skipped;

/// Loads every probe. Removes those from the plan that this kernel can't run and that the config marks as optional.
///
/// # Errors
/// If a probe can't be loaded and is not to be skipped, or if no probe is left.
pub fn load(plan: &Plan, host: &Host) -> Result<(Plan, Vec<Loaded>, Vec<Skipped>)> {
    let (mut loaded, mut skipped, mut probes, mut last) = (Vec::new(), Vec::new(), Vec::new(), None);
    let kernel = KernelInfo::default();
    for probe in &plan.probes {
        match Loaded::load(probe, host, &kernel) {
            Ok(one) => {
                loaded.push(one);
                probes.push(probe.clone());
            }
            Err(error) => {
                let Some(verdict) = Verdict::of(&error).filter(|_| probe.skip_unsupported) else { return Err(error) };
                let (name, program) = (probe.name.clone(), probe.program.name.to_owned());
                skipped.push(Skipped { probe: name, program, verdict, reason: error.message.clone() });
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if loaded.is_empty() => Err(error),
        _ => Ok((Plan { probes, ..plan.clone() }, loaded, skipped)),
    }
}

/// The plan with its names resolved on this machine.
pub fn resolved(plan: &Plan) -> Result<Plan> {
    let mut plan = plan.clone();
    for probe in &mut plan.probes {
        let found = resolve::resolve(probe)?;
        for (lookup, setting) in probe.lookups.iter().zip(found) {
            if lookup.followed { probe.bss.push(setting) } else { probe.rodata.push(setting) }
        }
    }
    Ok(plan)
}

/// The mount point of cgroups of version 2, if they are mounted.
pub fn cgroups() -> Option<PathBuf> {
    resolve::hierarchy().ok()
}

/// The message that all probes are attached.
pub fn attached(plan: &Plan, loaded: &[Loaded]) -> String {
    let probe = |(probe, loaded): (&ProbePlan, &Loaded)| {
        let (verdict, hooks) = (loaded.verdict().0, loaded.hooks().len());
        let hooks = if hooks == 1 { "1 hook".to_owned() } else { format!("{hooks} hooks") };
        let fallback = if verdict == Verdict::Fallback { ", fallback" } else { "" };
        format!("{} ({}, {hooks}{fallback})", probe.name, probe.program.name)
    };
    let probes: Vec<String> = plan.probes.iter().zip(loaded).map(probe).collect();
    let mut ends = plan.window.ends();
    ends.push("with Ctrl-C".into());
    let warmup = Nanoseconds::from(plan.window.warmup);
    let begins = if warmup.0 == 0 { String::new() } else { format!("; records from {warmup} on") };
    format!("attached {}{begins}; ends {}", probes.join(", "), ends.join(" or "))
}
