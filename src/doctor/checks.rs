//! The checks that decide whether a capture can run, each with what was found and what to do. Pure, except for the
//! names in filters.

use super::{Check, ProbeDiagnosis, Status};
use crate::kernel::host::{CAP_SYS_ADMIN, VMLINUX_BTF};
use crate::kernel::{Host, HostCapabilities, Tracefs};
use crate::plan::{Capability, CapabilityNeed, HostRestrictions, Plan, Requirements};
use crate::run;

/// The result of a check that requires root.
const WITHOUT_ROOT: &str = "not known without root";
/// How to get a capability.
const GET_RIGHTS: &str = "run it with sudo, or give the process the capability (systemd: AmbientCapabilities=)";

/// The hint if perf events require CAP_SYS_ADMIN.
const PERF_HINT: &str = "run it with sudo, or sysctl kernel.perf_event_paranoid=2";

/// The features that the probes use on this host.
#[derive(Debug, Clone, Copy, Default)]
struct ProbeUsage {
    /// The requirements of the variants that would be used.
    uses: Requirements,
    /// Configs were named: a missing requirement of theirs is a problem.
    named: bool,
}

impl ProbeUsage {
    fn by(probes: &[ProbeDiagnosis]) -> Self {
        let mut used = ProbeUsage::default();
        for ProbeDiagnosis { config, plan, preflight } in probes {
            used.named |= config.is_some();
            // For a probe that can't run, all variants count
            let taken = |taken: bool| taken || preflight.error.is_some();
            let hooks = preflight.hooks.iter().filter(|hook| hook.left_out.is_none() && taken(hook.taken));
            used.uses = used.uses.or(Requirements::of(plan, hooks.map(|state| &state.hook)));
        }
        used
    }

    /// The status of a missing feature; `used` is whether it is used.
    fn missing(self, used: bool) -> Status {
        match (used, self.named) {
            (true, true) => Status::Problem,
            (true, false) => Status::Warning,
            (false, _) => Status::Ok,
        }
    }
}

fn check(name: &str, mark: Status, found: impl Into<String>, hint: Option<&str>) -> Check {
    Check { name: name.into(), status: mark, found: found.into(), hint: hint.map(str::to_owned), rights: false }
}

/// All checks of the machine and of this process.
pub(super) fn all(host: &Host, capabilities: &HostCapabilities, probes: &[ProbeDiagnosis]) -> Vec<Check> {
    let used = ProbeUsage::by(probes);
    let uses = used.uses;
    let mut checks = vec![check("kernel", Status::Ok, format!("{}, {}", host.release, capabilities.machine), None)];
    checks.push(if host.btf && capabilities.types {
        check("types (BTF)", Status::Ok, VMLINUX_BTF, None)
    } else {
        let hint =
            "a kernel built with CONFIG_DEBUG_INFO_BTF=y is required; in a container, mount the host's /sys read-only";
        check("types (BTF)", Status::Problem, format!("{VMLINUX_BTF} is missing, or can't be read"), Some(hint))
    });
    checks.push(lockdown(host, capabilities));
    checks.extend(rights(host, capabilities, used));
    checks.push(match capabilities.unprivileged_bpf_disabled {
        Some(0) => check(
            "unprivileged BPF",
            Status::Ok,
            "kernel.unprivileged_bpf_disabled = 0: every user may load some programs",
            None,
        ),
        Some(value) => {
            let what = format!("kernel.unprivileged_bpf_disabled = {value}: loading programs requires CAP_BPF");
            check("unprivileged BPF", Status::Ok, what, None)
        }
        None => check("unprivileged BPF", Status::NotKnown, "kernel.unprivileged_bpf_disabled does not exist", None),
    });
    checks.push(match capabilities.ring_buffer {
        Some(true) => check("ring buffer", Status::Ok, "available", None),
        Some(false) => {
            let what = "not available (since Linux 5.8): `type: auto` uses perf buffers";
            check(
                "ring buffer",
                Status::Warning,
                what,
                Some("remove `buffer: {type: ringbuf}`, which fails on this kernel"),
            )
        }
        None => check("ring buffer", Status::NotKnown, WITHOUT_ROOT, None),
    });
    checks.push(perf_events(capabilities, used));
    checks.push(tracefs(capabilities, used));
    checks.push(match capabilities.ftrace_enabled {
        Some(0) => {
            let what = "kernel.ftrace_enabled = 0: hooks of functions attach but never run";
            let mark = if uses.functions { used.missing(true) } else { Status::Warning };
            check("ftrace", mark, what, Some("sysctl kernel.ftrace_enabled=1"))
        }
        Some(value) => check("ftrace", Status::Ok, format!("kernel.ftrace_enabled = {value}"), None),
        None => check(
            "ftrace",
            Status::Ok,
            "kernel.ftrace_enabled does not exist: hooks of functions can't be disabled",
            None,
        ),
    });
    checks.push(kprobes(host, capabilities, used));
    checks.push(match run::cgroups() {
        Some(path) => check("cgroups (v2)", Status::Ok, path.display().to_string(), None),
        None => {
            let hint = "filters `cgroup` and `unit` require them: `mount -t cgroup2 none /sys/fs/cgroup`";
            check("cgroups (v2)", Status::Warning, "not mounted at /sys/fs/cgroup", Some(hint))
        }
    });
    checks.push(if host.initial_pid_namespace {
        check("pid namespace", Status::Ok, "the host's", None)
    } else {
        let what =
            "not the host's: pids in filters and events are the host's, and the runner's own events are not excluded";
        check("pid namespace", Status::Warning, what, Some("run it on the host; in Docker, with --pid=host"))
    });
    checks
}

fn lockdown(host: &Host, capabilities: &HostCapabilities) -> Check {
    let file = "/sys/kernel/security/lockdown";
    match (host.lockdown.as_deref(), capabilities.reads_memory) {
        (Some("confidentiality"), _) | (_, Some(false)) => {
            let hint = "boot with lockdown=integrity or without lockdown; there is no other way";
            check(
                "lockdown",
                Status::Problem,
                "confidentiality: no eBPF program may read the kernel's memory",
                Some(hint),
            )
        }
        (Some(mode), _) => check("lockdown", Status::Ok, mode, None),
        (None, Some(true)) => {
            let what = format!("not `confidentiality`: tested with a program ({file} does not exist)");
            check("lockdown", Status::Ok, what, None)
        }
        (None, None) => {
            let what = format!("{file} does not exist; {WITHOUT_ROOT}");
            check("lockdown", Status::NotKnown, what, Some("mount -t securityfs none /sys/kernel/security"))
        }
    }
}

/// Each capability that a run requires, and what restricts them.
fn rights(host: &Host, capabilities: &HostCapabilities, used: ProbeUsage) -> Vec<Check> {
    let uses = used.uses;
    let gates = HostRestrictions {
        strict_perf_events: capabilities.perf_event_paranoid.is_some_and(|value| value > 2),
        closed_tracefs: !matches!(capabilities.tracefs, Tracefs::Open(_)),
    };
    let admin = host.has(CAP_SYS_ADMIN);
    let one = |CapabilityNeed { capability, what, only_names }: CapabilityNeed| {
        // CAP_SYS_ADMIN includes the newer capabilities that were split from it
        let newer = matches!(capability, Capability::Bpf | Capability::Perfmon | Capability::CheckpointRestore);
        let there = host.has(capability as u32) || newer && admin;
        let (hint, mark) = match capability {
            Capability::Bpf | Capability::Perfmon => (GET_RIGHTS, Status::Problem),
            _ if only_names => (GET_RIGHTS, Status::Warning),
            Capability::SysAdmin => (PERF_HINT, used.missing(true)),
            _ => (GET_RIGHTS, used.missing(true)),
        };
        let (mark, found, hint) = match there {
            true => (Status::Ok, format!("available: {what}"), None),
            false => (mark, format!("missing: {what}"), Some(hint.to_owned())),
        };
        Check { name: capability.name().into(), status: mark, found, hint, rights: true }
    };
    let mut checks: Vec<Check> = uses.capabilities(gates).into_iter().map(one).collect();
    if uses.kernel_stacks && capabilities.kptr_restrict == Some(2) {
        let what =
            "kernel.kptr_restrict = 2: no process can read the addresses of functions, so kernel stacks have no names";
        checks.push(check("kernel symbols", Status::Warning, what, Some("sysctl kernel.kptr_restrict=1")));
    }
    let right = |name, mark, found: &str, hint| Check { rights: true, ..check(name, mark, found, Some(hint)) };
    if host.user_namespace {
        let found = "this process is in a user namespace: its capabilities are not valid outside it";
        checks.push(right("user namespace", Status::Warning, found, "run it outside, or in a container without one"));
    }
    if host.seccomp {
        let found = "a seccomp filter restricts the system calls of this process";
        let hint = "the container's profile must permit bpf and perf_event_open";
        checks.push(right("seccomp", Status::Warning, found, hint));
    }
    if host.memlock {
        let found = "limited; before Linux 5.11, programs and maps count as locked memory";
        checks.push(right(
            "locked memory",
            Status::Problem,
            found,
            "ulimit -l unlimited; systemd: LimitMEMLOCK=infinity",
        ));
    }
    checks
}

fn perf_events(capabilities: &HostCapabilities, used: ProbeUsage) -> Check {
    let Some(value) = capabilities.perf_event_paranoid else {
        let what = "kernel.perf_event_paranoid does not exist: this kernel has no perf events";
        let mark = used.missing(used.uses.perf_events);
        return check("perf events", mark, what, None);
    };
    // The check of the capability reports whether it is missing
    let admin = if value > 2 { ": perf events require CAP_SYS_ADMIN" } else { "" };
    check("perf events", Status::Ok, format!("kernel.perf_event_paranoid = {value}{admin}"), None)
}

fn tracefs(capabilities: &HostCapabilities, used: ProbeUsage) -> Check {
    let unused = if used.uses.tracefs { "" } else { "; no probe requires it" };
    match &capabilities.tracefs {
        Tracefs::Open(path) => check("tracefs", Status::Ok, path.display().to_string(), None),
        Tracefs::Closed(path) => {
            let what = format!("{}, {}{unused}", path.display(), "its contents are not known without root");
            check("tracefs", if used.uses.tracefs { Status::NotKnown } else { Status::Ok }, what, None)
        }
        Tracefs::Missing => {
            let hint = used.uses.tracefs.then_some("mount -t tracefs none /sys/kernel/tracing");
            check("tracefs", used.missing(used.uses.tracefs), format!("not mounted{unused}"), hint)
        }
    }
}

fn kprobes(host: &Host, capabilities: &HostCapabilities, used: ProbeUsage) -> Check {
    match (host.kprobes, capabilities.kprobes_enabled) {
        (false, _) => {
            check("kprobes", Status::Ok, "this kernel has none: programs use another variant where they have one", None)
        }
        (true, Some(false)) => {
            let what = "disabled: kprobes attach but never run";
            let mark = if used.uses.kprobes { used.missing(true) } else { Status::Warning };
            check("kprobes", mark, what, Some("echo 1 >/sys/kernel/debug/kprobes/enabled"))
        }
        (true, Some(true)) => check("kprobes", Status::Ok, "available and enabled", None),
        (true, None) => {
            let mark = if used.uses.kprobes { Status::NotKnown } else { Status::Ok };
            check("kprobes", mark, "available; whether they are enabled is not known without root (debugfs)", None)
        }
    }
}

/// Checks the names in a config that only this machine knows: disks, users, cgroups, units.
pub(super) fn names(config: &str, plan: &Plan) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Err(error) = run::resolved(plan) {
        checks.push(check(config, Status::Problem, error.message, error.hint.as_deref()));
    }
    checks.extend(run::missing_disks(plan).into_iter().map(|what| check(config, Status::Warning, what, None)));
    checks
}

#[cfg(test)]
mod tests;
