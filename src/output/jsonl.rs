//! JSON Lines. Valid whatever bytes a name holds, integers exact to 64 bits.

use super::field_value::{TextMode, push_bits, push_ip};
use super::formatters::{push_int, push_uint};
use super::sink::Cell;
use super::time;
use crate::event::{Record, Scalar, text};

/// Most lines are shorter: room for one is made once, not piece by piece.
const LINE_BYTES: usize = 512;

/// One member of the objects: `,"name":` ready made, and where the value comes from.
#[derive(Debug)]
pub(super) struct Member {
    key: String,
    cell: Cell,
}

/// The members of the records of one probe.
pub(super) fn members(cells: Vec<(String, Cell)>) -> Vec<Member> {
    let mut members = Vec::new();
    for (name, cell) in cells {
        let mut key = String::from(if members.is_empty() { "{" } else { "," });
        push_string(&name, &mut key);
        key.push(':');
        members.push(Member { key, cell });
    }
    members
}

/// Appends `record` as a line.
///
/// # Errors
/// If a template of a member fails; `out` may then hold a part of the line.
#[inline]
pub(super) fn push_line(
    members: &mut [Member],
    record: &Record<'_>,
    scratch: &mut String,
    out: &mut String,
) -> Result<(), String> {
    if members.is_empty() {
        out.push('{');
    }
    out.reserve(LINE_BYTES);
    for Member { key, cell } in members {
        out.push_str(key);
        match cell {
            Cell::Field(field) => push_value(field.read(record), out),
            Cell::Template(template) => {
                scratch.clear();
                template.render(record, scratch)?;
                push_string(scratch, out);
            }
            Cell::Absent => out.push_str("null"),
        }
    }
    out.push_str("}\n");
    Ok(())
}

/// Appends the line that says that records are missing here.
pub(super) fn push_gap(at: i64, probe: &str, lost: u64, cause: &str, out: &mut String) {
    out.push_str("{\"time\":\"");
    time::push_rfc3339(at, out);
    out.push_str("\",\"probe\":");
    push_string(probe, out);
    out.push_str(",\"lost\":");
    push_uint(lost, out);
    out.push_str(",\"cause\":");
    push_string(cause, out);
    out.push_str("}\n");
}

#[inline]
fn push_value(scalar: Scalar<'_>, out: &mut String) {
    match scalar {
        Scalar::Uint(value) => push_uint(value, out),
        Scalar::Int(value) => push_int(value, out),
        Scalar::Float(value) if value.is_finite() => out.push_str(&value.to_string()),
        Scalar::Float(_) => out.push_str("null"),
        Scalar::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Scalar::Text(bytes) => push_bytes(bytes, out),
        Scalar::Name(name) => push_string(name, out),
        Scalar::Unnamed(value) => {
            out.push('"');
            push_uint(value, out);
            out.push('"');
        }
        Scalar::Bits(bits, names) => {
            out.push('"');
            push_bits(bits, names, out); // C identifiers and digits: nothing to escape
            out.push('"');
        }
        Scalar::Ip(address) => {
            out.push('"');
            push_ip(address, out);
            out.push('"');
        }
        Scalar::List(list) | Scalar::Stack(list) => {
            out.push('[');
            for (i, item) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_bytes(item, out);
            }
            out.push(']');
        }
        Scalar::Time(at) => {
            out.push('"');
            time::push_rfc3339(at, out);
            out.push('"');
        }
    }
}

#[inline]
fn push_bytes(bytes: &[u8], out: &mut String) {
    match text::plain(bytes) {
        Some(plain) => push_plain(plain, out),
        None => {
            let mut lossless = String::new();
            TextMode::Lossless.push(bytes, &mut lossless);
            push_escaped(&lossless, out);
        }
    }
}

#[inline]
fn push_string(text: &str, out: &mut String) {
    match text::plain(text.as_bytes()) {
        Some(plain) => push_plain(plain, out),
        None => push_escaped(text, out),
    }
}

#[inline]
fn push_plain(text: &str, out: &mut String) {
    out.push('"');
    out.push_str(text);
    out.push('"');
}

/// JSON leaves some characters as they are that a terminal would obey, or a reader be deceived by: a reader of
/// the file should not need to care, so these are escaped too.
#[cold]
fn push_escaped(text: &str, out: &mut String) {
    out.push_str(&text::safe_json(&serde_json::to_string(text).expect("a string is JSON")));
}
