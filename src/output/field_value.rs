//! The values of a record: by name, as text, and as minijinja sees them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};

use super::formatters::{Operand, push_int, push_uint};
use super::time;
use crate::event::{Layout, List, Record, Scalar, ValueNames, text};

/// What text from the kernel becomes where it is written as part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextMode {
    /// For a person: one line, and nothing that a terminal would obey.
    Shown,
    /// For a program: valid UTF-8 that the bytes can be had back from.
    Lossless,
}

impl TextMode {
    /// Appends `bytes`.
    #[inline]
    pub fn push(self, bytes: &[u8], out: &mut String) {
        if let Some(plain) = text::plain(bytes) {
            return out.push_str(plain);
        }
        match self {
            TextMode::Shown => text::push_shown(bytes, out),
            TextMode::Lossless => text::push_lossless(bytes, out),
        }
    }
}

/// A value of a record that a template or a column can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldRef {
    /// Wall-clock time of the event.
    Time,
    /// The probe's name.
    Probe,
    /// A field of the program, by its index in the layout.
    Event(usize),
}

impl FieldRef {
    /// The field called `name`.
    pub fn find(name: &str, layout: &Layout) -> Option<Self> {
        match name {
            "time" => Some(FieldRef::Time),
            "probe" => Some(FieldRef::Probe),
            _ => layout.index(name).map(FieldRef::Event),
        }
    }

    /// All fields in the order in which records are written: `time`, `ts`, `probe`, then the program's.
    pub fn all(layout: &Layout) -> Vec<(FieldRef, &str)> {
        let events = layout.fields.iter().enumerate().map(|(i, field)| (FieldRef::Event(i), field.name.as_str()));
        let mut all: Vec<_> = events.collect();
        all.insert(0, (FieldRef::Time, "time"));
        all.insert(2, (FieldRef::Probe, "probe"));
        all
    }

    /// Its value in `record`.
    #[inline]
    pub fn read<'a>(self, record: &Record<'a>) -> Scalar<'a> {
        match self {
            FieldRef::Time => Scalar::Time(record.time),
            FieldRef::Probe => Scalar::Name(record.probe),
            FieldRef::Event(index) => record.layout.read(index, record.raw),
        }
    }
}

/// Appends `scalar` as a template without a formatter shows it.
#[inline]
pub fn push_scalar(scalar: Scalar<'_>, mode: TextMode, out: &mut String) {
    match scalar {
        Scalar::Uint(value) | Scalar::Unnamed(value) => push_uint(value, out),
        Scalar::Int(value) => push_int(value, out),
        Scalar::Float(value) => out.push_str(&Value::from(value).to_string()),
        Scalar::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Scalar::Text(bytes) => mode.push(bytes, out),
        Scalar::Name(name) => out.push_str(name),
        Scalar::Bits(bits, names) => push_bits(bits, names, out),
        Scalar::Ip(address) => push_ip(address, out),
        Scalar::List(list) => push_list(list, out),
        Scalar::Stack(frames) => push_folded(frames, mode, out),
        Scalar::Time(at) => time::push_rfc3339(at, out),
    }
}

/// Names with `|` between them, and what has no name as a number.
pub fn push_bits(bits: u64, names: &ValueNames, out: &mut String) {
    let (mut left, start) = (bits, out.len());
    let mut push = |text: &str| {
        if out.len() > start {
            out.push('|');
        }
        out.push_str(text);
    };
    for (bit, name) in names.iter().filter(|(bit, _)| bits & bit == *bit && *bit != 0) {
        push(name);
        left &= !bit;
    }
    if left != 0 {
        push(&format!("{left:#x}"));
    }
}

/// The usual notation of either version.
pub fn push_ip(address: Ipv6Addr, out: &mut String) {
    let written = match address.to_ipv4_mapped() {
        Some(v4) => write!(out, "{v4}"),
        None => write!(out, "{address}"),
    };
    written.expect("a String takes all");
}

/// Words of a shell.
pub fn push_list(list: List<'_>, out: &mut String) {
    for (i, item) in list.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        text::push_quoted(item, out);
    }
}

/// A stack as flame graphs want it: from the outermost frame to the innermost, `;` between them.
pub fn push_folded(frames: List<'_>, mode: TextMode, out: &mut String) {
    let frames: Vec<&[u8]> = frames.iter().collect();
    for (i, frame) in frames.iter().rev().enumerate() {
        if i > 0 {
            out.push(';');
        }
        let start = out.len();
        mode.push(frame, out);
        if out[start..].contains(';') {
            let name = out[start..].replace(';', ":");
            out.truncate(start);
            out.push_str(&name);
        }
    }
}

/// `scalar` as the operand of a formatter; `scratch` holds the text where it has to be made.
#[inline]
pub fn operand<'a>(scalar: Scalar<'a>, mode: TextMode, scratch: &'a mut String) -> Operand<'a> {
    match scalar {
        Scalar::Name(name) => Operand::Text(name),

        Scalar::Uint(value) => Operand::Uint(value),
        Scalar::Int(value) => Operand::Int(value),
        Scalar::Float(value) => Operand::Float(value),
        Scalar::Time(at) => Operand::Time(at),
        other => {
            if let Scalar::Text(bytes) = other
                && let Some(plain) = text::plain(bytes)
            {
                return Operand::Text(plain);
            }
            scratch.clear();
            push_scalar(other, mode, scratch);
            Operand::Text(scratch)
        }
    }
}

/// What templates know besides the record.
#[derive(Debug, Clone, Default)]
pub struct Globals {
    /// The capture's name.
    pub name: String,
    /// The host's name.
    pub host: String,
    /// When the capture started, nanoseconds since 1970.
    pub start: i64,
    /// The config's labels.
    pub labels: BTreeMap<String, String>,
    /// For a path that is one probe's: its name.
    pub probe: Option<String>,
}

/// The names of the globals that every template has.
pub const GLOBALS: &[&str] = &["name", "host", "start", "labels"];
/// Those of a sink's path.
pub const PATH_NAMES: &[&str] = &["name", "host", "start", "labels", "probe"];

impl Globals {
    fn value(&self, name: &str) -> Option<Value> {
        Some(match name {
            "name" => Value::from(self.name.as_str()),
            "host" => Value::from(self.host.as_str()),
            "start" => Value::from_object(TemplateTime(self.start)),
            "labels" => Value::from(self.labels.clone()),
            "probe" => Value::from(self.probe.as_deref()?),
            _ => return None,
        })
    }
}

impl Object for Globals {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.value(key.as_str()?)
    }
}

/// A record as the context of a template that minijinja renders. Fields are decoded when they are asked for.
#[derive(Debug)]
pub struct RecordObject {
    /// The shape of `raw`.
    pub layout: Arc<Layout>,
    /// The record's bytes.
    pub raw: Vec<u8>,
    /// Wall-clock time.
    pub time: i64,
    /// The probe's name.
    pub probe: Arc<str>,
    /// Names beside the fields.
    pub globals: Arc<Globals>,
    /// How text is written.
    pub mode: TextMode,
}

impl Object for RecordObject {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let Some(field) = FieldRef::find(key, &self.layout) else { return self.globals.value(key) };
        let record = Record { layout: &self.layout, raw: &self.raw, time: self.time, probe: &self.probe };
        Some(match field.read(&record) {
            Scalar::Uint(value) => Value::from(value),
            Scalar::Int(value) => Value::from(value),
            Scalar::Float(value) => Value::from(value),
            Scalar::Bool(value) => Value::from(value),
            Scalar::Time(at) => Value::from_object(TemplateTime(at)),
            Scalar::List(list) => Value::from_object(ListObject::new(list, self.mode)),
            Scalar::Stack(frames) => Value::from_object(ListObject::of_frames(frames, self.mode)),
            text => {
                let mut out = String::new();
                push_scalar(text, self.mode, &mut out);
                Value::from(out)
            }
        })
    }
}

/// A wall-clock time in a template.
#[derive(Debug)]
pub struct TemplateTime(pub i64);

impl Object for TemplateTime {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        time::push_rfc3339(self.0, &mut out);
        f.write_str(&out)
    }
}

/// A list in a template: shell words or a folded stack as a whole, each text by its index.
#[derive(Debug)]
struct ListObject {
    whole: String,
    items: Vec<Value>,
}

impl ListObject {
    fn new(list: List<'_>, mode: TextMode) -> Self {
        let mut whole = String::new();
        push_list(list, &mut whole);
        ListObject { whole, items: ListObject::items(list, mode) }
    }

    fn of_frames(frames: List<'_>, mode: TextMode) -> Self {
        let mut whole = String::new();
        push_folded(frames, mode, &mut whole);
        ListObject { whole, items: ListObject::items(frames, mode) }
    }

    fn items(list: List<'_>, mode: TextMode) -> Vec<Value> {
        let item = |bytes: &[u8]| {
            let mut out = String::new();
            mode.push(bytes, &mut out);
            Value::from(out)
        };
        list.iter().map(item).collect()
    }
}

impl Object for ListObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whole)
    }
}

/// What a formatter makes of a value of minijinja.
pub fn operand_of<'a>(value: &Value, scratch: &'a mut String) -> Operand<'a> {
    if let Some(TemplateTime(at)) = value.downcast_object_ref() {
        return Operand::Time(*at);
    }
    if value.is_number() {
        if value.is_integer() {
            if let Ok(value) = u64::try_from(value.clone()) {
                return Operand::Uint(value);
            }
            if let Ok(value) = i64::try_from(value.clone()) {
                return Operand::Int(value);
            }
        }
        if let Ok(value) = f64::try_from(value.clone()) {
            return Operand::Float(value);
        }
    }
    scratch.clear();
    match value.kind() {
        // As in YAML and JSON, not as in Python
        ValueKind::Bool => scratch.push_str(if value.is_true() { "true" } else { "false" }),
        _ => scratch.push_str(&value.to_string()),
    }
    Operand::Text(scratch)
}
