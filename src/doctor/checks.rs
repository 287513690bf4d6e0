//! Each thing that decides whether a capture can run, with what was found and what to do. Pure, but for the names in
//! filters.

use super::{Check, Mark, Subject};
use crate::catalog::StackKind;
use crate::kernel::host::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, VMLINUX_BTF};
use crate::kernel::{Facts, Host, Tracefs};
use crate::plan::{Plan, Transport};
use crate::run;

const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYSLOG: u32 = 34;
const CAP_CHECKPOINT_RESTORE: u32 = 40;

/// What root alone can see.
const WITHOUT_ROOT: &str = "not known without root";
/// How to get a capability.
const GET_RIGHTS: &str = "run it with sudo, or give the process the capability (systemd: AmbientCapabilities=)";

/// What takes the place of CAP_PERFMON for perf events in a strict kernel, and what else helps.
const PERF_RIGHT: &str = "CAP_SYS_ADMIN";
const PERF_HINT: &str = "run it with sudo, or sysctl kernel.perf_event_paranoid=2";

/// What the probes use, each by the way that it would take here.
#[derive(Debug, Clone, Copy, Default)]
struct Uses {
    /// Perf events: of hooks, kprobes, tracepoints by number, or perf buffers.
    perf_events: bool,
    /// The numbers of tracepoints.
    tracefs: bool,
    /// The beginnings or ends of functions.
    functions: bool,
    kprobes: bool,
    kernel_stacks: bool,
    user_stacks: bool,
    /// Configs were named: what is missing for them is a problem.
    named: bool,
}

impl Uses {
    fn of(subjects: &[Subject]) -> Self {
        let mut uses = Uses::default();
        for Subject { config, plan, outlook } in subjects {
            uses.named |= config.is_some();
            // Of what can't run, all ways may be asked about
            let taken = |taken: bool| taken || outlook.error.is_some();
            for hook in outlook.hooks.iter().filter(|hook| hook.left_out.is_none() && taken(hook.taken)) {
                let kind = hook.hook.section.split('/').next().unwrap_or_default();
                uses.tracefs |= matches!(kind, "tp" | "tracepoint");
                uses.kprobes |= matches!(kind, "kprobe" | "kretprobe");
                uses.functions |= matches!(kind, "fentry" | "fexit" | "kprobe" | "kretprobe");
                uses.perf_events |= matches!(kind, "perf_event" | "tp" | "tracepoint" | "kprobe" | "kretprobe");
            }
            uses.perf_events |= plan.aggregate.is_none() && plan.buffer.transport == Transport::Perf;
            let keys = plan.aggregate.iter().flat_map(|aggregate| &aggregate.spec.key);
            for stack in keys.filter_map(|key| key.stack) {
                uses.kernel_stacks |= stack == StackKind::Kernel;
                uses.user_stacks |= stack == StackKind::User;
            }
        }
        uses
    }

    /// How bad it is if something is missing that is used, where `used` tells whether it is.
    fn missing(self, used: bool) -> Mark {
        match (used, self.named) {
            (true, true) => Mark::Problem,
            (true, false) => Mark::Warning,
            (false, _) => Mark::Ok,
        }
    }
}

fn check(name: &str, mark: Mark, found: impl Into<String>, hint: Option<&str>) -> Check {
    Check { name: name.into(), mark, found: found.into(), hint: hint.map(str::to_owned), rights: false }
}

/// All checks of the machine and of this process.
pub(super) fn all(host: &Host, facts: &Facts, subjects: &[Subject]) -> Vec<Check> {
    let uses = Uses::of(subjects);
    let mut checks = vec![check("kernel", Mark::Ok, format!("{}, {}", host.release, facts.machine), None)];
    checks.push(if host.btf && facts.types {
        check("types (BTF)", Mark::Ok, VMLINUX_BTF, None)
    } else {
        let hint =
            "a kernel built with CONFIG_DEBUG_INFO_BTF=y is needed; in a container, mount the host's /sys read-only";
        check("types (BTF)", Mark::Problem, format!("{VMLINUX_BTF} is missing, or can't be read"), Some(hint))
    });
    checks.push(lockdown(host, facts));
    checks.extend(rights(host, facts, uses));
    checks.push(match facts.unprivileged_bpf_disabled {
        Some(0) => check(
            "unprivileged BPF",
            Mark::Ok,
            "kernel.unprivileged_bpf_disabled = 0: every user may load some programs",
            None,
        ),
        Some(value) => {
            let what = format!("kernel.unprivileged_bpf_disabled = {value}: loading programs takes CAP_BPF");
            check("unprivileged BPF", Mark::Ok, what, None)
        }
        None => check("unprivileged BPF", Mark::NotKnown, "kernel.unprivileged_bpf_disabled is not there", None),
    });
    checks.push(match facts.ring_buffer {
        Some(true) => check("ring buffer", Mark::Ok, "there", None),
        Some(false) => {
            let what = "this kernel has none (Linux 5.8 is the first that does): `auto` takes perf buffers";
            check("ring buffer", Mark::Warning, what, Some("`buffer: {type: ringbuf}` fails here: leave it out"))
        }
        None => check("ring buffer", Mark::NotKnown, WITHOUT_ROOT, None),
    });
    checks.push(perf_events(facts, uses));
    checks.push(tracefs(facts, uses));
    checks.push(match facts.ftrace_enabled {
        Some(0) => {
            let what = "kernel.ftrace_enabled = 0: hooks of functions attach, and never fire";
            let mark = if uses.functions { uses.missing(true) } else { Mark::Warning };
            check("ftrace", mark, what, Some("sysctl kernel.ftrace_enabled=1"))
        }
        Some(value) => check("ftrace", Mark::Ok, format!("kernel.ftrace_enabled = {value}"), None),
        None => check(
            "ftrace",
            Mark::Ok,
            "kernel.ftrace_enabled is not there: nothing switches hooks of functions off",
            None,
        ),
    });
    checks.push(kprobes(host, facts, uses));
    checks.push(match run::cgroups() {
        Some(path) => check("cgroups (v2)", Mark::Ok, path.display().to_string(), None),
        None => {
            let hint = "filters `cgroup` and `unit` need them: `mount -t cgroup2 none /sys/fs/cgroup`";
            check("cgroups (v2)", Mark::Warning, "not mounted at /sys/fs/cgroup", Some(hint))
        }
    });
    checks.push(if host.initial_pid_namespace {
        check("pid namespace", Mark::Ok, "the host's", None)
    } else {
        let what =
            "one of its own: pids in filters and events are the host's, and the runner's own events are not left out";
        check("pid namespace", Mark::Warning, what, Some("run it on the host; in Docker, with --pid=host"))
    });
    checks
}

fn lockdown(host: &Host, facts: &Facts) -> Check {
    let file = "/sys/kernel/security/lockdown";
    match (host.lockdown.as_deref(), facts.reads_memory) {
        (Some("confidentiality"), _) | (_, Some(false)) => {
            let hint = "boot with lockdown=integrity or without lockdown; nothing else helps";
            check(
                "lockdown",
                Mark::Problem,
                "confidentiality: no eBPF program may read the kernel's memory",
                Some(hint),
            )
        }
        (Some(mode), _) => check("lockdown", Mark::Ok, mode, None),
        (None, Some(true)) => {
            let what = format!("not `confidentiality`: the kernel was asked ({file} is not there)");
            check("lockdown", Mark::Ok, what, None)
        }
        (None, None) => {
            let what = format!("{file} is not there; {WITHOUT_ROOT}");
            check("lockdown", Mark::NotKnown, what, Some("mount -t securityfs none /sys/kernel/security"))
        }
    }
}

/// Each capability that a run needs, and what cuts them short.
fn rights(host: &Host, facts: &Facts, uses: Uses) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut need = |name: &str, there: bool, mark: Mark, what: &str| {
        let hint = if name == PERF_RIGHT { PERF_HINT } else { GET_RIGHTS };
        let (mark, found, hint) = match there {
            true => (Mark::Ok, format!("there: {what}"), None),
            false => (mark, format!("missing: {what}"), Some(hint.to_owned())),
        };
        checks.push(Check { name: name.into(), mark, found, hint, rights: true });
    };
    let admin = host.has(CAP_SYS_ADMIN);
    need("CAP_BPF", host.has(CAP_BPF) || admin, Mark::Problem, "loads programs and makes their maps");
    need("CAP_PERFMON", host.has(CAP_PERFMON) || admin, Mark::Problem, "lets programs read the kernel's memory");
    if uses.perf_events && facts.perf_event_paranoid.is_some_and(|value| value > 2) {
        let what = "opens perf events, because kernel.perf_event_paranoid is above 2";
        need(PERF_RIGHT, admin, uses.missing(true), what);
    }
    if uses.tracefs {
        let open = matches!(facts.tracefs, Tracefs::Open(_)) || host.has(CAP_DAC_READ_SEARCH);
        need("CAP_DAC_READ_SEARCH", open, uses.missing(true), "reads the numbers of tracepoints in tracefs");
    }
    // Without these, stacks have `[unknown]` in the place of names
    if uses.kernel_stacks {
        need("CAP_SYSLOG", host.has(CAP_SYSLOG), Mark::Warning, "has names for the functions of kernel stacks");
    }
    if uses.user_stacks {
        let what = "has names for the functions of processes' stacks";
        need("CAP_SYS_PTRACE", host.has(CAP_SYS_PTRACE), Mark::Warning, what);
        need("CAP_DAC_READ_SEARCH", host.has(CAP_DAC_READ_SEARCH), Mark::Warning, what);
        need("CAP_CHECKPOINT_RESTORE", host.has(CAP_CHECKPOINT_RESTORE) || admin, Mark::Warning, what);
    }
    if uses.kernel_stacks && facts.kptr_restrict == Some(2) {
        let what = "kernel.kptr_restrict = 2: nobody gets the addresses of functions, kernel stacks have no names";
        checks.push(check("kernel symbols", Mark::Warning, what, Some("sysctl kernel.kptr_restrict=1")));
    }
    let right = |name, mark, found: &str, hint| Check { rights: true, ..check(name, mark, found, Some(hint)) };
    if host.user_namespace {
        let found = "this process is in a user namespace, where its capabilities end";
        checks.push(right("user namespace", Mark::Warning, found, "run it outside, or in a container without one"));
    }
    if host.seccomp {
        let found = "a seccomp filter decides which system calls this process may make";
        let hint = "the container's profile must permit bpf and perf_event_open";
        checks.push(right("seccomp", Mark::Warning, found, hint));
    }
    if host.memlock {
        let found = "limited, and before Linux 5.11 programs and maps count as such";
        checks.push(right(
            "locked memory",
            Mark::Problem,
            found,
            "ulimit -l unlimited; systemd: LimitMEMLOCK=infinity",
        ));
    }
    checks
}

fn perf_events(facts: &Facts, uses: Uses) -> Check {
    let Some(value) = facts.perf_event_paranoid else {
        let what = "kernel.perf_event_paranoid is not there: this kernel has none";
        let mark = uses.missing(uses.perf_events);
        return check("perf events", mark, what, None);
    };
    // Whether that is in the way, the capability's own check tells
    let admin = if value > 2 { ": they are for CAP_SYS_ADMIN" } else { "" };
    check("perf events", Mark::Ok, format!("kernel.perf_event_paranoid = {value}{admin}"), None)
}

fn tracefs(facts: &Facts, uses: Uses) -> Check {
    let unused = if uses.tracefs { "" } else { "; no probe needs it" };
    match &facts.tracefs {
        Tracefs::Open(path) => check("tracefs", Mark::Ok, path.display().to_string(), None),
        Tracefs::Closed(path) => {
            let what = format!("{}, {}{unused}", path.display(), "what is in it is not known without root");
            check("tracefs", if uses.tracefs { Mark::NotKnown } else { Mark::Ok }, what, None)
        }
        Tracefs::Missing => {
            let hint = uses.tracefs.then_some("mount -t tracefs none /sys/kernel/tracing");
            check("tracefs", uses.missing(uses.tracefs), format!("not mounted{unused}"), hint)
        }
    }
}

fn kprobes(host: &Host, facts: &Facts, uses: Uses) -> Check {
    match (host.kprobes, facts.kprobes_enabled) {
        (false, _) => check("kprobes", Mark::Ok, "this kernel has none: programs with another way take that", None),
        (true, Some(false)) => {
            let what = "switched off: they attach, and never fire";
            let mark = if uses.kprobes { uses.missing(true) } else { Mark::Warning };
            check("kprobes", mark, what, Some("echo 1 >/sys/kernel/debug/kprobes/enabled"))
        }
        (true, Some(true)) => check("kprobes", Mark::Ok, "there, and switched on", None),
        (true, None) => {
            let mark = if uses.kprobes { Mark::NotKnown } else { Mark::Ok };
            check("kprobes", mark, "there; whether they are switched on is in debugfs, for root", None)
        }
    }
}

/// Names of a config that only this machine knows: disks, users, cgroups, units.
pub(super) fn names(config: &str, plan: &Plan) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Err(error) = run::resolved(plan) {
        checks.push(check(config, Mark::Problem, error.message, error.hint.as_deref()));
    }
    checks.extend(run::missing_disks(plan).into_iter().map(|what| check(config, Mark::Warning, what, None)));
    checks
}

#[cfg(test)]
mod tests;
