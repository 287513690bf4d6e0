//! The layout of a program's records, from its BTF.

use std::net::Ipv6Addr;
use std::sync::Arc;

use super::record::{CUT, List, Scalar};

/// Names of an enum's values, in the order of the C source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueNames(Vec<(u64, String)>);

impl ValueNames {
    /// Made from the C enumerators. The prefix that all of them share up to an underscore is removed and the rest is
    /// written in lower case: `OP_READ, OP_WRITE` become `read`, `write`.
    pub fn from_c(values: Vec<(u64, String)>) -> Self {
        let prefix = common_prefix(&values);
        ValueNames(values.into_iter().map(|(value, name)| (value, name[prefix..].to_ascii_lowercase())).collect())
    }

    /// The name of `value`, if it has one.
    pub fn name(&self, value: u64) -> Option<&str> {
        self.0.iter().find(|(v, _)| *v == value).map(|(_, name)| name.as_str())
    }

    /// The value with the name `name`.
    pub fn value(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(_, n)| n == name).map(|(value, _)| *value)
    }

    /// All values with their names.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.0.iter().map(|(value, name)| (*value, name.as_str()))
    }
}

/// The length of the longest prefix that ends in `_`, is shared by all names and leaves part of each.
fn common_prefix(values: &[(u64, String)]) -> usize {
    let Some((_, first)) = values.first() else { return 0 };
    let shared = values.iter().fold(first.len(), |len, (_, name)| {
        first.bytes().zip(name.bytes()).take(len).take_while(|(a, b)| a == b).count()
    });
    let prefix = first[..shared].rfind('_').map_or(0, |at| at + 1);
    if values.iter().all(|(_, name)| name.len() > prefix) { prefix } else { 0 }
}

/// How the bytes of a field are decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    /// An unsigned integer of the field's size (1, 2, 4 or 8 bytes).
    Uint,
    /// A signed integer of the field's size.
    Int,
    /// One byte, 0 or not.
    Bool,
    /// Text up to the first NUL or the field's end; any bytes, not only UTF-8.
    Text,
    /// One text in the record's tail.
    Tail {
        /// Offset of the tail.
        tail: usize,
    },
    /// An IP address of 16 bytes; an IPv4 address is `::ffff:a.b.c.d`.
    Ip,
    /// One of several named values.
    Enum(Arc<ValueNames>),
    /// Any of several named bits.
    Bits(Arc<ValueNames>),
    /// A list of texts in the record's tail.
    List {
        /// Offset of the tail.
        tail: usize,
    },
    /// A stack: a list of frames in the tail, innermost first. A record can have several.
    Stack {
        /// Offset of the tail.
        tail: usize,
    },
}

/// One member of an event struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The member's name in C.
    pub name: String,
    /// Its meaning, one sentence.
    pub doc: String,
    /// The unit of a number: `ns`, `bytes`, …
    pub unit: Option<String>,
    /// Whether a negative value is an error number.
    pub errno: bool,
    /// How to decode it.
    pub kind: FieldKind,
    /// Offset in the record, bytes.
    pub offset: usize,
    /// Size, bytes.
    pub size: usize,
}

/// All fields of a program's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What an event is, one sentence.
    pub doc: String,
    /// In the order of the struct. The first is `ts`, monotonic nanoseconds.
    pub fields: Vec<Field>,
    /// Size of the longest record, bytes.
    pub size: usize,
    /// Size that every record has, bytes; only a tail can be shorter.
    pub min_size: usize,
}

impl Layout {
    /// The index of the field with the name `name`.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// Reads field `index` of `raw`, a record of at least [`Layout::min_size`] bytes.
    #[inline]
    pub fn read<'a>(&'a self, index: usize, raw: &'a [u8]) -> Scalar<'a> {
        let field = &self.fields[index];
        let (at, kind) = (field.offset, &field.kind);
        // The two most frequent kinds first, without a check of other sizes
        match (kind, field.size) {
            (FieldKind::Uint, 8) => return Scalar::Uint(u64::from_ne_bytes(fixed(raw, at))),
            (FieldKind::Uint, 4) => return Scalar::Uint(u32::from_ne_bytes(fixed(raw, at)).into()),
            _ => {}
        }
        let bytes = &raw[at..at + field.size];
        match kind {
            FieldKind::Uint => Scalar::Uint(unsigned(bytes)),
            FieldKind::Int => Scalar::Int(signed(bytes)),
            FieldKind::Text => Scalar::Text(until_nul(bytes)),
            FieldKind::Tail { tail } => Scalar::Text(counted(bytes, &raw[*tail..])),
            FieldKind::Bool => Scalar::Bool(bytes[0] != 0),
            FieldKind::Ip => Scalar::Ip(Ipv6Addr::from(fixed::<16>(raw, at))),
            FieldKind::Enum(names) => {
                let value = unsigned(bytes);
                names.name(value).map_or(Scalar::Unnamed(value), Scalar::Name)
            }
            FieldKind::Bits(names) => Scalar::Bits(unsigned(bytes), names),
            FieldKind::List { tail } => Scalar::List(List::new(bytes, &raw[*tail..])),
            FieldKind::Stack { tail } => Scalar::Stack(List::within(bytes, &raw[*tail..])),
        }
    }

    /// The time of the event, monotonic nanoseconds.
    #[inline]
    pub fn ts(&self, raw: &[u8]) -> u64 {
        unsigned(&raw[self.fields[0].offset..][..8])
    }
}

#[inline]
fn fixed<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    raw[at..at + N].try_into().expect("a slice of N bytes is N bytes long")
}

#[inline]
fn unsigned(bytes: &[u8]) -> u64 {
    match *bytes {
        [a] => a.into(),
        [a, b] => u16::from_ne_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => unreachable!("the catalogue takes integers of 1, 2, 4 and 8 bytes only"),
    }
}

#[inline]
fn signed(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len() as u32;
    ((unsigned(bytes) << unused) as i64) >> unused
}

/// The text of a `struct runner_text` of `bpf/include/ebpf_run.h`: its length includes the NUL, and 0 means that it
/// could not be read, which is not the same as an empty text. A length beyond the record is never trusted.
#[inline]
fn counted<'a>(head: &[u8], tail: &'a [u8]) -> &'a [u8] {
    match unsigned(head) as usize {
        0 => CUT,
        len => &tail[..(len - 1).min(tail.len())],
    }
}

#[inline]
fn until_nul(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    &bytes[..len]
}

#[cfg(test)]
mod tests;
