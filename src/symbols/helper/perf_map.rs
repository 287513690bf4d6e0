//! The file in which a just-in-time compiler publishes the names of its code: `/tmp/perf-PID.map`, one line for each
//! function, `START SIZE NAME` with hexadecimal numbers. It belongs to the process: each line is parsed separately, and
//! nothing of it is cached.

use std::io::{BufRead as _, BufReader, Read};
use std::rc::Rc;

use super::{Deadline, MAX_MANGLED};

/// Limit of bytes of a map; functions after that have no names.
pub const MAX_MAP: u64 = 128 << 20;
const PIECE: usize = 256 << 10;
/// Limit of bytes of a line; longer lines are ignored.
const MAX_LINE: usize = MAX_MANGLED + 64;
/// Lines between two checks of the time limit.
const LINES: usize = 1024;

/// The names of `addresses`, which are sorted, and whether the map was read to its end within the time limit. Of
/// several lines for an address the last one is used: code can be replaced.
pub fn names(map: impl Read, addresses: &[u64], deadline: Deadline) -> (Vec<Option<Vec<u8>>>, bool) {
    // Shared, as one line can match all of them
    let mut found: Vec<Option<Rc<[u8]>>> = vec![None; addresses.len()];
    let mut map = BufReader::with_capacity(PIECE, map.take(MAX_MAP));
    let mut line = Vec::new();
    let mut lines = 0;
    let mut is_in_long_line = false;
    let is_whole = loop {
        line.clear();
        let most = if is_in_long_line { PIECE } else { MAX_LINE };
        match map.by_ref().take(most as u64).read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => {
                if !std::mem::take(&mut is_in_long_line) {
                    take(&line[..line.len() - 1], addresses, &mut found);
                }
            }
            Ok(length) if length == most => is_in_long_line = true,
            _ => break true, // an incomplete last line is still being written
        }
        lines += if is_in_long_line { LINES } else { 1 };
        if lines >= LINES {
            if deadline.is_over() {
                break false;
            }
            lines = 0;
        }
    };
    (found.into_iter().map(|name| name.map(|name| name.to_vec())).collect(), is_whole)
}

fn take(line: &[u8], addresses: &[u64], found: &mut [Option<Rc<[u8]>>]) {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let number = |word: Option<&[u8]>| {
        let text = std::str::from_utf8(word?).ok()?;
        u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
    };
    let (Some(start), Some(size), Some(name)) = (number(words.next()), number(words.next()), words.next()) else {
        return;
    };
    let name = name.trim_ascii();
    let Some(end) = start.checked_add(size) else { return };
    let first = addresses.partition_point(|address| *address < start);
    let behind = addresses.partition_point(|address| *address < end);
    if first < behind && !name.is_empty() && name.len() <= MAX_MANGLED {
        found[first..behind].fill(Some(name.into()));
    }
}

#[cfg(test)]
mod tests;
