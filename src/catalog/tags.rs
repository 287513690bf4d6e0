//! The vocabulary of declaration tags: what C types can't say.

use std::collections::HashMap;

use libbpf_rs::btf::types::DeclTag;
use libbpf_rs::btf::{Btf, ReferencesType, TypeId};

use super::{Accuracy, Load};
use crate::error::{Error, Result};

/// `PERF_EVENT()`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct PerfTag {
    /// Names of perf events in order of preference.
    pub sources: Vec<String>,
    /// The variable with which a probe chooses one.
    pub variable: String,
    /// The variable that says how often.
    pub rate: String,
}

/// What the tags of one declaration say. See `bpf/include/ebpf_run.h` for the macros.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tags {
    pub doc: Option<String>,
    pub unit: Option<String>,
    pub meaning: Option<String>,
    pub internal: bool,
    pub optional: bool,
    /// On a map: the program's aggregate.
    pub aggregate: bool,
    /// On a map: what its entries are, while they are under way.
    pub in_flight: Option<String>,
    pub skip_if: Option<(String, String)>,
    /// On an event struct or an aggregate: the load that `ebpf-run doctor --try` makes.
    pub load: Option<Load>,
    /// On a function: the group and the variant that it is a part of.
    pub alternative: Option<(String, String)>,
    /// On a function: what runs it.
    pub perf_event: Option<PerfTag>,
    /// On the variable of `ACCURACY()`.
    pub accuracy: Accuracy,
}

/// The meanings that `KIND()` takes.
const MEANINGS: &[&str] = &[
    "ktime",
    "errno",
    "bits",
    "ip",
    "user",
    "cgroup",
    "unit",
    "kernel_stack",
    "user_stack",
    IMAGE_EXE,
    IMAGE_LAYOUT,
    "events",
];
/// What a key says of the program that its user stack is of, `IMAGE_EXE` and `IMAGE_LAYOUT` of `bpf/include/stack.h`.
pub const IMAGE_EXE: &str = "image_exe";
pub const IMAGE_LAYOUT: &str = "image_layout";
/// The units that `UNIT()` takes. The first three make a filter take a quantity.
const UNITS: &[&str] = &["ns", "bytes", "Hz", "sectors of 512 bytes"];

impl Tags {
    fn add(&mut self, text: &str) -> Result<(), String> {
        let known = |list: &[&str], value: &str| {
            if list.contains(&value) {
                Ok(value.to_owned())
            } else {
                Err(format!("`{text}`: one of {list:?} expected"))
            }
        };
        match text.split_once(':').unwrap_or((text, "")) {
            ("doc", value) => self.doc = Some(value.to_owned()),
            ("unit", value) => self.unit = Some(known(UNITS, value)?),
            ("as", value) => self.meaning = Some(known(MEANINGS, value)?),
            ("internal", "") => self.internal = true,
            ("optional", "") => self.optional = true,
            ("aggregate", "") => self.aggregate = true,
            ("in_flight", what) if !what.is_empty() => self.in_flight = Some(what.to_owned()),
            ("try", name) => {
                let names = Load::ALL.map(Load::name);
                let load = Load::by_name(name).ok_or_else(|| format!("`{text}`: one of {names:?} expected"))?;
                self.load = Some(load);
            }
            ("skip_if", value) => {
                let (filter, value) =
                    value.split_once('=').ok_or_else(|| format!("`{text}`: filter=value expected"))?;
                self.skip_if = Some((filter.to_owned(), value.to_owned()));
            }
            ("alternative", value) => {
                let word = |part: &str| {
                    !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                };
                let (group, variant) = value
                    .split_once('/')
                    .filter(|(group, variant)| word(group) && word(variant))
                    .ok_or_else(|| format!("`{text}`: group/variant expected, two words of lower case"))?;
                self.alternative = Some((group.to_owned(), variant.to_owned()));
            }
            ("perf_event", value) => {
                let parts: Vec<&str> = value.split(',').collect();
                let [sources, variable, rate] = parts.as_slice() else {
                    return Err(format!("`{text}`: sources,variable,rate expected"));
                };
                self.perf_event = Some(PerfTag {
                    sources: sources.split('|').map(str::to_owned).collect(),
                    variable: (*variable).to_owned(),
                    rate: (*rate).to_owned(),
                });
            }
            (aspect, phrase) if !phrase.is_empty() && Accuracy::knows(aspect) => self.accuracy.add(aspect, phrase),
            _ => return Err(format!("`{text}` is no tag that the runner knows")),
        }
        Ok(())
    }
}

/// All tags of an object by the type that carries them and, for a struct, its member.
pub(super) struct TagIndex(HashMap<(TypeId, Option<u32>), Tags>);

impl TagIndex {
    pub fn read(btf: &Btf<'_>, program: &str) -> Result<Self> {
        let mut index: HashMap<_, Tags> = HashMap::new();
        for tag in btf.type_by_kind::<DeclTag>() {
            let text = tag.name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let place = (tag.referenced_type().type_id(), tag.component_index());
            index
                .entry(place)
                .or_default()
                .add(&text)
                .map_err(|what| Error::failed(format!("program {program}: tag {what}")))?;
        }
        Ok(TagIndex(index))
    }

    /// The tags of a type as a whole.
    pub fn of(&self, id: TypeId) -> Tags {
        self.0.get(&(id, None)).cloned().unwrap_or_default()
    }

    /// The tags of a struct's member.
    pub fn of_member(&self, id: TypeId, member: usize) -> Tags {
        self.0.get(&(id, Some(member as u32))).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
