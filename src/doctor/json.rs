//! The diagnosis as JSON.

use serde_json::{Value as Json, json};

use super::{Check, Diagnosis, ProbeDiagnosis, Trial};
use crate::catalog::Load;
use crate::kernel::{HookState, Tracefs, Verdict};

/// The version of this format.
const FORMAT: u32 = 1;

impl Diagnosis {
    /// One object; docs/reference/doctor.md describes its members.
    pub fn json(&self) -> Json {
        let checks: Vec<Json> = self.checks.iter().map(check).collect();
        let probes: Vec<Json> = self.probes.iter().map(|probe| self.probe(probe)).collect();
        let trials: Option<Vec<Json>> = self.trials.as_ref().map(|trials| trials.iter().map(trial).collect());
        json!({
            "format": FORMAT, "ebpf_run": env!("CARGO_PKG_VERSION"),
            "kernel": self.host.release, "machine": self.capabilities.machine,
            "exit_code": self.exit_code(), "checks": checks, "probes": probes, "tried": trials,
        })
    }

    fn probe(&self, probe: &ProbeDiagnosis) -> Json {
        let ProbeDiagnosis { config, plan, preflight } = probe;
        let hooks: Vec<Json> = preflight.hooks.iter().map(|hook| self.hook(hook)).collect();
        json!({
            "config": config, "probe": plan.name, "program": plan.program.name,
            "mark": probe.mark().key(), "verdict": preflight.verdict.map(Verdict::key), "reason": preflight.reason,
            "hint": preflight.error.as_ref().and_then(|error| error.hint.as_deref()),
            "loaded": preflight.loaded, "variants": preflight.variants, "hooks": hooks,
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

    /// Whether the attach target of a hook exists; `None` if that is not known, or if the hook has none.
    pub(super) fn is_there(&self, state: &HookState) -> Option<bool> {
        let kind = state.hook.section.split('/').next().unwrap_or_default();
        let open = matches!(self.capabilities.tracefs, Tracefs::Open(_));
        match kind {
            "perf_event" => None,
            "tp" | "tracepoint" if !open => None,
            _ if !self.capabilities.types => None,
            _ => Some(state.missing.is_none()),
        }
    }
}

fn trial(trial: &Trial) -> Json {
    json!({
        "program": trial.program, "mark": trial.status.key(), "found": trial.found, "hint": trial.hint,
        "load": trial.load.map(Load::name), "expected": trial.expected, "arrived": trial.arrived,
    })
}

fn check(check: &Check) -> Json {
    json!({
        "name": check.name, "mark": check.status.key(), "found": check.found, "hint": check.hint, "rights": check.rights,
    })
}
