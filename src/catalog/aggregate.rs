//! A program's aggregate, as BTF describes the map that it is kept in: `bpf/include/aggregate.h`.

use std::ffi::OsStr;

use libbpf_rs::btf::types::{MemberAttr, Ptr, Struct, Var};
use libbpf_rs::btf::{BtfType, HasSize, ReferencesType};
use libbpf_rs::{MapType, OpenObject};

use super::Load;
use super::btf::{BtfReader, size_of, text};
use super::tags::{IMAGE_EXE, IMAGE_LAYOUT};
use crate::event::{Field, FieldKind};

/// The type of a histogram.
const HIST_TYPE: &str = "runner_hist";
/// The member of a histogram that has its slots.
const SLOTS: &str = "slots";
/// The last words of a histogram: the sum of all values, and the largest of them.
pub const HIST_TRAILER: usize = 2;

/// How the name of the second map ends where one exists twice, `AGGREGATE` in `bpf/include/aggregate.h`.
pub const SECOND: &str = "_first";

/// What a program keeps in a map for the runner to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// The map's name.
    pub map: String,
    /// What it is, one sentence.
    pub doc: String,
    /// Whether the map has a value for each CPU anyway.
    pub per_cpu: bool,
    /// Whether it can fill: an array has all of its entries from the start.
    pub is_hash: bool,
    /// The members of the key; offsets are within the key.
    pub key: Vec<KeyField>,
    /// Bytes of the key.
    pub key_size: usize,
    /// Where the key says which program of which process its user stack is of; set if it has such a stack.
    pub image: Option<ImageAt>,
    /// What the values are.
    pub shape: AggregateShape,
    /// Bytes of a value, a multiple of 8: all of it is u64.
    pub value_size: usize,
}

/// One member of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyField {
    /// Its name, place and kind.
    pub field: Field,
    /// Set where it stands for a stack, by a hash of its frames.
    pub stack: Option<StackKind>,
}

/// Offsets in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageAt {
    /// The process, a u32.
    pub pid: usize,
    /// The inode of its executable, a u32.
    pub exe: usize,
    /// The layout of its address space, a u64.
    pub layout: usize,
}

/// Whose stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StackKind {
    /// The kernel's.
    Kernel,
    /// A process's own; which one's, the key's member `pid` says.
    User,
}

/// The shape of an aggregate's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AggregateShape {
    /// Counters, u64 each; offsets are within the value.
    Counters {
        /// The counters in the order of the struct.
        fields: Vec<Field>,
        /// The one that counts events, an event at a time.
        events: Option<usize>,
    },
    /// One histogram: slots of powers of two, the sum, the largest value.
    Histogram {
        /// What is measured, with its unit.
        field: Field,
        /// How many slots.
        slots: usize,
    },
}

impl<'a> BtfReader<'a> {
    /// The program's aggregate: the map that is tagged so. With the load that it can be tried with.
    pub(super) fn aggregate(&self, open: &OpenObject) -> Result<Option<(Aggregate, Option<Load>)>, String> {
        for map in open.maps() {
            let name = text(Some(map.name()));
            let Some(var) = self.btf.type_by_name::<Var<'_>>(&name) else { continue };
            let tags = self.tags.of(var.type_id());
            if !tags.aggregate {
                continue;
            }
            let (per_cpu, is_hash) = match map.map_type() {
                MapType::PercpuHash => (true, true),
                MapType::PercpuArray => (true, false),
                MapType::Hash => (false, true),
                MapType::Array => (false, false),
                other => return Err(format!("aggregate {name} is in a map of type {other:?}")),
            };
            let definition =
                Struct::try_from(var.referenced_type().skip_mods_and_typedefs()).map_err(|_| "a map is no struct")?;
            let key = self.target(&definition, "key")?;
            let value = self.target(&definition, "value")?;
            let (shape, value_size) =
                (self.shape(&value).map_err(|what| format!("aggregate {name}: {what}"))?, value.size());
            let (fields, image) = self.key(&key).map_err(|what| format!("the key of {name}: {what}"))?;
            let aggregate = Aggregate {
                doc: tags.doc.ok_or_else(|| format!("aggregate {name} has no DOC()"))?,
                per_cpu,
                is_hash,
                key: fields,
                key_size: key.size(),
                image,
                shape,
                value_size,
                map: name,
            };
            return Ok(Some((aggregate, tags.load)));
        }
        Ok(None)
    }

    /// The struct that the member `name` of a map's definition points at.
    fn target(&self, definition: &Struct<'a>, name: &str) -> Result<Struct<'a>, String> {
        let member = definition.iter().find(|member| member.name == Some(OsStr::new(name)));
        let ty: BtfType<'_> = member.and_then(|member| self.btf.type_by_id(member.ty)).ok_or("a map lacks a type")?;
        let pointer = Ptr::try_from(ty.skip_mods_and_typedefs()).map_err(|_| "a map's type is no pointer")?;
        Struct::try_from(pointer.referenced_type().skip_mods_and_typedefs())
            .map_err(|_| format!("the {name} of an aggregate is a struct"))
    }

    fn key(&self, key: &Struct<'_>) -> Result<(Vec<KeyField>, Option<ImageAt>), String> {
        let (mut fields, mut exe, mut layout) = (Vec::new(), None, None);
        let mut end = 0;
        for (index, member) in key.iter().enumerate() {
            let name = text(member.name);
            let tags = self.tags.of_member(key.type_id(), index);
            let MemberAttr::Normal { offset } = member.attr else { return Err(format!("{name} is a bitfield")) };
            let offset = offset as usize / 8;
            let ty: BtfType<'_> = self.btf.type_by_id(member.ty).ok_or("a member has no type")?;
            let ty = ty.skip_mods_and_typedefs();
            let kind = self.kind(ty, &tags).map_err(|what| format!("{name}: {what}"))?;
            let size = size_of(ty)?;
            if offset != end {
                return Err(format!("there is a hole before {name}: keys are compared byte by byte"));
            }
            end = offset + size;
            let stack = match tags.meaning.as_deref() {
                Some("kernel_stack") => Some(StackKind::Kernel),
                Some("user_stack") => Some(StackKind::User),
                _ => None,
            };
            if stack.is_some() && (&kind, size) != (&FieldKind::Uint, 8) {
                return Err(format!("{name}: a stack is a u64"));
            }
            match (tags.meaning.as_deref(), size) {
                (Some(IMAGE_EXE), 4) => exe = Some(offset),
                (Some(IMAGE_LAYOUT), 8) => layout = Some(offset),
                (Some(IMAGE_EXE | IMAGE_LAYOUT), _) => return Err(format!("{name} has a size of its own")),
                _ => {}
            }
            if tags.internal || matches!(tags.meaning.as_deref(), Some(IMAGE_EXE | IMAGE_LAYOUT)) {
                continue;
            }
            let doc = tags.doc.ok_or_else(|| format!("{name} has no DOC()"))?;
            let errno = tags.meaning.as_deref() == Some("errno");
            fields.push(KeyField { field: Field { name, doc, unit: tags.unit, errno, kind, offset, size }, stack });
        }
        if end != key.size() {
            return Err("there is a hole at its end: keys are compared byte by byte".into());
        }
        if !fields.iter().any(|field| field.stack == Some(StackKind::User)) {
            return Ok((fields, None));
        }
        let pid = fields.iter().find(|field| field.field.name == "pid" && field.field.size == 4);
        let (Some(pid), Some(exe), Some(layout)) = (pid.map(|pid| pid.field.offset), exe, layout) else {
            return Err("a user stack needs `u32 pid`, `u32 IMAGE_EXE` and `u64 IMAGE_LAYOUT` beside it".into());
        };
        Ok((fields, Some(ImageAt { pid, exe, layout })))
    }

    fn shape(&self, value: &Struct<'_>) -> Result<AggregateShape, String> {
        let (mut counters, mut histograms, mut events) = (Vec::new(), Vec::new(), None);
        for (index, member) in value.iter().enumerate() {
            let name = text(member.name);
            let tags = self.tags.of_member(value.type_id(), index);
            let MemberAttr::Normal { offset } = member.attr else { return Err(format!("{name} is a bitfield")) };
            let ty: BtfType<'_> = self.btf.type_by_id(member.ty).ok_or("a member has no type")?;
            let ty = ty.skip_mods_and_typedefs();
            let doc = tags.doc.clone().ok_or_else(|| format!("{name} has no DOC()"))?;
            let unit = tags.unit.clone();
            let mut field =
                Field { name, doc, unit, errno: false, kind: FieldKind::Uint, offset: offset as usize / 8, size: 8 };
            match Struct::try_from(ty) {
                Ok(hist) if hist.name() == Some(OsStr::new(HIST_TYPE)) => {
                    let slots = hist.iter().next().filter(|member| member.name == Some(OsStr::new(SLOTS)));
                    slots.ok_or("a histogram begins with its slots")?;
                    field.size = hist.size();
                    histograms.push((field, hist.size() / 8 - HIST_TRAILER));
                }
                Ok(_) => return Err(format!("{}: counters and one histogram only", field.name)),
                Err(_) if size_of(ty)? == 8 && self.kind(ty, &tags)? == FieldKind::Uint => {
                    if tags.meaning.as_deref() == Some("events") {
                        events = Some(counters.len());
                    }
                    counters.push(field);
                }
                Err(_) => return Err(format!("{}: counters are u64", field.name)),
            }
        }
        match (histograms.pop(), histograms.is_empty(), counters.is_empty()) {
            (Some((field, slots)), true, true) => Ok(AggregateShape::Histogram { field, slots }),
            (None, _, false) => Ok(AggregateShape::Counters { fields: counters, events }),
            _ => Err("values are counters, or one histogram".into()),
        }
    }
}
