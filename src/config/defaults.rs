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
    /// Paths of files; a later one overrides an earlier one.
    Several(#[cfg_attr(test, schemars(length(min = 1)))] Vec<String>),
}

/// Values that every probe has unless it has its own. Filters have to fit every probe; other keys apply to the probes
/// whose program has them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Filters of every probe. A filter that a program lacks is an error.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, serde_json::Value>", extend("x-environment" = true)))]
    pub filters: BTreeMap<String, serde_yaml::Value>,
    /// How events reach userspace.
    pub buffer: Option<Buffer>,
    /// Order of the records.
    pub order: Option<Order>,
    /// What to do if this kernel can't run a program.
    pub on_unsupported: Option<OnUnsupported>,
    /// Aggregating programs: how often the map is read.
    pub interval: Option<Nanoseconds>,
    /// Aggregating programs: rows have what was added since the last snapshot, or since the start.
    pub clear: Option<bool>,
    /// Aggregating programs: a row for each CPU.
    pub per_cpu: Option<bool>,
    /// Programs with counters: the number of rows that are written.
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
