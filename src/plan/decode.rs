//! The bytes of a variable as values again, for a person who reads a plan.

use crate::catalog::{Element, ElementKind, Variable};
use crate::config::quantity::{Bytes, Nanoseconds};
use crate::event::text::push_shown;

/// The values in the bytes of `variable`, as a config would write them.
pub(super) fn decode(variable: &Variable, bytes: &[u8]) -> Vec<String> {
    let Element { size, kind } = &variable.element;
    let (first, count) = match variable.list {
        None => (0, 1),
        Some(shape) => (shape.values, u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize),
    };
    let negated = variable.list.is_some() && bytes[4] != 0;
    let values = bytes[first..].chunks(*size).take(count).map(|slot| decoded(kind, slot));
    values.map(|value| if negated { format!("not {value}") } else { value }).collect()
}

fn decoded(kind: &ElementKind, slot: &[u8]) -> String {
    match kind {
        ElementKind::Text => text(slot),
        ElementKind::Comm => {
            let (name, mask) = slot.split_at(slot.len() / 2);
            text(name) + if mask.ends_with(&[0]) { "*" } else { "" }
        }
        ElementKind::Disk => {
            let (name, numbers) = slot.split_at(slot.len() - 8);
            let (major, minor) = numbers.split_at(4);
            if name[0] == 0 { format!("{}:{}", number(major), number(minor)) } else { text(name) }
        }
        ElementKind::Duration => Nanoseconds(number(slot)).to_string(),
        ElementKind::Frequency => format!("{}Hz", number(slot)),
        ElementKind::Bytes => Bytes(number(slot)).to_string(),
        ElementKind::Uint | ElementKind::User => number(slot).to_string(),
        ElementKind::Cgroup | ElementKind::Unit => "looked up at the start".into(),
        ElementKind::Int => {
            let unused = 64 - 8 * slot.len() as u32;
            (((number(slot) << unused) as i64) >> unused).to_string()
        }
        ElementKind::Bool => (number(slot) != 0).to_string(),
        ElementKind::Enum(names) => names.name(number(slot)).map_or_else(|| number(slot).to_string(), str::to_owned),
    }
}

pub(super) fn number(slot: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let from = if cfg!(target_endian = "little") { 0 } else { 8 - slot.len() };
    bytes[from..from + slot.len()].copy_from_slice(slot);
    u64::from_ne_bytes(bytes)
}

fn text(slot: &[u8]) -> String {
    let mut shown = String::new();
    push_shown(slot.split(|&byte| byte == 0).next().unwrap_or_default(), &mut shown);
    shown
}
