//! Predicts the verdict of a probe on this kernel: decided as by a run, without attaching anything.

use std::collections::BTreeMap;

use libbpf_rs::ErrorKind;

use super::choice::{AttachTargets, HookChoice, RejectionCause, VariantRejection, Verdict, reasons};
use super::decide::{KernelRejection, TargetCheck, decide};
use super::explain::in_words;
use super::kernel_info::{KernelInfo, KernelSymbols};
use super::probe::{Loaded, add_reason};
use super::{Host, log};
use crate::catalog::Hook;
use crate::error::{Error, Kind};
use crate::plan::ProbePlan;

/// One hook on this kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookState {
    /// The hook.
    pub hook: Hook,
    /// Why the probe does not use it, if it does not.
    pub left_out: Option<String>,
    /// Why nothing can be attached there, if known.
    pub missing: Option<String>,
    /// Whether the kernel rejected it or another hook of its variant.
    pub refused: bool,
    /// Whether a run would attach it.
    pub taken: bool,
}

/// The prediction for a probe.
#[derive(Debug, Clone)]
pub struct Preflight {
    /// `None` if the obstacle is not the kernel: a permission, a limit, too much memory requested.
    pub verdict: Option<Verdict>,
    /// Why it does not use its first variant; or why it would not run.
    pub reason: Option<String>,
    /// The error of a run, if it would fail.
    pub error: Option<Error>,
    /// All hooks of the program, in the order of the C file.
    pub hooks: Vec<HookState>,
    /// Group and variant of the alternatives that would be used.
    pub variants: BTreeMap<String, String>,
    /// Whether the kernel has loaded it; otherwise only attach targets were checked.
    pub loaded: bool,
}

/// Tests the probe of `plan` on the kernel. With `load` it is loaded, variant by variant until one works, and unloaded
/// at once; that requires the capabilities of a run. Without, only the kernel's types, symbols and lists are checked.
pub fn preflight(plan: &ProbePlan, host: &Host, kernel: &KernelInfo, load: bool) -> Preflight {
    log::start();
    let tables = kernel.read(host);
    let mut attempt = |choice: &HookChoice| {
        // In the order of a run: all hooks are loaded, then attached, the last hook first
        let loaded = if load { Some(Loaded::load_chosen(plan, host, choice)?) } else { None };
        if let Ok(tables) = &tables {
            let mut chosen =
                plan.hooks.iter().rev().map(|(hook, _)| hook).filter(|hook| choice.hooks.contains(&hook.name));
            if let Some((hook, reason)) = chosen.find_map(|hook| Some((hook, unattachable(hook, host, tables)?))) {
                let what = format!("this kernel ({}) can't attach hook `{}`: {reason}", host.release, hook.name);
                let (error, hook) = (Error::new(Kind::Unsupported, what), Some(hook.name.clone()));
                return Err(Box::new(KernelRejection { error, hook, words: reason, kind: None }));
            }
        }
        let perf_events = loaded.map_or(Ok(None), |loaded| loaded.find_perf_events())?;
        Ok((choice.clone(), perf_events))
    };
    let decided = decide(plan, host, kernel, TargetCheck::Always, &mut attempt);
    let state = |(hook, left_out): &(Hook, Option<String>)| {
        let missing = tables
            .as_ref()
            .ok()
            .and_then(|tables| tables.missing(&hook.section).or_else(|| unattachable(hook, host, tables)));
        let taken = decided.as_ref().is_ok_and(|((choice, _), _)| choice.hooks.contains(&hook.name));
        let of = |refusal: &VariantRejection| {
            let (group, variant) = (refusal.group.as_str(), refusal.variant.as_str());
            refusal.cause != RejectionCause::Missing
                && hook.alternative.as_ref().is_some_and(|(g, v)| (g.as_str(), v.as_str()) == (group, variant))
        };
        let refused = missing.is_none() && decided.as_ref().is_ok_and(|(_, refused)| refused.iter().any(of));
        HookState { hook: hook.clone(), left_out: left_out.clone(), missing, refused, taken }
    };
    let hooks = plan.hooks.iter().map(state).collect();
    match decided {
        Ok(((choice, perf_events), refused)) => {
            let mut reason = (!refused.is_empty()).then(|| reasons(refused.iter()));
            add_reason(&mut reason, perf_events);
            let verdict = if reason.is_some() { Verdict::Fallback } else { Verdict::Ok };
            let variants = choice.variants;
            Preflight { verdict: Some(verdict), reason, error: None, hooks, variants, loaded: load }
        }
        Err(error) => {
            let reason = Some(error.message.clone());
            let (verdict, variants) = (Verdict::of(&error), BTreeMap::new());
            Preflight { verdict, reason, error: Some(error), hooks, variants, loaded: load }
        }
    }
}

/// Why an attempt to attach `hook` would be refused although its target exists, as far as that is known.
fn unattachable(hook: &Hook, host: &Host, tables: &KernelSymbols) -> Option<String> {
    let (kind, target) = hook.section.split_once('/')?;
    if !matches!(kind, "fentry" | "fexit" | "kprobe" | "kretprobe") {
        return None;
    }
    if let Some(words) = in_words(host, &hook.section, ErrorKind::NotFound) {
        return Some(words.to_owned());
    }
    let function = target.split('+').next().unwrap_or(target);
    let hidden = tables.is_traceable(function) == Some(false);
    hidden
        .then(|| format!("this kernel does not allow hooks of function {function} (not in available_filter_functions)"))
}
