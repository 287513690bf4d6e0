//! The config's types: what serde_yaml reads a checked file into, and what the JSON Schema is derived from.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::defaults::{Defaults, Include};
pub use super::files::{Compress, Files, Keep, Rotate};
use super::quantity::{Bytes, Nanoseconds, Share};
use super::schedule::Schedule;
pub use super::window::Window;

/// One capture: which programs run, what they look for, for how long, and where their records go.
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
    /// A file, or several, whose probes and sinks are added to this one's; of what both say otherwise, this one counts.
    /// Paths go from this file's folder on, and stay within the folder of the config that is run.
    pub include: Option<Include>,
    /// This file is there to be included, and is not run by itself: it needs no probes and no sinks.
    #[cfg_attr(test, schemars(extend("const" = true)))]
    pub part: Option<bool>,
    /// Name of the capture. Default: the file's name without its ending.
    pub name: Option<String>,
    /// What the capture is for.
    pub description: Option<String>,
    /// Static labels, usable in templates as `labels.NAME`. `${NAME}` stands for a variable of the environment.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("x-environment" = true)))]
    pub labels: BTreeMap<String, String>,
    /// When the capture starts and ends.
    #[serde(default)]
    pub window: Window,
    /// When the capture is started, by a timer or cron that `ebpf-run emit` writes the files for.
    pub schedule: Option<Schedule>,
    /// Share of the events that may be lost before the run counts as failed (exit code 3). Default: 0%.
    pub max_loss: Option<Share>,
    /// What every probe has unless it says otherwise.
    #[serde(default)]
    pub defaults: Defaults,
    /// What is captured.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub probes: Vec<Probe>,
    /// Where records go, by a name of your choice.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("minProperties" = 1)))]
    pub sinks: BTreeMap<String, Sink>,
}

/// One use of a program.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Name of a built-in program.
    pub program: String,
    /// Name of the probe, unique in the file. Default: the program's name.
    pub name: Option<String>,
    /// What the program looks for; which filters there are is the program's matter. `${NAME}` stands for a variable of
    /// the environment.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, serde_json::Value>", extend("x-environment" = true)))]
    pub filters: BTreeMap<String, serde_yaml::Value>,
    /// How events reach userspace.
    #[serde(default)]
    pub buffer: Buffer,
    /// Order of the records.
    #[serde(default)]
    pub order: Order,
    /// What to do where this kernel can't run the program: fail with exit code 4 (the default), or go on without it.
    #[serde(default)]
    pub on_unsupported: OnUnsupported,
    /// Programs that add up in a map: how often it is read. Default: once, at the end.
    pub interval: Option<Nanoseconds>,
    /// Programs that add up in a map: rows tell what came since the last reading (true, the default), or since the
    /// start (false).
    pub clear: Option<bool>,
    /// Programs that add up in a map: CPUs are kept apart.
    pub per_cpu: Option<bool>,
    /// Programs with counters: only so many rows, the first ones in the order of `sort`.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub top: Option<u32>,
    /// Programs with counters: the rows with the largest of this counter come first. Default: the program's first counter.
    pub sort: Option<String>,
    /// Number of entries of the program's maps, by the map's name.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, std::num::NonZeroU32>"))]
    pub maps: BTreeMap<String, u32>,
    /// Names of the sinks that the records go to. Default: every sink.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub sinks: Option<Vec<String>>,
}

/// What to do about a probe that can't run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnUnsupported {
    /// End with exit code 4; nothing stays attached.
    #[default]
    Fail,
    /// Go on without the probe; the report says why.
    Skip,
}

/// Orders of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As they come out of the buffer: a ring's in the order in which they were reserved, perf buffers' by CPU.
    #[default]
    Arrival,
    /// Sorted by their timestamps, delayed by `buffer.max_latency`.
    Time,
}

/// The buffer between kernel and userspace.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// Kind of buffer.
    #[serde(default, rename = "type")]
    pub kind: BufferType,
    /// Size, rounded up to a power of two: of the whole ring buffer, or of each CPU's perf buffer. Default: 1MiB, or
    /// 256KiB a CPU.
    pub size: Option<Bytes>,
    /// How records get into a ring buffer. Default: reserve.
    pub submit: Option<Submit>,
    /// When the kernel wakes the runner.
    #[serde(default)]
    pub wakeup: Wakeup,
    /// No record waits longer than this in the buffer, whatever the wakeup. Default: 100ms.
    pub max_latency: Option<Nanoseconds>,
}

/// Kinds of buffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BufferType {
    /// The best for the program and the kernel at hand: a ring buffer, unless the program runs in NMIs or the kernel
    /// has none.
    #[default]
    Auto,
    /// BPF ring buffer: one for all CPUs, in the order of events.
    Ringbuf,
    /// Perf buffer: one a CPU.
    Perfbuf,
}

/// How records get into a ring buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Submit {
    /// Put together in the buffer itself.
    #[default]
    Reserve,
    /// Put together elsewhere and copied.
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
    /// In batches: when 64KiB, at most a quarter of the buffer, are unread, or after `max_latency`.
    #[default]
    Auto,
    /// Whenever the runner has read everything before (ring buffer only).
    Adaptive,
    /// With every event.
    EveryEvent,
}

/// Wakeup policies with a quantity: one of the three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("minProperties" = 1, "maxProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub struct WakeupWhen {
    /// With every so many-th event of a CPU.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub events: Option<u32>,
    /// When so many bytes are unread.
    pub bytes: Option<Bytes>,
    /// Not by the kernel: the runner looks this often.
    pub interval: Option<Nanoseconds>,
}

/// Where records go and in what shape.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
#[serde(tag = "type", rename_all = "snake_case")] // unknown fields are the schema's matter: serde can't tell with `flatten`
pub enum Sink {
    /// One line of text a record, made by a template.
    Stdout {
        /// Template of a record, in the syntax of Jinja: `{{ time | clock }} {{ comm }}`. Needed for events; what a
        /// program adds up is drawn without one.
        template: Option<String>,
        /// Template of a first line.
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

    /// What it says about its files.
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
