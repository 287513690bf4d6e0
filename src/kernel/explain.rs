//! Converts an error of the kernel to one sentence with what to do. Pure: the state of the machine is an argument.

use libbpf_rs::ErrorKind;

use super::Host;
use crate::error::{Error, Kind};

/// The step that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Load,
    Attach,
}

/// `hook` is the rejected BPF function, if it is known; `log` is the output of libbpf and of the verifier.
pub(super) fn explain(
    host: &Host,
    stage: Stage,
    program: &str,
    hook: Option<&str>,
    error: &libbpf_rs::Error,
    log: &str,
) -> Error {
    let hook = hook.map(str::to_owned).or_else(|| failed_hook(log));
    let what = match &hook {
        Some(hook) => format!("hook `{hook}` of program `{program}`"),
        None => format!("program `{program}`"),
    };
    let kernel = format!("this kernel ({})", host.release);
    let reason = reason(log).map(|line| format!(": {line}")).unwrap_or_default();
    let detail = format!("{error:#}\n{log}");
    let answer = if let Some(exhausted) = exhausted(&detail, &what) {
        exhausted
    } else if let Some(map) = failed_map(log).filter(|_| error.kind() != ErrorKind::PermissionDenied) {
        Error::failed(format!("map `{map}` of program `{program}` can't be created: {}", root_cause(error)))
            .hint("set fewer entries with `maps:`, or a smaller buffer")
    } else if error.kind() == ErrorKind::WouldBlock {
        Error::failed(format!("the kernel was interrupted while it verified {what}")).hint("try again")
    } else if host.lockdown.as_deref() == Some("confidentiality") || refused_read(log) {
        Error::new(
            Kind::NotPermitted,
            format!("the kernel is locked down (mode confidentiality), so no eBPF program may read its memory: {what}"),
        )
        .hint("boot with lockdown=integrity or without lockdown; see /sys/kernel/security/lockdown")
    } else if is_judged(log) {
        // The verifier returns EACCES for a forbidden access: that is not a missing capability
        Error::new(Kind::Broken, format!("{kernel} refuses {what}{reason}")).hint(
            "the kernel has everything that the program requires: please report this, with the output of --verbose",
        )
    } else if error.kind() == ErrorKind::PermissionDenied && host.memlock && is_memlock(log) {
        Error::new(Kind::NotPermitted, format!("the limit of locked memory is too low for {what}"))
            .hint("raise it: `ulimit -l unlimited`, systemd: LimitMEMLOCK=infinity")
    } else if error.kind() == ErrorKind::PermissionDenied {
        let hint = if host.user_namespace {
            "this process is in a user namespace, where root lacks this right: run it outside, or in a container without one"
        } else if host.seccomp {
            "a seccomp filter restricts this process: the container's profile must permit bpf and perf_event_open"
        } else {
            "run it as root; if it is root, check the kernel's lockdown mode and `sysctl kernel.perf_event_paranoid`"
        };
        // libbpf suggests the limit of locked memory for any error
        let reason = if is_memlock(&reason) { String::new() } else { reason };
        Error::new(Kind::NotPermitted, format!("{kernel} does not permit {what}{reason}")).hint(hint)
    } else {
        let verb = if stage == Stage::Load { "refuses" } else { "can't attach" };
        Error::new(Kind::Unsupported, format!("{kernel} {verb} {what}{reason}")).hint(
            "run it with --verbose for the kernel's messages; docs/explanation/limits.md lists what each program requires",
        )
    };
    answer.detail(detail)
}

/// The error for `what`, if a limit on open files was reached: that is no result about the kernel. `error` is text,
/// because the libraries wrap the number; if libbpf had no descriptor for a map, only the verifier's message shows it.
pub(super) fn exhausted(error: &str, what: &str) -> Option<Error> {
    let of_process = ["(os error 24)", "-EMFILE", "is not pointing to valid bpf_map"];
    let (limit, hint) = if of_process.iter().any(|words| error.contains(words)) {
        ("the limit of open files is too low", "raise it: `ulimit -n`, systemd: LimitNOFILE=")
    } else if error.contains("(os error 23)") {
        ("the machine's limit of open files is too low", "raise it: `sysctl fs.file-max`")
    } else {
        return None;
    };
    Some(Error::failed(format!("{limit}: {what} can't be loaded and attached")).hint(hint))
}

/// The BPF function that libbpf reports as the one that failed.
fn failed_hook(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.starts_with("libbpf: prog '") && line.contains("fail"))?;
    Some(line.strip_prefix("libbpf: prog '")?.split_once('\'')?.0.to_owned())
}

/// Lockdown appears as a missing helper: all programs here read the kernel's memory, and only lockdown forbids that.
/// (libbpf reports the older helper name instead of the rejected one.) The file with the mode may not be mounted.
fn refused_read(log: &str) -> bool {
    log.contains("unknown func bpf_probe_read") || log.contains("use helper bpf_probe_read")
}

/// The map that libbpf could not create, from its log.
fn failed_map(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.starts_with("libbpf: map '") && line.contains("failed to create"))?;
    Some(line.strip_prefix("libbpf: map '")?.split_once('\'')?.0.to_owned())
}

/// The kernel's error, without the text that the libraries add.
fn root_cause(error: &libbpf_rs::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The line with the reason, from a log that has mostly other output.
fn reason(log: &str) -> Option<String> {
    const TELLING: &[&str] = &[
        "cannot pass",
        "invalid func",
        "unknown func",
        "program of this type cannot use helper",
        "not found in kernel BTF",
        "failed to find kernel BTF type ID",
        "is not supported",
        "is not allowed",
        "too large",
        "failed to resolve CO-RE relocation",
        "invalid mem access",
        "R0 invalid",
        "invalid access",
        "Permission denied",
    ];
    let line = log.lines().find(|line| TELLING.iter().any(|telling| line.contains(telling)))?;
    Some(line.trim_start_matches("libbpf: ").trim().to_owned())
}

/// Whether the verifier rejected what the program does, not something that the kernel lacks.
fn is_judged(log: &str) -> bool {
    let lacking = ["unknown func", "invalid func", "cannot use helper", "not supported", "CO-RE relocation"];
    log.contains("BEGIN PROG LOAD LOG")
        && log.contains("processed ")
        && !lacking.iter().any(|words| log.contains(words))
}

/// The function and the reason of a rejection, for a variant that is not used because of it.
pub(super) fn refusal(error: &libbpf_rs::Error, log: &str) -> (Option<String>, String) {
    let words = reason(log).unwrap_or_else(|| root_cause(error));
    (failed_hook(log), words)
}

/// Why a hook with `section` was refused, if the error alone has little information.
pub(super) fn in_words(host: &Host, section: &str, kind: ErrorKind) -> Option<&'static str> {
    let way = section.split('/').next().unwrap_or_default();
    match (way, kind) {
        ("kprobe" | "kretprobe", _) if !host.kprobes => Some("this kernel has no kprobes"),
        ("fentry" | "fexit", ErrorKind::PermissionDenied) if host.has_all_rights() => {
            Some("this kernel does not allow fentry and fexit (EPERM: lockdown, or built without them)")
        }
        _ => None,
    }
}

fn is_memlock(log: &str) -> bool {
    log.contains("RLIMIT_MEMLOCK") || log.contains("ulimit -l")
}

#[cfg(test)]
mod tests;
