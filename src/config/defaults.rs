//! The keys of a config for other files and for all probes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::model::{Buffer, OnUnsupported, Order};
use super::quantity::Nanoseconds;

/// One file or several.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Include {
    /// The path of a file.
    One(String),
    /// Paths of files: a later file overrides an earlier one.
    Several(#[cfg_attr(test, schemars(length(min = 1)))] Vec<String>),
}

/// Values for every probe; a probe's own value takes precedence. Filters apply to all probes, other keys to the probes whose
/// program uses them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Filters of every probe. A filter that a program does not have is an error.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, serde_json::Value>", extend("x-environment" = true)))]
    pub filters: BTreeMap<String, serde_yaml::Value>,
    /// How events reach userspace.
    pub buffer: Option<Buffer>,
    /// Order of the records.
    pub order: Option<Order>,
    /// What to do when this kernel can't run a program.
    pub on_unsupported: Option<OnUnsupported>,
    /// Aggregating programs: how often the map is read.
    pub interval: Option<Nanoseconds>,
    /// Aggregating programs: rows count from the last read (true), or from the start of the window (false).
    pub clear: Option<bool>,
    /// Aggregating programs: one row for each CPU.
    pub per_cpu: Option<bool>,
    /// Programs with counters: print this many rows, the first in the order of `sort`.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub top: Option<u32>,
    /// Number of entries of maps, by the map's name, for the programs that have a map of this name.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, std::num::NonZeroU32>"))]
    pub maps: BTreeMap<String, u32>,
    /// Names of the sinks that the records go to.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub sinks: Option<Vec<String>>,
}
