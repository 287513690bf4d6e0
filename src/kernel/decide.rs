//! Decides which hooks of a probe are used. A run and its preview in `doctor` use the same function.

use libbpf_rs::ErrorKind;

use super::choice::{AttachTargets, HookChoice, NoTargetInfo, RejectionCause, VariantRejection, choose};
use super::explain::{Stage, explain, in_words, refusal};
use super::kernel_info::KernelInfo;
use super::{Host, log};
use crate::catalog::Hook;
use crate::error::{Error, Kind, Result};
use crate::plan::ProbePlan;

/// When to check whether the attach targets exist. Reading the kernel's types takes milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetCheck {
    /// If there is a choice, or an error to explain.
    OnDemand,
    /// Always: the attempts do not check it.
    Always,
}

/// The hooks that a probe requires, independent of the kernel.
pub(super) fn wanted(plan: &ProbePlan) -> Vec<&Hook> {
    plan.hooks.iter().filter(|(_, skipped)| skipped.is_none()).map(|(hook, _)| hook).collect()
}

/// Tries the variants of a probe, best first, until `attempt` accepts one. Returns its result, and why the variants
/// before were rejected.
///
/// # Errors
/// [`Kind::Unsupported`] if this kernel lacks a required feature, [`Kind::Broken`] if it has all of them and rejects
/// the program nevertheless, [`Kind::NotPermitted`]; or an error of `attempt` that is not about the kernel.
pub(super) fn decide<T>(
    plan: &ProbePlan,
    host: &Host,
    kernel: &KernelInfo,
    look: TargetCheck,
    attempt: &mut dyn FnMut(&HookChoice) -> Result<T, Box<KernelRejection>>,
) -> Result<(T, Vec<VariantRejection>)> {
    let (program, wanted) = (plan.program.name, wanted(plan));
    let choices = look == TargetCheck::Always || wanted.iter().any(|hook| hook.optional || hook.alternative.is_some());
    let places: &dyn AttachTargets = if choices { kernel.read(host)? } else { &NoTargetInfo };
    let mut refused = Vec::new();
    // Each iteration removes a variant, or ends
    loop {
        let choice = choose(program, &host.release, &wanted, places, &mut refused)?;
        match attempt(&choice) {
            Ok(made) => return Ok((made, refused)),
            Err(refusal) => match refusal.variant(&wanted, host) {
                Some(variant) => refused.push(variant),
                None if choices || refusal.error.kind != Kind::Unsupported => return Err(refusal.error),
                None => {
                    // libbpf's messages about a missing target have little information
                    choose(program, &host.release, &wanted, kernel.read(host)?, &mut refused)?;
                    return Err(refusal.error);
                }
            },
        }
    }
}

/// Why the kernel rejected an object or a hook.
pub(super) struct KernelRejection {
    pub error: Error,
    /// The rejected hook, if it is known.
    pub hook: Option<String>,
    /// The reason alone.
    pub words: String,
    /// The library's error, if it has one.
    pub kind: Option<ErrorKind>,
}

impl KernelRejection {
    pub fn new(host: &Host, stage: Stage, program: &str, hook: Option<&str>, error: &libbpf_rs::Error) -> Box<Self> {
        let log = log::take();
        let (failed, words) = refusal(error, &log);
        // An interruption is no result about the kernel
        let hook = hook.map(str::to_owned).or(failed).filter(|_| error.kind() != ErrorKind::WouldBlock);
        let kind = Some(error.kind());
        Box::new(KernelRejection {
            error: explain(host, stage, program, hook.as_deref(), error, &log),
            hook,
            words,
            kind,
        })
    }

    /// A rejection of a hook, with its reason as a message.
    pub fn of_hook(program: &str, hook: &str, error: Error) -> Box<Self> {
        let message = format!("hook `{hook}` of program `{program}`: {}", error.message);
        let words = error.message.clone();
        Box::new(KernelRejection { error: Error { message, ..error }, hook: Some(hook.to_owned()), words, kind: None })
    }

    /// The rejected variant, if the hook belongs to one of several.
    fn variant(&self, hooks: &[&Hook], host: &Host) -> Option<VariantRejection> {
        if self.error.kind == Kind::Failed {
            return None; // a result that is not about the kernel: another variant would reach the same limit
        }
        let hook = hooks.iter().find(|hook| Some(&hook.name) == self.hook.as_ref())?;
        let (group, variant) = hook.alternative.clone()?;
        let plain = self.kind.and_then(|kind| in_words(host, &hook.section, kind));
        let reason = plain.map_or_else(|| self.words.clone(), str::to_owned);
        Some(VariantRejection { group, variant, reason, cause: RejectionCause::of(&self.error, host.has_all_rights()) })
    }
}
