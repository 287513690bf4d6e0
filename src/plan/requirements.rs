//! What probes use that takes a right, or that a machine may lack; and the rights, one by one. The one place that says so:
//! `doctor` asks it about this machine, `emit` about the one that a unit is for.

use super::{Plan, ProbePlan, Transport};
use crate::catalog::{Hook, StackKind};

/// What probes use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Perf events: of hooks, kprobes, tracepoints by number, or perf buffers.
    pub perf_events: bool,
    /// The numbers of tracepoints.
    pub tracefs: bool,
    /// The beginnings or ends of functions.
    pub functions: bool,
    /// kprobes, at functions.
    pub kprobes: bool,
    /// Names for the kernel's part of stacks.
    pub kernel_stacks: bool,
    /// Names for the part of stacks in processes.
    pub user_stacks: bool,
}

impl Requirements {
    /// What a probe with these of its hooks uses.
    pub fn of<'a>(probe: &ProbePlan, hooks: impl Iterator<Item = &'a Hook>) -> Self {
        let mut uses = Requirements::default();
        for hook in hooks {
            let kind = hook.section.split('/').next().unwrap_or_default();
            uses.tracefs |= matches!(kind, "tp" | "tracepoint");
            uses.kprobes |= matches!(kind, "kprobe" | "kretprobe");
            uses.functions |= matches!(kind, "fentry" | "fexit" | "kprobe" | "kretprobe");
            uses.perf_events |= matches!(kind, "perf_event" | "tp" | "tracepoint" | "kprobe" | "kretprobe");
        }
        uses.perf_events |= probe.aggregate.is_none() && probe.buffer.transport == Transport::Perf;
        let keys = probe.aggregate.iter().flat_map(|aggregate| &aggregate.spec.key);
        for stack in keys.filter_map(|key| key.stack) {
            uses.kernel_stacks |= stack == StackKind::Kernel;
            uses.user_stacks |= stack == StackKind::User;
        }
        uses
    }

    /// What a capture uses on any kernel: every way in which each of its probes might be attached.
    pub fn anywhere(plan: &Plan) -> Self {
        let of = |probe: &ProbePlan| {
            let wanted = probe.hooks.iter().filter(|(_, left_out)| left_out.is_none());
            Requirements::of(probe, wanted.map(|(hook, _)| hook))
        };
        let mut all = plan.probes.iter().map(of).fold(Requirements::default(), Requirements::or);
        // Of alternatives, one takes no perf events; where they are refused, that one is left
        let alone = |probe: &ProbePlan| {
            let wanted = probe.hooks.iter().filter(|(hook, left_out)| left_out.is_none() && hook.alternative.is_none());
            Requirements::of(probe, wanted.map(|(hook, _)| hook)).perf_events
        };
        all.perf_events = plan.probes.iter().any(alone);
        all
    }

    /// What either uses.
    pub fn or(self, other: Requirements) -> Requirements {
        Requirements {
            perf_events: self.perf_events || other.perf_events,
            tracefs: self.tracefs || other.tracefs,
            functions: self.functions || other.functions,
            kprobes: self.kprobes || other.kprobes,
            kernel_stacks: self.kernel_stacks || other.kernel_stacks,
            user_stacks: self.user_stacks || other.user_stacks,
        }
    }

    /// The capabilities that this takes from one who has no other rights, in a fixed order.
    pub fn capabilities(self, gates: HostRestrictions) -> Vec<CapabilityNeed> {
        let mut needs = Vec::new();
        let mut need = |capability, what, only_names| needs.push(CapabilityNeed { capability, what, only_names });
        need(Capability::Bpf, "loads programs and makes their maps", false);
        need(Capability::Perfmon, "lets programs read the kernel's memory", false);
        if self.perf_events && gates.strict_perf_events {
            need(Capability::SysAdmin, "opens perf events, because kernel.perf_event_paranoid is above 2", false);
        }
        if self.tracefs && gates.closed_tracefs {
            need(Capability::DacReadSearch, "reads the numbers of tracepoints in tracefs", false);
        }
        // Without these, stacks have `[unknown]` in the place of names
        if self.kernel_stacks {
            need(Capability::Syslog, "has names for the functions of kernel stacks", true);
        }
        if self.user_stacks {
            let what = "has names for the functions of processes' stacks";
            need(Capability::SysPtrace, what, true);
            need(Capability::DacReadSearch, what, true);
            need(Capability::CheckpointRestore, what, true);
        }
        needs
    }
}

/// What stands between an unprivileged process and things that are otherwise open to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostRestrictions {
    /// `kernel.perf_event_paranoid` is above 2, which some distributions make it: perf events are for CAP_SYS_ADMIN.
    pub strict_perf_events: bool,
    /// tracefs can't be looked into by this user.
    pub closed_tracefs: bool,
}

/// A capability that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilityNeed {
    /// Which.
    pub capability: Capability,
    /// What it does for the capture: `loads programs`.
    pub what: &'static str,
    /// Without it only names are missing in stacks.
    pub only_names: bool,
}

/// The capabilities of Linux that a capture may need, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // they are what capabilities(7) says
pub enum Capability {
    Chown = 0,
    DacReadSearch = 2,
    SysPtrace = 19,
    SysAdmin = 21,
    SysResource = 24,
    Syslog = 34,
    Perfmon = 38,
    Bpf = 39,
    CheckpointRestore = 40,
}

impl Capability {
    /// `CAP_BPF`
    pub fn name(self) -> &'static str {
        match self {
            Capability::Chown => "CAP_CHOWN",
            Capability::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Capability::SysPtrace => "CAP_SYS_PTRACE",
            Capability::SysAdmin => "CAP_SYS_ADMIN",
            Capability::SysResource => "CAP_SYS_RESOURCE",
            Capability::Syslog => "CAP_SYSLOG",
            Capability::Perfmon => "CAP_PERFMON",
            Capability::Bpf => "CAP_BPF",
            Capability::CheckpointRestore => "CAP_CHECKPOINT_RESTORE",
        }
    }
}
