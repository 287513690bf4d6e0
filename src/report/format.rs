//! The report as JSON: its types are its format. `schemas/report.schema.json` and
//! `docs/reference/report.md` are generated from them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{End, Jump};
use crate::kernel::Verdict;

/// Version of the report's format.
pub const FORMAT: u32 = 2;

/// JSON Schema of the format.
pub const SCHEMA: &str = include_str!("../../schemas/report.schema.json");

/// The report of one run, as `--report FILE` writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReportJson {
    /// Version of this format: 2.
    #[cfg_attr(test, schemars(extend("const" = FORMAT)))]
    pub format: u32,
    /// Version of `ebpf-run`.
    pub ebpf_run: String,
    /// Name of the capture.
    pub name: String,
    /// Labels of the config.
    pub labels: BTreeMap<String, String>,
    /// The config and the arguments that change it.
    pub config: ConfigJson,
    /// The host.
    pub host: HostJson,
    /// When the window began and ended, and why it ended.
    pub window: WindowJson,
    /// With which rights it ran.
    pub privileges: PrivilegesJson,
    /// Share of the events that may be missing, 0 to 1.
    pub max_loss: f64,
    /// Exit code of the run.
    pub exit_code: u8,
    /// Message of the error, if the exit code is not 0.
    pub error: Option<String>,
    /// Whether the counts of kernel and user space reconcile for all probes.
    pub reconciles: bool,
    /// The probes, those that were skipped last.
    pub probes: Vec<ProbeJson>,
    /// The files that the sinks wrote.
    pub files: Vec<FileJson>,
    /// Steps of the wall clock in the window.
    pub clock_steps: Vec<ClockStepJson>,
    /// Cgroups and units that filters name.
    pub cgroups: Vec<CgroupJson>,
    /// Time zone of the host, such as `TZ=Europe/Nowhere`, if it is unknown and local times were written in UTC.
    pub unknown_time_zone: Option<String>,
    /// How often the process that resolves symbols crashed or did not answer, and was replaced.
    pub symbol_helper_restarts: u64,
}

/// The config and the arguments that change it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfigJson {
    /// Path or name, as on the command line.
    pub path: String,
    /// SHA-256 of the text, hexadecimal.
    pub sha256: String,
    /// Files that the config includes.
    pub included: Vec<IncludedJson>,
    /// Arguments of `--filter`.
    pub filter: Vec<String>,
    /// FILE of `--output`, or `--json`.
    pub output: Option<String>,
    /// Arguments of `--set`.
    pub set: Vec<String>,
}

/// A file that the config includes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IncludedJson {
    /// Path, from the working directory.
    pub path: String,
    /// SHA-256 of the text, hexadecimal.
    pub sha256: String,
}

/// The host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostJson {
    /// Host name.
    pub name: String,
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel: String,
    /// Architecture, as `uname -m` prints it.
    pub machine: String,
    /// Id of the boot; monotonic times compare within one boot only.
    pub boot_id: Option<String>,
}

/// When the window began and ended, and why it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WindowJson {
    /// Wall-clock time of the beginning, RFC 3339.
    pub start: String,
    /// Wall-clock time of the end, RFC 3339.
    pub end: String,
    /// Beginning on the clock of `ts`, nanoseconds.
    pub start_monotonic_ns: u64,
    /// End on the clock of `ts`, nanoseconds.
    pub end_monotonic_ns: u64,
    /// Why the window ended.
    pub ended_by: End,
}

/// With which rights the capture ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PrivilegesJson {
    /// Effective user id.
    pub user: u32,
    /// Capabilities that were kept after everything was attached; null if none was dropped.
    pub capabilities: Option<Vec<String>>,
}

/// A step of the wall clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClockStepJson {
    /// Cause of the step.
    pub jump: Jump,
    /// Records with this `ts` or a later one have the new time.
    pub monotonic_ns: u64,
    /// Wall-clock time before the step, RFC 3339.
    pub from: String,
    /// Wall-clock time after the step, RFC 3339.
    pub to: String,
    /// Nanoseconds; negative if the clock was set back.
    pub by_ns: i64,
}

/// A cgroup or unit that a filter names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CgroupJson {
    /// The filter: `cgroup` or `unit`.
    pub filter: String,
    /// The value of the filter.
    pub value: String,
    /// Probes with this filter.
    pub probes: Vec<String>,
    /// How often the cgroup was made again.
    pub restarts: u64,
    /// How long it did not exist, nanoseconds.
    pub absent_ns: u64,
    /// Whether it existed at the end.
    pub present: bool,
}

/// A file that a sink wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileJson {
    /// Name of the sink.
    pub sink: String,
    /// Path of the file.
    pub path: String,
    /// Size before compression.
    pub bytes: u64,
    /// Whether the file is complete; an incomplete one ends in `.partial`.
    pub complete: bool,
}

/// What became of a probe and of its events. A probe that was skipped has no hooks, and its counts are 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProbeJson {
    /// Name of the probe.
    pub name: String,
    /// Name of the program.
    pub program: String,
    /// How the probe runs on this kernel.
    pub verdict: Verdict,
    /// Why the verdict is not `ok`.
    pub reason: Option<String>,
    /// Hooks that were attached.
    pub hooks: Vec<String>,
    /// The variant that was attached, for each group of alternatives.
    pub variants: BTreeMap<String, String>,
    /// Whether the counts of kernel and user space reconcile.
    pub reconciles: bool,
    /// Events that passed all filters, counted in the kernel.
    pub seen: u64,
    /// Records that were read from the buffer in the window; rows, for an aggregating program.
    pub received: u64,
    /// Aggregating programs: events in the rows.
    pub aggregated: Option<u64>,
    /// Records that all sinks of the probe wrote.
    pub written: u64,
    /// Events before the window began, in its warm-up. They are not written.
    pub warmup: u64,
    /// Records that came after `max_events` or `max_bytes` was reached. They are not written.
    pub after_window: u64,
    /// Records that were received and not written, because the output ended.
    pub discarded: u64,
    /// Events that are missing in the output: the sum of the four counts below.
    pub lost: u64,
    /// Lost because the buffer was full.
    pub lost_buffer_full: u64,
    /// Lost because a map was full.
    pub lost_map_full: u64,
    /// Lost because the sinks were too slow.
    pub lost_sink: u64,
    /// Lost by another cause: no scratch space, no perf buffer on the CPU, or a template that failed.
    pub lost_other: u64,
    /// Events in the output that lack a stack or a time, because a map was full.
    pub incomplete: u64,
    /// How often the kernel skipped the program because it was running on that CPU already: an upper bound of further
    /// missing events.
    pub recursion_misses: u64,
    /// What began and whose end no hook saw: an upper bound of further missing events.
    pub unseen: u64,
    /// What began and had not ended at the end of the window; null if the program does not follow anything to its end.
    pub in_flight: Option<u64>,
    /// Records that arrived too late to be sorted by time. They are written.
    pub out_of_order: u64,
    /// Maps of the program by name.
    pub maps: BTreeMap<String, MapJson>,
    /// CPUs that went offline or came online in the window and are not sampled since.
    pub cpus_not_sampled: Vec<u32>,
    /// Programs with stacks: how many frames have a name.
    pub symbols: Option<SymbolsJson>,
    /// The buffer; null for an aggregating program.
    pub buffer: Option<BufferJson>,
}

/// A map of a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MapJson {
    /// Entries that fit.
    pub max_entries: u32,
    /// Inserts that failed.
    pub insert_failures: u64,
}

/// Frames of the stacks of all snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SymbolsJson {
    /// All frames.
    pub frames: u64,
    /// Frames without a name, by cause: `no_symbol` `no_file` `file_refused` `process_gone` `not_permitted` `not_mapped`
    /// `timed_out` `no_helper` `pid_namespace` `no_room`.
    pub unresolved: BTreeMap<String, u64>,
}

/// The buffer between kernel and user space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BufferJson {
    /// The buffer in words.
    pub description: String,
    /// Size in bytes; of a perf buffer, for each CPU.
    pub size: u32,
    /// Size that the config asks for, bytes.
    pub requested: u64,
    /// Memory in bytes; of a perf buffer, for all possible CPUs.
    pub memory: u64,
    /// The most bytes that were unread at a time.
    pub peak_unread: u64,
    /// Perf buffers: records that the kernel reports as lost. The last ones can be missing.
    pub perf_lost: Option<u64>,
    /// After a loss: the size that would have been enough, bytes.
    pub suggested_size: Option<u64>,
}
