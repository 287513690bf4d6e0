//! What was found, for scripts.

use serde_json::{Value as Json, json};

use super::{Check, Examination, Subject, Trial};
use crate::catalog::Load;
use crate::kernel::{HookState, Tracefs, Verdict};

/// The version of this shape.
const FORMAT: u32 = 1;

impl Examination {
    /// One object; docs/doctor.md has its members.
    pub fn json(&self) -> Json {
        let checks: Vec<Json> = self.checks.iter().map(check).collect();
        let subjects: Vec<Json> = self.subjects.iter().map(|subject| self.subject(subject)).collect();
        let trials: Option<Vec<Json>> = self.trials.as_ref().map(|trials| trials.iter().map(trial).collect());
        json!({
            "format": FORMAT, "ebpf_run": env!("CARGO_PKG_VERSION"),
            "kernel": self.host.release, "machine": self.facts.machine,
            "exit_code": self.exit_code(), "checks": checks, "probes": subjects, "tried": trials,
        })
    }

    fn subject(&self, subject: &Subject) -> Json {
        let Subject { config, plan, outlook } = subject;
        let hooks: Vec<Json> = outlook.hooks.iter().map(|hook| self.hook(hook)).collect();
        json!({
            "config": config, "probe": plan.name, "program": plan.program.name,
            "mark": subject.mark().key(), "verdict": outlook.verdict.map(Verdict::key), "reason": outlook.reason,
            "hint": outlook.error.as_ref().and_then(|error| error.hint.as_deref()),
            "loaded": outlook.loaded, "variants": outlook.variants, "hooks": hooks,
        })
    }

    fn hook(&self, state: &HookState) -> Json {
        let hook = &state.hook;
        let alternative = hook.alternative.as_ref().map(|(group, variant)| json!({"group": group, "variant": variant}));
        json!({
            "function": hook.name, "section": hook.section, "optional": hook.optional, "alternative": alternative,
            "left_out": state.left_out, "there": self.is_there(state), "why_not": state.missing, "refused": state.refused, "taken": state.taken,
        })
    }

    /// Whether the place of a hook is there; `None` if that is not known, or if it has none.
    pub(super) fn is_there(&self, state: &HookState) -> Option<bool> {
        let kind = state.hook.section.split('/').next().unwrap_or_default();
        let open = matches!(self.facts.tracefs, Tracefs::Open(_));
        match kind {
            "perf_event" => None,
            "tp" | "tracepoint" if !open => None,
            _ if !self.facts.types => None,
            _ => Some(state.missing.is_none()),
        }
    }
}

fn trial(trial: &Trial) -> Json {
    json!({
        "program": trial.program, "mark": trial.mark.key(), "found": trial.found, "hint": trial.hint,
        "load": trial.load.map(Load::name), "expected": trial.expected, "arrived": trial.arrived,
    })
}

fn check(check: &Check) -> Json {
    json!({
        "name": check.name, "mark": check.mark.key(), "found": check.found, "hint": check.hint, "rights": check.rights,
    })
}
