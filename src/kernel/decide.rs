//! The one way from the hooks that a probe wants to those that it gets: a run goes it, and whoever asks what a run would
//! come to.

use libbpf_rs::ErrorKind;

use super::choice::{AttachTargets, HookChoice, NoTargetInfo, RejectionCause, VariantRejection, choose};
use super::explain::{Stage, explain, in_words, refusal};
use super::kernel_info::KernelInfo;
use super::{Host, log};
use crate::catalog::Hook;
use crate::error::{Error, Kind, Result};
use crate::plan::ProbePlan;

/// When to look whether the places to attach to are there. Reading the kernel's types takes milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetCheck {
    /// Where there is something to choose, or to explain.
    OnDemand,
    /// In any case: the attempts will not find out.
    Always,
}

/// The hooks that a probe wants, before anything is known of the kernel.
pub(super) fn wanted(plan: &ProbePlan) -> Vec<&Hook> {
    plan.hooks.iter().filter(|(_, skipped)| skipped.is_none()).map(|(hook, _)| hook).collect()
}

/// Goes through the ways that a probe could run, best first, until `attempt` takes one. Returns what came of that, and why
/// those before were not taken.
///
/// # Errors
/// [`Kind::Unsupported`] if this kernel lacks something that the program needs, [`Kind::Broken`] if it has all of it and
/// refuses the program nevertheless, [`Kind::NotPermitted`]; or what `attempt` says of something else.
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
    // Each turn takes a variant away, or ends
    loop {
        let choice = choose(program, &host.release, &wanted, places, &mut refused)?;
        match attempt(&choice) {
            Ok(made) => return Ok((made, refused)),
            Err(refusal) => match refusal.variant(&wanted, host) {
                Some(variant) => refused.push(variant),
                None if choices || refusal.error.kind != Kind::Unsupported => return Err(refusal.error),
                None => {
                    // Of a place that is not there, libbpf's words say little
                    choose(program, &host.release, &wanted, kernel.read(host)?, &mut refused)?;
                    return Err(refusal.error);
                }
            },
        }
    }
}

/// Why the kernel did not take an object or a hook.
pub(super) struct KernelRejection {
    pub error: Error,
    /// The hook that it was about, if that is known.
    pub hook: Option<String>,
    /// The reason alone.
    pub words: String,
    /// The library's error, if it came from there.
    pub kind: Option<ErrorKind>,
}

impl KernelRejection {
    pub fn new(host: &Host, stage: Stage, program: &str, hook: Option<&str>, error: &libbpf_rs::Error) -> Box<Self> {
        let log = log::take();
        let (failed, words) = refusal(error, &log);
        // An interruption tells nothing of the kernel
        let hook = hook.map(str::to_owned).or(failed).filter(|_| error.kind() != ErrorKind::WouldBlock);
        let kind = Some(error.kind());
        Box::new(KernelRejection {
            error: explain(host, stage, program, hook.as_deref(), error, &log),
            hook,
            words,
            kind,
        })
    }

    /// Of a hook, for a reason that has its words already.
    pub fn of_hook(program: &str, hook: &str, error: Error) -> Box<Self> {
        let message = format!("hook `{hook}` of program `{program}`: {}", error.message);
        let words = error.message.clone();
        Box::new(KernelRejection { error: Error { message, ..error }, hook: Some(hook.to_owned()), words, kind: None })
    }

    /// The variant that the refusal is about, if it is about one of several.
    fn variant(&self, hooks: &[&Hook], host: &Host) -> Option<VariantRejection> {
        if self.error.kind == Kind::Failed {
            return None; // not the kernel's answer: another variant would meet the same limit
        }
        let hook = hooks.iter().find(|hook| Some(&hook.name) == self.hook.as_ref())?;
        let (group, variant) = hook.alternative.clone()?;
        let plain = self.kind.and_then(|kind| in_words(host, &hook.section, kind));
        let reason = plain.map_or_else(|| self.words.clone(), str::to_owned);
        Some(VariantRejection { group, variant, reason, cause: RejectionCause::of(&self.error, host.has_all_rights()) })
    }
}
