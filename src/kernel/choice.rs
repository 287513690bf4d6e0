//! Which hooks of a program are attached on this kernel: of several ways to the same end, the first that works.

use std::collections::BTreeMap;

use crate::catalog::Hook;
use crate::error::{Error, Kind, Result};

/// A variant that this kernel does not take, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantRejection {
    /// The group of alternatives.
    pub group: String,
    /// The variant of it.
    pub variant: String,
    /// Why it is not taken, without a full stop.
    pub reason: String,
    /// What kind of reason that is.
    pub cause: RejectionCause,
}

/// Kinds of reasons against a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionCause {
    /// A place that it attaches to is not there.
    Missing,
    /// The kernel was asked and can't do it.
    Refused,
    /// The verifier has read the program and finds fault with it.
    Judged,
    /// This process lacks a right that another one may have.
    Forbidden,
}

impl RejectionCause {
    /// What a refusal means for the variant that it is about. What is forbidden to a process that has all rights, is so by
    /// the kernel's mode or make, and no other way will be open just by asking for more.
    pub fn of(error: &Error, has_all_rights: bool) -> Self {
        match error.kind {
            Kind::Broken => RejectionCause::Judged,
            Kind::NotPermitted if !has_all_rights => RejectionCause::Forbidden,
            _ => RejectionCause::Refused,
        }
    }
}

/// What became of a probe on this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It runs by its first choice.
    Ok,
    /// It runs by another choice; the reason says why not by the first.
    Fallback,
    /// This kernel lacks something that it needs.
    Unsupported,
    /// This kernel has all that it needs, and refuses it nevertheless.
    Broken,
}

impl Verdict {
    /// For the report.
    pub fn key(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Fallback => "fallback",
            Verdict::Unsupported => "unsupported",
            Verdict::Broken => "broken",
        }
    }

    /// Of a probe that can't be loaded or attached; `None` if that tells nothing of the kernel.
    pub fn of(error: &Error) -> Option<Self> {
        match error.kind {
            Kind::Unsupported => Some(Verdict::Unsupported),
            Kind::Broken => Some(Verdict::Broken),
            _ => None,
        }
    }
}

/// What a probe has come to when no variant of a group is left. A right that is missing goes before a fault of the program,
/// because it can be had; a fault before what the kernel lacks, because it can be mended.
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

/// What the kernel tells of places to attach to, as far as it can be known without trying.
pub trait AttachTargets {
    /// Why nothing can be attached to `section` here; `None` if there is no reason against it.
    fn missing(&self, section: &str) -> Option<String>;
}

/// Nothing is known, so there is nothing against any place: the kernel has the last word.
pub struct NoTargetInfo;

impl AttachTargets for NoTargetInfo {
    fn missing(&self, _: &str) -> Option<String> {
        None
    }
}

/// The hooks to be attached, by name, and for each group the variant that is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookChoice {
    /// Names of the hooks.
    pub hooks: Vec<String>,
    /// Group and variant.
    pub variants: BTreeMap<String, String>,
}

/// Chooses among `hooks`, those that the plan wants, with what is known of the kernel and what was `refused` before; adds
/// what it refuses itself.
///
/// # Errors
/// [`Kind::Unsupported`] if a hook that is needed has no place here; if no variant of a group is left, with all reasons,
/// also [`Kind::Broken`] or [`Kind::NotPermitted`].
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
        // Only up to the one that is taken: what stands behind it is no reason for anything
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
