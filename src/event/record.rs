//! One record, and the values of its fields.

use std::net::Ipv6Addr;

use super::layout::{Layout, ValueNames};

/// A record as a sink gets it: the kernel's bytes and what the runner adds.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The layout of `raw`.
    pub layout: &'a Layout,
    /// The kernel's bytes, at least [`Layout::min_size`] of them.
    pub raw: &'a [u8],
    /// Wall-clock time of the event, nanoseconds since 1970 in UTC, from the event's timestamp.
    pub time: i64,
    /// The probe's name.
    pub probe: &'a str,
}

/// The value of one field.
#[derive(Debug, Clone, Copy)]
pub enum Scalar<'a> {
    /// An unsigned integer.
    Uint(u64),
    /// A signed integer.
    Int(i64),
    /// A number that a template computed.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Bytes from the kernel: untrusted until they are escaped.
    Text(&'a [u8]),
    /// Text of this program, safe to print unchanged.
    Name(&'a str),
    /// An enum value without a name: text, like the named values.
    Unnamed(u64),
    /// Bits with their names.
    Bits(u64, &'a ValueNames),
    /// An IP address; IPv4 is mapped into IPv6.
    Ip(Ipv6Addr),
    /// A list of texts.
    List(List<'a>),
    /// The frames of a stack, innermost first.
    Stack(List<'a>),
    /// Wall-clock time, nanoseconds since 1970 in UTC.
    Time(i64),
}

/// A list of texts, each terminated by a NUL.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    bytes: &'a [u8],
    cut: bool,
}

/// Replaces the rest of a list that was too long for the record.
pub const CUT: &[u8] = "…".as_bytes();

impl<'a> List<'a> {
    /// Decodes a `struct runner_list` of `bpf/include/ebpf_run.h` and the record's tail.
    #[inline]
    pub fn new(head: &[u8], tail: &'a [u8]) -> Self {
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let len = word(0) as usize;
        List { bytes: &tail[..len.min(tail.len())], cut: word(4) != 0 || len > tail.len() }
    }

    /// One of several lists in a tail: `head` has its offset, then the bytes for [`List::new`].
    #[inline]
    pub fn within(head: &[u8], tail: &'a [u8]) -> Self {
        let start = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        List::new(&head[4..], tail.get(start..).unwrap_or_default())
    }

    /// The texts, and a final `…` if there were more than the record could hold.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let body = self.bytes.strip_suffix(&[0]).unwrap_or(self.bytes);
        let texts = (!self.bytes.is_empty()).then(|| body.split(|&byte| byte == 0));
        texts.into_iter().flatten().chain(self.cut.then_some(CUT))
    }
}

#[cfg(test)]
mod tests;
