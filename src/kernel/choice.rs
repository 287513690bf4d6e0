//! Chooses the hooks of a program for this kernel: of several variants, the first that works.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::Hook;
use crate::error::{Error, Kind, Result};

/// A variant that this kernel does not support, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantRejection {
    /// The group of alternatives.
    pub group: String,
    /// The variant of it.
    pub variant: String,
    /// Why it was rejected, without a full stop.
    pub reason: String,
    /// The category of the reason.
    pub cause: RejectionCause,
}

/// Categories of reasons against a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionCause {
    /// Its attach target does not exist.
    Missing,
    /// The kernel rejected it.
    Refused,
    /// The verifier checked the program and rejected its code.
    Judged,
    /// This process lacks a capability that another process may have.
    Forbidden,
}

impl RejectionCause {
    /// The category of an error for its variant. What is not permitted to a process with all capabilities is disabled
    /// by the kernel's mode or its build, and the other variants are not affected.
    pub fn of(error: &Error, has_all_rights: bool) -> Self {
        match error.kind {
            Kind::Broken => RejectionCause::Judged,
            Kind::NotPermitted if !has_all_rights => RejectionCause::Forbidden,
            _ => RejectionCause::Refused,
        }
    }
}

/// How a probe runs on this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It runs with its first choice of hooks and perf events.
    Ok,
    /// It runs with a later choice; `reason` has the cause.
    Fallback,
    /// The kernel lacks something that the program requires.
    Unsupported,
    /// The kernel has all that the program requires, and rejects it.
    Broken,
}

impl Verdict {
    /// The name in the report.
    pub fn key(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Fallback => "fallback",
            Verdict::Unsupported => "unsupported",
            Verdict::Broken => "broken",
        }
    }

    /// The verdict of a probe that can't be loaded or attached; `None` if the error is not about the kernel.
    pub fn of(error: &Error) -> Option<Self> {
        match error.kind {
            Kind::Unsupported => Some(Verdict::Unsupported),
            Kind::Broken => Some(Verdict::Broken),
            _ => None,
        }
    }
}

/// The error of a probe without a variant left in a group. A missing capability takes precedence over a fault of the
/// program, because it can be granted; a fault over a missing feature, because it can be fixed.
fn exhausted<'a>(refused: impl Iterator<Item = &'a VariantRejection> + Clone) -> Kind {
    let any = |cause| refused.clone().any(|refusal| refusal.cause == cause);
    if any(RejectionCause::Forbidden) {
        Kind::NotPermitted
    } else if any(RejectionCause::Judged) {
        Kind::Broken
    } else {
        Kind::Unsupported
    }
}

/// The kernel's attach targets, as far as they are known without a trial.
pub trait AttachTargets {
    /// Why nothing can be attached to `section`; `None` if no reason is known.
    fn missing(&self, section: &str) -> Option<String>;
}

/// No information: every target is assumed to exist, and the kernel decides.
pub struct NoTargetInfo;

impl AttachTargets for NoTargetInfo {
    fn missing(&self, _: &str) -> Option<String> {
        None
    }
}

/// The chosen hooks, by name, and the variant of each group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookChoice {
    /// Names of the hooks.
    pub hooks: Vec<String>,
    /// Group and variant.
    pub variants: BTreeMap<String, String>,
}

/// Chooses among `hooks`, those that the plan requires, using the kernel's targets and the earlier rejections in
/// `refused`; adds its own rejections.
///
/// # Errors
/// [`Kind::Unsupported`] if the target of a required hook does not exist; if no variant of a group is left, with all
/// reasons, also [`Kind::Broken`] or [`Kind::NotPermitted`].
pub fn choose(
    program: &str,
    release: &str,
    hooks: &[&Hook],
    places: &dyn AttachTargets,
    refused: &mut Vec<VariantRejection>,
) -> Result<HookChoice> {
    let cannot = |kind: Kind, what: String| {
        let hint = match kind {
            Kind::NotPermitted => "run it as root, outside user namespaces and containers with a seccomp profile",
            _ => {
                "docs/reference/kernels.md lists the kernels of each program; `on_unsupported: skip` runs without the probe"
            }
        };
        Error::new(kind, format!("this kernel ({release}) can't run program `{program}`: {what}")).hint(hint)
    };
    let mut choice = HookChoice::default();
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (group, variant) in hooks.iter().filter_map(|hook| hook.alternative.as_ref()) {
        match groups.iter_mut().find(|(known, _)| known == group) {
            None => groups.push((group, vec![variant])),
            Some((_, variants)) if !variants.contains(&variant.as_str()) => variants.push(variant),
            Some(_) => {}
        }
    }
    for (group, variants) in groups {
        let mut left = None;
        // Only up to the chosen one: later variants are not reasons
        for variant in &variants {
            if refused.iter().any(|refusal| refusal.group == group && refusal.variant == *variant) {
                continue;
            }
            let mut parts = hooks.iter().filter(|hook| is_of(hook, group, variant) && !hook.optional);
            let Some(reason) = parts.find_map(|hook| places.missing(&hook.section)) else {
                left = Some(variant);
                break;
            };
            let (group, variant) = (group.to_owned(), (*variant).to_owned());
            refused.push(VariantRejection { group, variant, reason, cause: RejectionCause::Missing });
        }
        match left {
            Some(variant) => choice.variants.insert(group.to_owned(), (*variant).to_owned()),
            None => {
                let why = refused.iter().filter(|refusal| refusal.group == group);
                return Err(cannot(exhausted(why.clone()), reasons(why)));
            }
        };
    }
    for hook in hooks {
        let taken =
            hook.alternative.as_ref().is_none_or(|(group, variant)| choice.variants.get(group) == Some(variant));
        match places.missing(&hook.section) {
            _ if !taken => {}
            None => choice.hooks.push(hook.name.clone()),
            Some(_) if hook.optional => {}
            Some(reason) => {
                return Err(cannot(Kind::Unsupported, format!("{reason}, which hook `{}` needs", hook.name)));
            }
        }
    }
    Ok(choice)
}

fn is_of(hook: &Hook, group: &str, variant: &str) -> bool {
    hook.alternative.as_ref().is_some_and(|(g, v)| g == group && v == variant)
}

/// All reasons in one sentence.
pub fn reasons<'a>(refused: impl Iterator<Item = &'a VariantRejection>) -> String {
    let each: Vec<String> = refused.map(|refusal| format!("not by {}: {}", refusal.variant, refusal.reason)).collect();
    each.join("; ")
}

#[cfg(test)]
mod tests;
