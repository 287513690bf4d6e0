//! Reads a program out of its object: event, filters and hooks from BTF, maps and sections from the ELF file.

use std::ffi::OsStr;
use std::sync::Arc;

use libbpf_rs::btf::types::{Array, DataSec, Enum, Int, IntEncoding, MemberAttr, Ptr, Struct, Var};
use libbpf_rs::btf::{Btf, BtfKind, BtfType, HasSize, ReferencesType, TypeId};
use libbpf_rs::{AsRawLibbpf, MapType, ObjectBuilder, OpenObject};

use super::aggregate;
use super::tags::{PerfTag, TagIndex, Tags};
use super::{
    Accuracy, CounterOffsets, Element, ElementKind, Hook, ListShape, Load, MapSpec, PerfEvent, Program, ProgramOutput,
    Variable,
};
use crate::error::{Error, Result};
use crate::event::{Field, FieldKind, Layout, ValueNames};

/// The variable whose type points at the event struct.
const EVENT_MARKER: &str = "runner_event";
/// The variable that carries the tags of `ACCURACY()`.
const ACCURACY_MARKER: &str = "runner_accuracy";
/// How the names of an aggregate's empty values end.
const ZERO: &str = "_zero";
/// The type of a field that is a list.
const LIST_TYPE: &str = "runner_list";
/// The type of a field whose text is as long as it has to be.
const TEXT_TYPE: &str = "runner_text";
/// The member that holds the texts of either.
const TAIL: &str = "tail";
/// The type of the counters that every program has.
const COUNTERS_TYPE: &str = "runner_counters";
/// Maps that are the runner's own.
const RUNNER_MAPS: &[&str] = &["events", "counters", "scratch"];

pub(super) fn read(name: &'static str, object: &'static [u8]) -> Result<Program> {
    let broken = |what: String| Error::failed(format!("program {name} breaks the runner's contract: {what}"));
    let open = ObjectBuilder::default()
        .name(name)
        .and_then(|builder| builder.open_memory(object))
        .map_err(|error| broken(format!("its object can't be opened: {error}")))?;
    let btf = object_btf(&open).ok_or_else(|| broken("its object has no BTF".into()))?;
    let reader = BtfReader { btf: &btf, tags: TagIndex::read(&btf, name)? };
    let variables = reader.variables().map_err(broken)?;
    let hooks = reader.hooks(&open, &variables).map_err(broken)?;
    let (internals, filters) = variables.into_iter().partition(|(_, tags)| tags.internal);
    let (output, load) = match reader.aggregate(&open).map_err(broken)? {
        Some((aggregate, load)) => (ProgramOutput::Aggregate(Arc::new(aggregate)), load),
        None => {
            let (layout, load) = reader.event().map_err(broken)?;
            (ProgramOutput::Events(Arc::new(layout)), load)
        }
    };
    let plain = |list: Vec<(Variable, Tags)>| list.into_iter().map(|(variable, _)| variable).collect();
    Ok(Program {
        name,
        object,
        output,
        filters: plain(filters),
        internals: plain(internals),
        maps: reader.maps(&open).map_err(broken)?,
        hooks,
        accuracy: reader.accuracy(),
        load,
        counters: reader.counter_offsets().map_err(broken)?,
    })
}

pub(super) fn object_btf(open: &OpenObject) -> Option<Btf<'_>> {
    // SAFETY: the pointer is valid and not written through for as long as `open` is borrowed.
    // (libbpf-rs gives access to BTF after load only, and a catalogue never loads.)
    let raw = unsafe { open.as_libbpf_object().as_ref() };
    Btf::from_bpf_object(raw).ok().flatten()
}

pub(super) struct BtfReader<'a> {
    pub(super) btf: &'a Btf<'a>,
    pub(super) tags: TagIndex,
}

pub(super) fn text(name: Option<&OsStr>) -> String {
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl<'a> BtfReader<'a> {
    fn size_of_id(&self, id: TypeId) -> Option<usize> {
        let ty: BtfType<'_> = self.btf.type_by_id(id)?;
        size_of(ty.skip_mods_and_typedefs()).ok()
    }

    /// The members of `struct runner_counters`, found by their names.
    fn counter_offsets(&self) -> Result<CounterOffsets, String> {
        let counters: Struct<'_> = self.btf.type_by_name(COUNTERS_TYPE).ok_or("no struct runner_counters")?;
        let offset = |name: &str| {
            let member = counters.iter().find(|member| member.name == Some(OsStr::new(name)));
            let size = member.as_ref().and_then(|member| self.size_of_id(member.ty));
            match member.map(|member| member.attr) {
                Some(MemberAttr::Normal { offset }) if size == Some(8) => Ok(offset as usize / 8),
                _ => Err(format!("struct {COUNTERS_TYPE} has no u64 {name}")),
            }
        };
        Ok(CounterOffsets {
            seen: offset("seen")?,
            lost_buffer_full: offset("lost_buffer_full")?,
            lost_map_full: offset("lost_map_full")?,
            lost_other: offset("lost_other")?,
            peak_unread: offset("peak_unread")?,
        })
    }

    /// The variables of `.rodata` that can be set: filters, which have a doc, and the runner's own.
    fn variables(&self) -> Result<Vec<(Variable, Tags)>, String> {
        let Some(section) = self.btf.type_by_name::<DataSec<'_>>(".rodata") else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for info in section.iter() {
            let var: Var<'_> = self.btf.type_by_id(info.ty).ok_or("a .rodata entry is no variable")?;
            let symbol = text(var.name());
            let tags = self.tags.of(var.type_id());
            if symbol == EVENT_MARKER || symbol == ACCURACY_MARKER || tags.internal && symbol.ends_with(ZERO) {
                continue;
            }
            let variable = self
                .variable(&symbol, &tags, info.offset as usize, info.size, var.referenced_type())
                .map_err(|what| format!("variable {symbol}: {what}"))?;
            found.push((variable, tags));
        }
        Ok(found)
    }

    fn variable(
        &self,
        symbol: &str,
        tags: &Tags,
        offset: usize,
        size: usize,
        ty: BtfType<'_>,
    ) -> Result<Variable, String> {
        if tags.doc.is_none() && !tags.internal {
            return Err("needs DOC(), or INTERNAL if it is no filter".into());
        }
        let ty = ty.skip_mods_and_typedefs();
        let (list, element_type, element_size) = match Struct::try_from(ty) {
            Err(_) => (None, ty, size),
            Ok(shape) => {
                let (values, ty, max) = self.list_shape(&shape)?;
                (Some(ListShape { values, max }), ty, (size - values) / max)
            }
        };
        let element = self.element(element_type, element_size, tags)?;
        let followed = match (&element.kind, list) {
            (ElementKind::Cgroup | ElementKind::Unit, Some(ListShape { max, .. })) => {
                let values = self.in_bss(&format!("followed_{symbol}"), element.size * max);
                Some(values.ok_or_else(|| format!("needs FOLLOWED({symbol})"))?)
            }
            _ => None,
        };
        Ok(Variable {
            name: config_name(symbol, tags.unit.as_deref()),
            symbol: symbol.to_owned(),
            doc: tags.doc.clone().unwrap_or_default(),
            offset,
            size,
            list,
            element,
            followed,
        })
    }

    /// `struct { u32 n, negate; T values[max]; }` of `bpf/include/filter.h`: where the values are, their type and number.
    fn list_shape(&self, shape: &Struct<'a>) -> Result<(usize, BtfType<'a>, usize), String> {
        let members: Vec<_> = shape.iter().collect();
        let none = || String::from("is a struct, but not one of FILTER()");
        let [count, negate, values] = members.as_slice() else { return Err(none()) };
        let (MemberAttr::Normal { offset: 0 }, MemberAttr::Normal { offset: 32 }, MemberAttr::Normal { offset }) =
            (count.attr, negate.attr, values.attr)
        else {
            return Err(none());
        };
        let array: BtfType<'_> = self.btf.type_by_id(values.ty).ok_or("has a member without a type")?;
        let array = Array::try_from(array.skip_mods_and_typedefs()).map_err(|_| "`values` is no array")?;
        Ok((offset as usize / 8, array.contained_type().skip_mods_and_typedefs(), array.capacity()))
    }

    fn element(&self, ty: BtfType<'_>, size: usize, tags: &Tags) -> Result<Element, String> {
        if ty.kind() == BtfKind::Struct {
            let name = text(ty.name());
            let kind = match (name.as_str(), tags.meaning.as_deref()) {
                ("runner_comm", None) => ElementKind::Comm,
                ("runner_disk", None) => ElementKind::Disk,
                ("runner_cgroup", Some("cgroup")) => ElementKind::Cgroup,
                ("runner_cgroup", Some("unit")) => ElementKind::Unit,
                _ => return Err(format!("a filter can't be a struct {name}")),
            };
            return Ok(Element { size, kind });
        }
        let kind = match (self.kind(ty, tags)?, tags.unit.as_deref(), tags.meaning.as_deref()) {
            (FieldKind::Uint, Some("ns"), _) => ElementKind::Duration,
            (FieldKind::Uint, Some("bytes"), _) => ElementKind::Bytes,
            (FieldKind::Uint, Some("Hz"), _) => ElementKind::Frequency,
            (FieldKind::Uint, _, Some("user")) => ElementKind::User,
            (FieldKind::Uint, ..) => ElementKind::Uint,
            (FieldKind::Int, ..) => ElementKind::Int,
            (FieldKind::Bool, ..) => ElementKind::Bool,
            (FieldKind::Text, ..) => ElementKind::Text,
            (FieldKind::Enum(names), ..) => ElementKind::Enum(names),
            (other, ..) => return Err(format!("a filter can't be {other:?}")),
        };
        Ok(Element { size, kind })
    }

    /// What `ACCURACY()` says; a program without it says nothing.
    fn accuracy(&self) -> Accuracy {
        let marker: Option<Var<'_>> = self.btf.type_by_name(ACCURACY_MARKER);
        marker.map(|marker| self.tags.of(marker.type_id()).accuracy).unwrap_or_default()
    }

    /// The event, and the load that the program can be tried with.
    fn event(&self) -> Result<(Layout, Option<Load>), String> {
        let section = self.btf.type_by_name::<DataSec<'_>>(".rodata").ok_or("no EVENT()")?;
        let marker = section
            .iter()
            .filter_map(|info| self.btf.type_by_id::<Var<'_>>(info.ty))
            .find(|var| var.name() == Some(OsStr::new(EVENT_MARKER)))
            .ok_or("no EVENT()")?;
        let pointer = Ptr::try_from(marker.referenced_type().skip_mods_and_typedefs()).map_err(|_| "EVENT() is odd")?;
        let event = Struct::try_from(pointer.referenced_type().skip_mods_and_typedefs())
            .map_err(|_| "EVENT() does not name a struct")?;
        let tags = self.tags.of(event.type_id());
        let doc = tags.doc.ok_or("the event struct has no DOC()")?;
        let load = tags.load;
        let tail = self.tail(&event);

        let mut fields = Vec::new();
        for (index, member) in event.iter().enumerate() {
            let name = text(member.name);
            let tags = self.tags.of_member(event.type_id(), index);
            if tags.internal {
                continue;
            }
            let MemberAttr::Normal { offset } = member.attr else {
                return Err(format!("field {name} is a bitfield: use KIND(\"bits\")"));
            };
            let ty: BtfType<'_> = self.btf.type_by_id(member.ty).ok_or("a member has no type")?;
            let (kind, size) = self.field_type(ty, tail, &tags).map_err(|what| format!("field {name}: {what}"))?;
            let doc = tags.doc.ok_or_else(|| format!("field {name} has no DOC()"))?;
            let errno = tags.meaning.as_deref() == Some("errno");
            fields.push(Field { name, doc, unit: tags.unit, errno, kind, offset: offset as usize / 8, size });
        }
        match fields.first() {
            Some(Field { name, kind: FieldKind::Uint, size: 8, .. }) if name == "ts" => {}
            _ => return Err("the first field is not `u64 ts`".into()),
        }
        let min_size = tail.unwrap_or(event.size());
        Ok((Layout { doc, fields, size: event.size(), min_size }, load))
    }

    /// Where the event's tail begins, if it has one.
    fn tail(&self, event: &Struct<'_>) -> Option<usize> {
        match event.iter().last() {
            Some(last) if last.name == Some(OsStr::new(TAIL)) => match last.attr {
                MemberAttr::Normal { offset } => Some(offset as usize / 8),
                MemberAttr::BitField { .. } => None,
            },
            _ => None,
        }
    }

    fn field_type(&self, ty: BtfType<'_>, tail: Option<usize>, tags: &Tags) -> Result<(FieldKind, usize), String> {
        let ty = ty.skip_mods_and_typedefs();
        if let Ok(shape) = Struct::try_from(ty) {
            let tail = tail.ok_or("it needs `char tail[N] INTERNAL` as the struct's last member");
            match shape.name().and_then(OsStr::to_str) {
                Some(LIST_TYPE) => return Ok((FieldKind::List { tail: tail? }, shape.size())),
                Some(TEXT_TYPE) => return Ok((FieldKind::Tail { tail: tail? }, shape.size())),
                _ => {}
            }
        }
        Ok((self.kind(ty, tags)?, size_of(ty)?))
    }

    pub(super) fn kind(&self, ty: BtfType<'_>, tags: &Tags) -> Result<FieldKind, String> {
        match ty.kind() {
            BtfKind::Int => {
                let int = Int::try_from(ty).map_err(|_| "odd integer")?;
                if !matches!(int.size(), 1 | 2 | 4 | 8) {
                    return Err(format!("an integer of {} bytes", int.size()));
                }
                Ok(match int.encoding {
                    IntEncoding::Bool => FieldKind::Bool,
                    IntEncoding::Signed | IntEncoding::Char => FieldKind::Int,
                    IntEncoding::None => FieldKind::Uint,
                })
            }
            BtfKind::Enum => {
                let source = Enum::try_from(ty).map_err(|_| "odd enum")?;
                // Masked to four bytes: clang 14 does not mark signed enums
                let values = source.iter().map(|m| (u64::from(m.value as u32), text(m.name))).collect();
                let names = Arc::new(ValueNames::from_c(values));
                Ok(if tags.meaning.as_deref() == Some("bits") {
                    FieldKind::Bits(names)
                } else {
                    FieldKind::Enum(names)
                })
            }
            BtfKind::Array => {
                let array = Array::try_from(ty).map_err(|_| "odd array")?;
                let of = array.contained_type().skip_mods_and_typedefs();
                match (of.name().and_then(OsStr::to_str), tags.meaning.as_deref()) {
                    (Some("unsigned char"), Some("ip")) if array.capacity() == 16 => Ok(FieldKind::Ip),
                    (_, Some("ip")) => Err("an address is `u8 x[16]`".into()),
                    (Some("char"), _) => Ok(FieldKind::Text),
                    _ => Err("arrays of char only".into()),
                }
            }
            other => Err(format!("a {other:?} can't be read")),
        }
    }

    fn maps(&self, open: &OpenObject) -> Result<Vec<MapSpec>, String> {
        let mut maps = Vec::new();
        for map in open.maps() {
            let name = text(Some(map.name()));
            let array = matches!(map.map_type(), MapType::Array | MapType::PercpuArray);
            if RUNNER_MAPS.contains(&name.as_str()) || array {
                continue; // an array's size is the program's own matter; data sections are arrays too
            }
            let var: Option<Var<'_>> = self.btf.type_by_name(&name);
            if var.as_ref().is_some_and(|var| self.tags.of(var.type_id()).internal) {
                continue; // it is as another one is
            }
            let tags = var.map(|var| self.tags.of(var.type_id())).unwrap_or_default();
            let doc = tags.doc.ok_or_else(|| format!("map {name} has no DOC()"))?;
            let refusals = self
                .counter_of("insert_failures", &name)
                .ok_or_else(|| format!("map {name} has no INSERT_FAILURES({name})"))?;
            let unseen = self.counter_of("unseen", &name);
            if unseen.is_some() && tags.in_flight.is_none() {
                return Err(format!("map {name} has UNSEEN_ENDS() and no IN_FLIGHT()"));
            }
            if tags.in_flight.is_some() && map.value_size() < 8 {
                return Err(format!("map {name}: the value of a map with IN_FLIGHT() begins with a u64"));
            }
            let second = format!("{name}{}", aggregate::SECOND);
            maps.push(MapSpec {
                twice: open.maps().any(|other| other.name().to_str() == Some(&second)),
                name,
                doc,
                max_entries: map.max_entries(),
                key_bytes: map.key_size().into(),
                value_bytes: map.value_size().into(),
                per_cpu: matches!(map.map_type(), MapType::PercpuHash | MapType::LruPercpuHash),
                refusals,
                in_flight: tags.in_flight,
                unseen,
            });
        }
        Ok(maps)
    }

    /// Where in `.bss` the program counts something of `map`: `refused` inserts, `unseen` ends.
    fn counter_of(&self, what: &str, map: &str) -> Option<usize> {
        self.in_bss(&format!("{what}_{map}"), 8)
    }

    /// Where in `.bss` the variable `symbol` of `size` bytes is.
    fn in_bss(&self, symbol: &str, size: usize) -> Option<usize> {
        let section = self.btf.type_by_name::<DataSec<'_>>(".bss")?;
        let named = |ty| self.btf.type_by_id::<Var<'_>>(ty).is_some_and(|var| text(var.name()) == symbol);
        section.iter().find(|info| info.size == size && named(info.ty)).map(|info| info.offset as usize)
    }

    fn hooks(&self, open: &OpenObject, variables: &[(Variable, Tags)]) -> Result<Vec<Hook>, String> {
        open.progs()
            .map(|prog| {
                let func = self.btf.type_by_name::<libbpf_rs::btf::types::Func<'_>>(&text(Some(prog.name())));
                let tags = func.map(|func| self.tags.of(func.type_id())).unwrap_or_default();
                let (name, section) = (text(Some(prog.name())), text(Some(prog.section())));
                let perf_event = tags.perf_event.map(|tag| perf_event(&tag, variables));
                if perf_event.is_some() != (section == "perf_event") {
                    return Err(format!("hook {name}: SEC(\"perf_event\") and PERF_EVENT() go together"));
                }
                Ok(Hook {
                    perf_event: perf_event.transpose().map_err(|what| format!("hook {name}: {what}"))?,
                    name,
                    section,
                    optional: tags.optional,
                    skip_if: tags.skip_if,
                    alternative: tags.alternative,
                })
            })
            .collect()
    }
}

/// What `PERF_EVENT()` says, with its variables found.
fn perf_event(tag: &PerfTag, variables: &[(Variable, Tags)]) -> Result<PerfEvent, String> {
    let find = |symbol: &str| {
        let found = variables.iter().map(|(variable, _)| variable).find(|variable| variable.symbol == symbol);
        found.ok_or_else(|| format!("PERF_EVENT() names no variable: {symbol}"))
    };
    let (chosen, rate) = (find(&tag.variable)?, find(&tag.rate)?);
    let ElementKind::Enum(names) = &chosen.element.kind else { return Err(format!("{} is no enum", tag.variable)) };
    if (chosen.size, rate.size) != (4, 4) {
        return Err("PERF_EVENT() wants variables of four bytes".into());
    }
    let source = |name: &String| {
        let value = names.value(name).and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| format!("{name} is no perf event that enum perf_source has"))
    };
    Ok(PerfEvent {
        sources: tag.sources.iter().map(source).collect::<Result<_, _>>()?,
        names: Arc::clone(names),
        chosen_at: chosen.offset,
        rate_at: rate.offset,
        frequency: rate.element.kind == ElementKind::Frequency,
    })
}

pub(super) fn size_of(ty: BtfType<'_>) -> Result<usize, String> {
    if let Ok(int) = Int::try_from(ty) {
        return Ok(int.size());
    }
    if let Ok(source) = Enum::try_from(ty) {
        return Ok(source.size());
    }
    let array = Array::try_from(ty).map_err(|_| "has no size")?;
    Ok(array.capacity() * size_of(array.contained_type().skip_mods_and_typedefs())?)
}

/// `min_latency_ns` with the unit `ns` is `min_latency` in a config, where the value brings its unit along.
fn config_name(symbol: &str, unit: Option<&str>) -> String {
    let suffix = unit.map(|unit| format!("_{}", unit.to_ascii_lowercase()));
    suffix.and_then(|suffix| symbol.strip_suffix(&suffix)).unwrap_or(symbol).to_owned()
}
