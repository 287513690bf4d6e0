//! The keys of a config that are about other files and about all probes at once.

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
    /// Paths of files: what a later one says goes over what an earlier one says.
    Several(#[cfg_attr(test, schemars(length(min = 1)))] Vec<String>),
}

/// What every probe has unless it says otherwise. Filters have to fit every probe; anything else goes to the probes
/// whose program has a use for it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// What programs look for. A filter here is a filter of every probe: one that a program lacks is an error.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, serde_json::Value>", extend("x-environment" = true)))]
    pub filters: BTreeMap<String, serde_yaml::Value>,
    /// How events reach userspace.
    pub buffer: Option<Buffer>,
    /// Order of the records.
    pub order: Option<Order>,
    /// What to do where this kernel can't run a program.
    pub on_unsupported: Option<OnUnsupported>,
    /// Programs that add up in a map: how often it is read.
    pub interval: Option<Nanoseconds>,
    /// Programs that add up in a map: rows tell what came since the last reading, or since the start.
    pub clear: Option<bool>,
    /// Programs that add up in a map: CPUs are kept apart.
    pub per_cpu: Option<bool>,
    /// Programs with counters: only so many rows, the first ones in the order of `sort`.
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
