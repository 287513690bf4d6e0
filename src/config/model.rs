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
    /// A file or a list of files whose probes and sinks are added. Other values of this file override those of
    /// included files. Paths are relative to this file and stay below the directory of the config that is run.
    pub include: Option<Include>,
    /// This file is only included by others and is not run by itself. It requires no probes and no sinks.
    #[cfg_attr(test, schemars(extend("const" = true)))]
    pub part: Option<bool>,
    /// Name of the capture, for paths and templates. Default: the name of the file without its ending.
    pub name: Option<String>,
    /// What the capture is for.
    pub description: Option<String>,
    /// Static text by name, for templates (`labels.NAME`) and the report. `${NAME}` is a variable of the environment.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("x-environment" = true)))]
    pub labels: BTreeMap<String, String>,
    /// When the capture starts and ends.
    #[serde(default)]
    pub window: Window,
    /// When a timer or cron starts the capture; `ebpf-run emit` writes their files. A run ignores it.
    pub schedule: Option<Schedule>,
    /// Share of the events that may be missing; with more, the exit code is 3. It does not cover counts that do not
    /// reconcile (exit code 7). Default: 0%.
    pub max_loss: Option<Share>,
    /// Values that every probe has unless it has its own.
    #[serde(default)]
    pub defaults: Defaults,
    /// The probes: at least one, here or in an included file.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub probes: Vec<Probe>,
    /// The sinks by name: at least one, here or in an included file.
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
    /// Filters of the program; all must match. A filter takes a value, a list of values, or `{not: …}` with one of
    /// these. `${NAME}` is a variable of the environment. Default: all events.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, serde_json::Value>", extend("x-environment" = true)))]
    pub filters: BTreeMap<String, serde_yaml::Value>,
    /// How events reach userspace.
    #[serde(default)]
    pub buffer: Buffer,
    /// Order of the records. Default: arrival.
    #[serde(default)]
    pub order: Order,
    /// What to do if this kernel can't run the program. Default: fail.
    #[serde(default)]
    pub on_unsupported: OnUnsupported,
    /// Aggregating programs: how often the map is read, from 10ms; it is always read at the end. Default: only at the
    /// end.
    pub interval: Option<Nanoseconds>,
    /// Aggregating programs: `true`: rows have what was added since the last snapshot, so rows of several snapshots
    /// add up; `false`: all since the start. Default: true.
    pub clear: Option<bool>,
    /// Aggregating programs: `true`: a row for each CPU, with the field `cpu`; `false`: CPUs are added up. Default:
    /// false.
    pub per_cpu: Option<bool>,
    /// Programs with counters: the number of rows that are written, the first ones in the order of `sort`. Default:
    /// all.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub top: Option<u32>,
    /// Programs with counters: rows are in descending order of this counter. Default: the first counter of the
    /// program.
    pub sort: Option<String>,
    /// Number of entries of the program's maps, by name: `{inflight: 65536}`. Inserts that fail because a map is full
    /// are counted. Default: that of the program.
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
    /// Exit code 4; nothing stays attached.
    #[default]
    Fail,
    /// Skip the probe with a warning and run the others.
    Skip,
}

/// Orders of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// In the order of the buffer: of a ring buffer, the order in which records were reserved; of perf buffers, by
    /// CPU.
    #[default]
    Arrival,
    /// Sorted by timestamp, delayed by `buffer.max_latency`. Records that arrive later are counted, and written.
    Time,
}

/// The buffer between kernel and userspace.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// Kind of buffer. Default: auto.
    #[serde(default, rename = "type")]
    pub kind: BufferType,
    /// Size of the ring buffer, or of the perf buffer of each CPU, rounded up to a power of two of whole pages.
    /// Default: 1MiB, or 256KiB for each CPU.
    pub size: Option<Bytes>,
    /// How records are written to a ring buffer. Default: reserve.
    pub submit: Option<Submit>,
    /// When the kernel wakes the runner. Default: auto.
    #[serde(default)]
    pub wakeup: Wakeup,
    /// The longest time that a record waits in the buffer, with any wakeup, from 1ms to 60s. Default: 100ms.
    pub max_latency: Option<Nanoseconds>,
}

/// Kinds of buffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BufferType {
    /// A ring buffer, unless the program runs in NMIs or the kernel has none.
    #[default]
    Auto,
    /// One BPF ring buffer for all CPUs.
    Ringbuf,
    /// A perf buffer for each CPU.
    Perfbuf,
}

/// How records are written to a ring buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Submit {
    /// Records are built in place.
    #[default]
    Reserve,
    /// Records are copied in.
    Output,
}

/// When the kernel wakes the runner. Default: auto.
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
    /// When 64KiB, at most a quarter of the buffer, are unread.
    #[default]
    Auto,
    /// When the runner has read everything before; ring buffers only.
    Adaptive,
    /// With every event.
    EveryEvent,
}

/// Wakeup policies with a quantity: one of the three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("minProperties" = 1, "maxProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub struct WakeupWhen {
    /// With every Nth event of a CPU.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub events: Option<u32>,
    /// When this many bytes are unread, at most half of the buffer.
    pub bytes: Option<Bytes>,
    /// Never: the runner polls at this interval, which replaces `max_latency`.
    pub interval: Option<Nanoseconds>,
}

/// Where records go, and their format.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
#[serde(tag = "type", rename_all = "snake_case")] // the schema refuses unknown fields: serde can't with `flatten`
pub enum Sink {
    /// One line of text a record, made by a template.
    Stdout {
        /// Template of a line, in the syntax of Jinja: `{{ time | clock }} {{ comm }}`. Required for events. Without
        /// it, counters are printed as a table and histograms as bars.
        template: Option<String>,
        /// Template of a first line, with `name`, `host`, `start` and `labels`.
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
