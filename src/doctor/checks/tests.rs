use super::*;
use crate::catalog::Catalog;
use crate::doctor::by_defaults;
use crate::kernel::{HookState, Preflight};

/// A machine with all features.
fn host() -> Host {
    Host {
        release: "6.18.0".into(),
        capabilities: u64::MAX,
        btf: true,
        lockdown: Some("none".into()),
        initial_pid_namespace: true,
        kprobes: true,
        ..Host::default()
    }
}

fn capabilities() -> HostCapabilities {
    HostCapabilities {
        machine: "x86_64".into(),
        types: true,
        reads_memory: Some(true),
        ring_buffer: Some(true),
        unprivileged_bpf_disabled: Some(2),
        perf_event_paranoid: Some(2),
        kptr_restrict: Some(1),
        ftrace_enabled: Some(1),
        kprobes_enabled: Some(true),
        tracefs: Tracefs::Open("/sys/kernel/tracing".into()),
    }
}

/// A probe of a config that uses every hook of `program` whose section begins with `way`.
fn probe(program: &str, way: &str) -> ProbeDiagnosis {
    let plan = by_defaults(program, &Catalog::embedded()).expect("it has a plan");
    let state = |hook: &crate::catalog::Hook| HookState {
        hook: hook.clone(),
        left_out: None,
        missing: None,
        refused: false,
        taken: hook.section.starts_with(way),
    };
    let hooks = plan.program.hooks.iter().map(state).collect();
    let preflight =
        Preflight { verdict: None, reason: None, error: None, hooks, variants: Default::default(), loaded: true };
    ProbeDiagnosis { config: Some("t.yaml".into()), plan, preflight }
}

#[track_caller]
fn expect(
    host: &Host,
    capabilities: &HostCapabilities,
    probes: &[ProbeDiagnosis],
    name: &str,
    mark: Status,
    words: &str,
) {
    let checks = all(host, capabilities, probes);
    let check = checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name}: {checks:?}"));
    assert_eq!(check.status, mark, "{check:?}");
    assert!(check.found.contains(words), "{check:?}");
    assert!(mark == Status::Ok || mark == Status::NotKnown || check.hint.is_some(), "what to do: {check:?}");
}

#[test]
fn a_machine_with_all_features_has_no_problems() {
    let all = all(&host(), &capabilities(), &[probe("profile", "perf_event"), probe("tcpconnect", "kprobe")]);
    assert!(all.iter().all(|check| check.status == Status::Ok), "{all:?}");
}

#[test]
fn lockdown_is_known_with_and_without_its_file() {
    let (mut host, mut capabilities) = (host(), capabilities());
    expect(&host, &capabilities, &[], "lockdown", Status::Ok, "none");
    host.lockdown = Some("confidentiality".into());
    expect(&host, &capabilities, &[], "lockdown", Status::Problem, "no eBPF program may read");
    host.lockdown = None;
    expect(&host, &capabilities, &[], "lockdown", Status::Ok, "tested with a program");
    capabilities.reads_memory = Some(false);
    expect(&host, &capabilities, &[], "lockdown", Status::Problem, "confidentiality");
    capabilities.reads_memory = None;
    expect(&host, &capabilities, &[], "lockdown", Status::NotKnown, "not known without root");
}

#[test]
fn the_rights_that_are_needed_follow_from_the_hooks() {
    let unprivileged = Host { capabilities: 0, ..host() };
    let strict =
        HostCapabilities { perf_event_paranoid: Some(3), tracefs: Tracefs::Closed("/t".into()), ..capabilities() };
    let needed = |capabilities: &HostCapabilities, probe: ProbeDiagnosis| -> Vec<(String, Status)> {
        let checks =
            all(&unprivileged, capabilities, &[probe]).into_iter().filter(|check| check.name.starts_with("CAP_"));
        checks.map(|check| (check.name, check.status)).collect()
    };
    let (bpf, perfmon) = (("CAP_BPF".to_owned(), Status::Problem), ("CAP_PERFMON".to_owned(), Status::Problem));
    assert_eq!(needed(&strict, probe("biosnoop", "tp_btf")), [bpf.clone(), perfmon.clone()]);
    let admin = ("CAP_SYS_ADMIN".to_owned(), Status::Problem);
    assert_eq!(needed(&strict, probe("tcpconnect", "kprobe")), [bpf.clone(), perfmon.clone(), admin.clone()]);
    assert_eq!(needed(&capabilities(), probe("tcpconnect", "kprobe")), [bpf.clone(), perfmon.clone()]);
    let mut tracepoint = probe("tcpconnect", "kprobe");
    tracepoint.preflight.hooks[0].hook.section = "tp/sched/sched_switch".into();
    tracepoint.preflight.hooks[0].taken = true;
    let search = ("CAP_DAC_READ_SEARCH".to_owned(), Status::Problem);
    assert_eq!(needed(&strict, tracepoint), [bpf.clone(), perfmon.clone(), admin, search]);
    let stacks: Vec<String> =
        needed(&capabilities(), probe("profile", "perf_event")).into_iter().map(|(n, _)| n).collect();
    let names = ["CAP_SYSLOG", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_CHECKPOINT_RESTORE"];
    assert_eq!(stacks[2..], names, "names of stacks");
    expect(&unprivileged, &strict, &[probe("profile", "perf_event")], "CAP_SYS_ADMIN", Status::Problem, "above 2");
    expect(&unprivileged, &strict, &[probe("biosnoop", "tp_btf")], "perf events", Status::Ok, "");
}

#[test]
fn disabled_features_are_problems_for_the_probes_that_use_them() {
    let off = HostCapabilities { ftrace_enabled: Some(0), kprobes_enabled: Some(false), ..capabilities() };
    let (function, tracepoint) = (probe("tcpconnect", "kprobe"), probe("biosnoop", "tp_btf"));
    expect(&host(), &off, std::slice::from_ref(&function), "ftrace", Status::Problem, "never run");
    expect(&host(), &off, std::slice::from_ref(&function), "kprobes", Status::Problem, "never run");
    expect(&host(), &off, std::slice::from_ref(&tracepoint), "ftrace", Status::Warning, "never run");
    expect(&host(), &off, &[tracepoint], "kprobes", Status::Warning, "disabled");
    let old = HostCapabilities { ring_buffer: Some(false), ..capabilities() };
    expect(&host(), &old, &[], "ring buffer", Status::Warning, "perf buffers");
    let none = HostCapabilities { tracefs: Tracefs::Missing, ..capabilities() };
    expect(&host(), &none, &[], "tracefs", Status::Ok, "no probe requires it");
    let inside = Host { initial_pid_namespace: false, user_namespace: true, seccomp: true, memlock: true, ..host() };
    expect(&inside, &capabilities(), &[], "pid namespace", Status::Warning, "the host's");
    expect(&inside, &capabilities(), &[], "locked memory", Status::Problem, "5.11");
    expect(&inside, &capabilities(), &[], "seccomp", Status::Warning, "system calls");
    let hidden = HostCapabilities { types: false, ..capabilities() };
    expect(&host(), &hidden, &[], "types (BTF)", Status::Problem, "can't be read");
}
