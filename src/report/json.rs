//! Makes the JSON report of a run.

use std::collections::BTreeMap;

use super::format::{
    BufferJson, CgroupJson, ClockStepJson, ConfigJson, FORMAT, FileJson, HostJson, IncludedJson, MapJson,
    PrivilegesJson, ProbeJson, ReportJson, SymbolsJson, WindowJson,
};
use super::{Account, CgroupAccount, ClockStep, FileAccount, MapAccount, Report, Skipped};
use crate::config::Arguments;
use crate::config::shorthand::Output;
use crate::output::time::push_rfc3339;
use crate::symbols::SymbolCounts;

/// What a report has besides the counts: config and arguments.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// The config as the command line named it.
    pub config: String,
    /// SHA-256 of the config's text, hexadecimal.
    pub config_sha256: String,
    /// The files that it includes, each with its SHA-256.
    pub included: Vec<(String, String)>,
    /// Arguments that override it.
    pub arguments: Arguments,
    /// The capture's name.
    pub name: String,
    /// The config's labels.
    pub labels: BTreeMap<String, String>,
}

impl Report {
    /// The report in its published format.
    pub fn to_json(&self, run: &Circumstances) -> ReportJson {
        let uname = rustix::system::uname();
        let verdict = self.verdict();
        let included = |(path, sha256): &(String, String)| IncludedJson { path: path.clone(), sha256: sha256.clone() };
        ReportJson {
            format: FORMAT,
            ebpf_run: env!("CARGO_PKG_VERSION").to_owned(),
            name: run.name.clone(),
            labels: run.labels.clone(),
            config: ConfigJson {
                path: run.config.clone(),
                sha256: run.config_sha256.clone(),
                included: run.included.iter().map(included).collect(),
                filter: run.arguments.filters.clone(),
                output: run.arguments.output.as_ref().map(Output::argument).map(Into::into),
                set: run.arguments.sets.clone(),
            },
            host: HostJson {
                name: crate::kernel::Host::name(),
                kernel: uname.release().to_string_lossy().into_owned(),
                machine: uname.machine().to_string_lossy().into_owned(),
                boot_id: boot_id(),
            },
            window: WindowJson {
                start: rfc3339(self.start.wall),
                end: rfc3339(self.end_wall()),
                start_monotonic_ns: self.start.monotonic,
                end_monotonic_ns: self.start.monotonic.saturating_add(self.elapsed_ns()),
                ended_by: self.end,
            },
            privileges: PrivilegesJson {
                user: rustix::process::geteuid().as_raw(),
                capabilities: self.capabilities.clone(),
            },
            max_loss: self.max_loss,
            exit_code: verdict.as_ref().map_or(0, |error| error.kind.code()),
            error: verdict.map(|error| error.message),
            reconciles: self.accounts.iter().all(Account::reconciles),
            probes: self.accounts.iter().map(probe).chain(self.skipped.iter().map(skipped)).collect(),
            files: self.files.iter().map(file).collect(),
            clock_steps: self.clock_steps.iter().map(clock_step).collect(),
            cgroups: self.cgroups.iter().map(cgroup).collect(),
            unknown_time_zone: self.unknown_time_zone.clone(),
            symbol_helper_restarts: self.symbol_helpers_replaced,
        }
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

fn skipped(Skipped { probe, program, verdict, reason }: &Skipped) -> ProbeJson {
    ProbeJson {
        name: probe.clone(),
        program: program.clone(),
        verdict: *verdict,
        reason: Some(reason.clone()),
        hooks: Vec::new(),
        variants: BTreeMap::new(),
        reconciles: true,
        seen: 0,
        received: 0,
        aggregated: None,
        written: 0,
        warmup: 0,
        after_window: 0,
        discarded: 0,
        lost: 0,
        lost_buffer_full: 0,
        lost_map_full: 0,
        lost_sink: 0,
        lost_other: 0,
        incomplete: 0,
        recursion_misses: 0,
        unseen: 0,
        in_flight: None,
        out_of_order: 0,
        maps: BTreeMap::new(),
        cpus_not_sampled: Vec::new(),
        symbols: None,
        buffer: None,
    }
}

fn clock_step(step: &ClockStep) -> ClockStepJson {
    ClockStepJson {
        jump: step.jump,
        monotonic_ns: step.noticed.monotonic,
        from: rfc3339(step.before()),
        to: rfc3339(step.noticed.wall),
        by_ns: step.by,
    }
}

fn cgroup(CgroupAccount { filter, value, probes, restarts, absent, present }: &CgroupAccount) -> CgroupJson {
    CgroupJson {
        filter: filter.clone(),
        value: value.clone(),
        probes: probes.clone(),
        restarts: *restarts,
        absent_ns: u64::try_from(absent.as_nanos()).unwrap_or(u64::MAX),
        present: *present,
    }
}

fn file(FileAccount { sink, path, bytes, complete }: &FileAccount) -> FileJson {
    FileJson { sink: sink.clone(), path: path.to_string_lossy().into_owned(), bytes: *bytes, complete: *complete }
}

fn probe(account: &Account) -> ProbeJson {
    let kernel = &account.kernel;
    ProbeJson {
        name: account.probe.clone(),
        program: account.program.clone(),
        verdict: account.verdict,
        reason: account.reason.clone(),
        hooks: account.hooks.clone(),
        variants: account.variants.clone(),
        reconciles: account.reconciles(),
        seen: kernel.seen,
        received: account.received,
        aggregated: account.counted,
        written: account.written,
        warmup: account.warmup,
        after_window: account.after_window,
        discarded: account.discarded,
        lost: account.lost(),
        lost_buffer_full: kernel.lost_buffer_full,
        lost_map_full: kernel.lost_map_full,
        lost_sink: account.lost_queue_full,
        lost_other: kernel.lost_other.saturating_add(account.lost_other),
        incomplete: account.incomplete(),
        recursion_misses: account.recursion_misses,
        unseen: account.unseen(),
        in_flight: account.in_flight(),
        out_of_order: account.out_of_order,
        maps: account.maps.iter().map(map).collect(),
        cpus_not_sampled: account.cpus_not_sampled.clone(),
        symbols: (account.symbols.frames > 0).then(|| symbols(&account.symbols)),
        buffer: account.counted.is_none().then(|| buffer_of(account)),
    }
}

fn buffer_of(account: &Account) -> BufferJson {
    let buffer = &account.buffer;
    BufferJson {
        description: buffer.to_string(),
        size: buffer.effective,
        requested: buffer.asked,
        memory: account.memory,
        peak_unread: account.peak_unread,
        perf_lost: account.perf_lost,
        suggested_size: account.suggested_size,
    }
}

fn symbols(SymbolCounts { frames, unresolved }: &SymbolCounts) -> SymbolsJson {
    let unresolved = unresolved.iter().map(|(cause, count)| (cause.key().to_owned(), *count)).collect();
    SymbolsJson { frames: *frames, unresolved }
}

fn map(MapAccount { name, max_entries, insert_failures, .. }: &MapAccount) -> (String, MapJson) {
    (name.clone(), MapJson { max_entries: *max_entries, insert_failures: *insert_failures })
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
