//! The config's types: what serde_yaml reads a checked file into, and what the JSON Schema is derived from.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::defaults::{Defaults, Include};
pub use super::files::{Compress, Files, Keep, Rotate};
use super::quantity::{Bytes, Nanoseconds, Share};
use super::schedule::Schedule;
pub use super::window::Window;

/// One capture: which programs run, their filters, for how long, and where their records go.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend(
    "if" = {"not": {"anyOf": [{"required": ["include"]}, {"required": ["part"]}]}},
    "then" = {"required": ["probes", "sinks"]},
)))]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of the config's format: 1.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    pub version: u32,
    /// A file, or several, whose probes and sinks are added to this one's. Other keys of this file override theirs. Paths are
    /// relative to this file's directory, and within the directory of the config that is run.
    pub include: Option<Include>,
    /// This file is included by others and not run by itself: probes and sinks are optional.
    #[cfg_attr(test, schemars(extend("const" = true)))]
    pub part: Option<bool>,
    /// Name of the capture. Default: the file's name without its extension.
    pub name: Option<String>,
    /// What the capture is for.
    pub description: Option<String>,
    /// Static labels, in templates as `labels.NAME`. `${NAME}` is replaced by an environment variable.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("x-environment" = true)))]
    pub labels: BTreeMap<String, String>,
    /// When the capture starts and ends.
    #[serde(default)]
    pub window: Window,
    /// When a systemd timer or cron starts the capture; `ebpf-run emit` generates the files.
    pub schedule: Option<Schedule>,
    /// Share of the events that may be lost; above it the exit code is 3. Default: 0%.
    pub max_loss: Option<Share>,
    /// Values for every probe; a probe's own value takes precedence.
    #[serde(default)]
    pub defaults: Defaults,
    /// The programs to run.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub probes: Vec<Probe>,
    /// Where records go, each by a name of your choice.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("minProperties" = 1)))]
    pub sinks: BTreeMap<String, Sink>,
}

/// One use of a program: its filters, buffer, maps and sinks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Name of a built-in program.
    pub program: String,
    /// Name of the probe, unique in the file. Default: the program's name.
    pub name: Option<String>,
    /// Filters of the program (`ebpf-run describe PROGRAM` lists them). `${NAME}` is replaced by an environment variable.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, serde_json::Value>", extend("x-environment" = true)))]
    pub filters: BTreeMap<String, serde_yaml::Value>,
    /// How events reach userspace.
    #[serde(default)]
    pub buffer: Buffer,
    /// Order of the records.
    #[serde(default)]
    pub order: Order,
    /// What to do when this kernel can't run the program: fail with exit code 4 (the default), or continue without the probe.
    #[serde(default)]
    pub on_unsupported: OnUnsupported,
    /// Aggregating programs: how often the map is read. Default: once, at the end.
    pub interval: Option<Nanoseconds>,
    /// Aggregating programs: rows count from the last read (true, the default), or from the start of the window (false).
    pub clear: Option<bool>,
    /// Aggregating programs: one row for each CPU.
    pub per_cpu: Option<bool>,
    /// Programs with counters: print this many rows, the first in the order of `sort`.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub top: Option<u32>,
    /// Programs with counters: the counter that rows are sorted by, largest first. Default: the program's first counter.
    pub sort: Option<String>,
    /// Maximum number of entries of the program's maps, by map name.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, std::num::NonZeroU32>"))]
    pub maps: BTreeMap<String, u32>,
    /// Names of the sinks that the records go to. Default: every sink.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub sinks: Option<Vec<String>>,
}

/// What to do when this kernel can't run a probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnUnsupported {
    /// Fail with exit code 4; nothing is attached.
    #[default]
    Fail,
    /// Continue without the probe; the report has the reason.
    Skip,
}

/// Orders of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As they are read from the buffer: a ring buffer in the order of reservation, perf buffers CPU by CPU.
    #[default]
    Arrival,
    /// Sorted by timestamp; delays records by `buffer.max_latency`.
    Time,
}

/// The buffer between kernel and userspace.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// Type of the buffer.
    #[serde(default, rename = "type")]
    pub kind: BufferType,
    /// Size, rounded up to a power of two: of the whole ring buffer, or of each CPU's perf buffer. Default: 1MiB, or
    /// 256KiB a CPU.
    pub size: Option<Bytes>,
    /// How records are written to a ring buffer. Default: reserve.
    pub submit: Option<Submit>,
    /// When the kernel wakes the runner.
    #[serde(default)]
    pub wakeup: Wakeup,
    /// Longest time that a record waits in the buffer, with any wakeup. Default: 100ms.
    pub max_latency: Option<Nanoseconds>,
}

/// Kinds of buffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BufferType {
    /// A ring buffer, unless the program runs in NMIs or the kernel has no ring buffers (before 5.8).
    #[default]
    Auto,
    /// BPF ring buffer: one for all CPUs.
    Ringbuf,
    /// Perf buffer: one for each CPU.
    Perfbuf,
}

/// How records are written to a ring buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Submit {
    /// Reserve space and write the record in place.
    #[default]
    Reserve,
    /// Copy the finished record.
    Output,
}

/// When the kernel wakes the runner.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Wakeup {
    /// A policy by its name.
    Named(NamedWakeup),
    /// A policy with a quantity.
    When(WakeupWhen),
}

impl Default for Wakeup {
    fn default() -> Self {
        Wakeup::Named(NamedWakeup::Auto)
    }
}

/// Wakeup policies without a quantity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NamedWakeup {
    /// In batches: at 64KiB unread (at most a quarter of the buffer), or after `max_latency`.
    #[default]
    Auto,
    /// For the first record after the runner has read all others (ring buffer only).
    Adaptive,
    /// With every event.
    EveryEvent,
}

/// Wakeup policies with a quantity: one of the three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("minProperties" = 1, "maxProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub struct WakeupWhen {
    /// After this many events of a CPU.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub events: Option<u32>,
    /// When this many bytes are unread.
    pub bytes: Option<Bytes>,
    /// By a timer: the runner reads the buffer this often.
    pub interval: Option<Nanoseconds>,
}

/// Where records go, and their format.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
#[serde(tag = "type", rename_all = "snake_case")] // the schema refuses unknown fields: serde can't with `flatten`
pub enum Sink {
    /// One line of text a record, made by a template.
    Stdout {
        /// Template of a record, in Jinja syntax: `{{ time | clock }} {{ comm }}`. Required for events; aggregates are printed as
        /// tables and histograms without one.
        template: Option<String>,
        /// Template of the first line.
        header: Option<String>,
        /// Its files.
        #[serde(flatten)]
        files: Files,
    },
    /// Comma-separated values with a header line (RFC 4180).
    Csv {
        /// Fields, or `NAME: template`. Default: every field of the program.
        #[cfg_attr(test, schemars(length(min = 1)))]
        columns: Option<Vec<Column>>,
        /// Its files.
        #[serde(flatten)]
        files: Files,
    },
    /// JSON Lines: one object a line.
    Jsonl {
        /// Fields, or `NAME: template`. Default: every field of the program.
        #[cfg_attr(test, schemars(length(min = 1)))]
        fields: Option<Vec<Column>>,
        /// Its files.
        #[serde(flatten)]
        files: Files,
    },
}

impl Sink {
    /// The path as the config has it.
    pub fn path(&self) -> &str {
        self.files().path.as_deref().unwrap_or("-")
    }

    /// The keys for its files.
    pub fn files(&self) -> &Files {
        let (Sink::Stdout { files, .. } | Sink::Csv { files, .. } | Sink::Jsonl { files, .. }) = self;
        files
    }
}

/// A column of a CSV file or a member of a JSON object.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Column {
    /// A field as it is.
    Field(String),
    /// A name and the template that makes its text.
    Template(#[cfg_attr(test, schemars(extend("minProperties" = 1, "maxProperties" = 1)))] BTreeMap<String, String>),
}
