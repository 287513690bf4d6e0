//! The report as JSON, for machines: everything that is known of one run.

use serde_json::{Map, Value, json};

use super::{Account, CgroupAccount, ClockStep, FileAccount, MapAccount, Report, Skipped};
use crate::config::Arguments;
use crate::config::shorthand::Output;
use crate::output::time::push_rfc3339;
use crate::symbols::SymbolCounts;

/// Version of the report's format.
pub(super) const FORMAT: u32 = 1;

/// What a report says of the run besides its books.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// The config as the command line named it.
    pub config: String,
    /// SHA-256 of the config's text, hexadecimal.
    pub config_sha256: String,
    /// The files that it includes, each with its SHA-256.
    pub included: Vec<(String, String)>,
    /// What the command line says over it.
    pub arguments: Arguments,
    /// The capture's name.
    pub name: String,
    /// The config's labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

impl Report {
    /// The report as JSON.
    pub fn to_json(&self, run: &Circumstances) -> Value {
        let uname = rustix::system::uname();
        let verdict = self.verdict();
        json!({
            "format": FORMAT,
            "ebpf_run": env!("CARGO_PKG_VERSION"),
            "name": run.name,
            "labels": run.labels,
            "config": {
                "path": run.config,
                "sha256": run.config_sha256,
                "included": run.included.iter().map(|(path, hash)| json!({"path": path, "sha256": hash})).collect::<Vec<_>>(),
                "filter": run.arguments.filters,
                "output": run.arguments.output.as_ref().map(Output::argument),
                "set": run.arguments.sets,
            },
            "host": {
                "name": crate::kernel::Host::name(),
                "kernel": uname.release().to_string_lossy(),
                "machine": uname.machine().to_string_lossy(),
                "boot_id": boot_id(),
            },
            "window": {
                "start": rfc3339(self.start.wall),
                "end": rfc3339(self.end_wall()),
                "start_monotonic_ns": self.start.monotonic,
                "end_monotonic_ns": self.start.monotonic.saturating_add(self.elapsed_ns()),
                "ended_by": self.end.key(),
            },
            "privileges": { "user": rustix::process::geteuid().as_raw(), "capabilities": self.capabilities },
            "max_loss": self.max_loss,
            "balances": self.accounts.iter().all(Account::balances),
            "clock_steps": self.clock_steps.iter().map(clock_step).collect::<Vec<_>>(),
            "cgroups": self.cgroups.iter().map(cgroup).collect::<Vec<_>>(),
            "unknown_time_zone": self.unknown_time_zone,
            "symbol_helpers_replaced": self.symbol_helpers_replaced,
            "files": self.files.iter().map(file).collect::<Vec<_>>(),
            "exit_code": verdict.as_ref().map_or(0, |error| error.kind.code()),
            "error": verdict.map(|error| error.message),
            "probes": self.accounts.iter().map(probe).chain(self.skipped.iter().map(skipped)).collect::<Vec<_>>(),
        })
    }

    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// What the wall clock showed at the end.
    fn end_wall(&self) -> i64 {
        let jumped = self.clock_steps.iter().fold(0, |sum: i64, step| sum.saturating_add(step.by));
        self.start.wall.saturating_add_unsigned(self.elapsed_ns()).saturating_add(jumped)
    }
}

fn skipped(Skipped { probe, program, verdict, reason }: &Skipped) -> Value {
    json!({
        "name": probe,
        "program": program,
        "verdict": verdict.key(),
        "reason": reason,
        "hooks": [],
        "variants": {},
        "seen": 0,
        "received": 0,
        "written": 0,
        "lost": 0,
    })
}

fn clock_step(step: &ClockStep) -> Value {
    json!({
        "jump": step.jump.key(),
        "monotonic_ns": step.noticed.monotonic,
        "from": rfc3339(step.before()),
        "to": rfc3339(step.noticed.wall),
        "by_ns": step.by,
    })
}

fn cgroup(CgroupAccount { filter, value, probes, restarts, absent, present }: &CgroupAccount) -> Value {
    json!({
        "filter": filter,
        "value": value,
        "probes": probes,
        "restarts": restarts,
        "absent_ns": u64::try_from(absent.as_nanos()).unwrap_or(u64::MAX),
        "present": present,
    })
}

fn file(FileAccount { sink, path, bytes, whole }: &FileAccount) -> Value {
    json!({ "sink": sink, "path": path.to_string_lossy(), "bytes": bytes, "whole": whole })
}

fn probe(account: &Account) -> Value {
    let kernel = &account.kernel;
    json!({
        "name": account.probe,
        "program": account.program,
        "verdict": account.verdict.key(),
        "reason": account.reason,
        "hooks": account.hooks,
        "variants": account.variants,
        "seen": kernel.seen,
        "received": account.received,
        "counted": account.counted,
        "written": account.written,
        "lost": account.lost(),
        "lost_buffer_full": kernel.lost_buffer_full,
        "lost_map_full": kernel.lost_map_full,
        "lost_sink": account.lost_queue_full,
        "lost_other": kernel.lost_other.saturating_add(account.lost_other),
        "warmup": account.warmup,
        "after_end": account.after_end,
        "unwritten": account.unwritten,
        "missed": account.missed,
        "incomplete": account.incomplete(),
        "unseen": account.unseen(),
        "under_way": account.under_way(),
        "late": account.late,
        "balances": account.balances(),
        "maps": account.maps.iter().map(map).collect::<Map<_, _>>(),
        "cpus_not_sampled": account.cpus_not_sampled,
        "symbols": (account.symbols.frames > 0).then(|| symbols(&account.symbols)),
        "buffer": account.counted.is_none().then(|| buffer_of(account)),
    })
}

fn buffer_of(account: &Account) -> Value {
    let buffer = &account.buffer;
    json!({
        "description": buffer.to_string(),
        "size": buffer.effective,
        "asked": buffer.asked,
        "memory": account.memory,
        "peak_unread": account.peak_unread,
        "lost_told_by_kernel": account.lost_told,
        "would_have_held": account.would_have_held,
    })
}

fn symbols(SymbolCounts { frames, unresolved }: &SymbolCounts) -> Value {
    let unresolved: Map<_, _> =
        unresolved.iter().map(|(cause, count)| (cause.key().to_owned(), json!(count))).collect();
    json!({ "frames": frames, "unresolved": unresolved })
}

fn map(MapAccount { name, max_entries, refused, .. }: &MapAccount) -> (String, Value) {
    (name.clone(), json!({ "max_entries": max_entries, "refused": refused }))
}

fn rfc3339(time: i64) -> String {
    let mut out = String::new();
    push_rfc3339(time, &mut out);
    out
}

fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}
