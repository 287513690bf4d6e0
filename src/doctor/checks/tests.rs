use super::*;
use crate::catalog::Catalog;
use crate::doctor::by_defaults;
use crate::kernel::{HookState, Preflight};

/// A machine on which everything is there.
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

fn facts() -> HostCapabilities {
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

/// A probe of a config that takes every hook of `program` whose section begins with `way`.
fn subject(program: &str, way: &str) -> ProbeDiagnosis {
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
fn expect(host: &Host, facts: &HostCapabilities, subjects: &[ProbeDiagnosis], name: &str, mark: Status, words: &str) {
    let checks = all(host, facts, subjects);
    let check = checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name}: {checks:?}"));
    assert_eq!(check.status, mark, "{check:?}");
    assert!(check.found.contains(words), "{check:?}");
    assert!(mark == Status::Ok || mark == Status::NotKnown || check.hint.is_some(), "what to do: {check:?}");
}

#[test]
fn a_sound_machine_has_nothing_to_be_told() {
    let all = all(&host(), &facts(), &[subject("profile", "perf_event"), subject("tcpconnect", "kprobe")]);
    assert!(all.iter().all(|check| check.status == Status::Ok), "{all:?}");
}

#[test]
fn lockdown_is_known_with_and_without_its_file() {
    let (mut host, mut facts) = (host(), facts());
    expect(&host, &facts, &[], "lockdown", Status::Ok, "none");
    host.lockdown = Some("confidentiality".into());
    expect(&host, &facts, &[], "lockdown", Status::Problem, "no eBPF program may read");
    host.lockdown = None;
    expect(&host, &facts, &[], "lockdown", Status::Ok, "the kernel was asked");
    facts.reads_memory = Some(false);
    expect(&host, &facts, &[], "lockdown", Status::Problem, "confidentiality");
    facts.reads_memory = None;
    expect(&host, &facts, &[], "lockdown", Status::NotKnown, "not known without root");
}

#[test]
fn the_rights_that_are_needed_follow_from_the_hooks() {
    let nobody = Host { capabilities: 0, ..host() };
    let strict = HostCapabilities { perf_event_paranoid: Some(3), tracefs: Tracefs::Closed("/t".into()), ..facts() };
    let needed = |facts: &HostCapabilities, subject: ProbeDiagnosis| -> Vec<(String, Status)> {
        let checks = all(&nobody, facts, &[subject]).into_iter().filter(|check| check.name.starts_with("CAP_"));
        checks.map(|check| (check.name, check.status)).collect()
    };
    let (bpf, perfmon) = (("CAP_BPF".to_owned(), Status::Problem), ("CAP_PERFMON".to_owned(), Status::Problem));
    assert_eq!(needed(&strict, subject("biosnoop", "tp_btf")), [bpf.clone(), perfmon.clone()]);
    let admin = ("CAP_SYS_ADMIN".to_owned(), Status::Problem);
    assert_eq!(needed(&strict, subject("tcpconnect", "kprobe")), [bpf.clone(), perfmon.clone(), admin.clone()]);
    assert_eq!(needed(&facts(), subject("tcpconnect", "kprobe")), [bpf.clone(), perfmon.clone()]);
    let mut tracepoint = subject("tcpconnect", "kprobe");
    tracepoint.preflight.hooks[0].hook.section = "tp/sched/sched_switch".into();
    tracepoint.preflight.hooks[0].taken = true;
    let search = ("CAP_DAC_READ_SEARCH".to_owned(), Status::Problem);
    assert_eq!(needed(&strict, tracepoint), [bpf.clone(), perfmon.clone(), admin, search]);
    let stacks: Vec<String> = needed(&facts(), subject("profile", "perf_event")).into_iter().map(|(n, _)| n).collect();
    let names = ["CAP_SYSLOG", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_CHECKPOINT_RESTORE"];
    assert_eq!(stacks[2..], names, "names of stacks");
    expect(&nobody, &strict, &[subject("profile", "perf_event")], "CAP_SYS_ADMIN", Status::Problem, "above 2");
    expect(&nobody, &strict, &[subject("biosnoop", "tp_btf")], "perf events", Status::Ok, "");
}

#[test]
fn switches_matter_to_those_who_use_what_they_switch() {
    let off = HostCapabilities { ftrace_enabled: Some(0), kprobes_enabled: Some(false), ..facts() };
    let (function, tracepoint) = (subject("tcpconnect", "kprobe"), subject("biosnoop", "tp_btf"));
    expect(&host(), &off, std::slice::from_ref(&function), "ftrace", Status::Problem, "never fire");
    expect(&host(), &off, std::slice::from_ref(&function), "kprobes", Status::Problem, "never fire");
    expect(&host(), &off, std::slice::from_ref(&tracepoint), "ftrace", Status::Warning, "never fire");
    expect(&host(), &off, &[tracepoint], "kprobes", Status::Warning, "switched off");
    let old = HostCapabilities { ring_buffer: Some(false), ..facts() };
    expect(&host(), &old, &[], "ring buffer", Status::Warning, "perf buffers");
    let none = HostCapabilities { tracefs: Tracefs::Missing, ..facts() };
    expect(&host(), &none, &[], "tracefs", Status::Ok, "no probe needs it");
    let inside = Host { initial_pid_namespace: false, user_namespace: true, seccomp: true, memlock: true, ..host() };
    expect(&inside, &facts(), &[], "pid namespace", Status::Warning, "the host's");
    expect(&inside, &facts(), &[], "locked memory", Status::Problem, "5.11");
    expect(&inside, &facts(), &[], "seccomp", Status::Warning, "system calls");
    let hidden = HostCapabilities { types: false, ..facts() };
    expect(&host(), &hidden, &[], "types (BTF)", Status::Problem, "can't be read");
}
