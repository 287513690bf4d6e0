//! The file in which a just-in-time compiler tells the names of its code: `/tmp/perf-PID.map`, a line for each function,
//! `START SIZE NAME` with hexadecimal numbers. It belongs to the process: each line is taken for itself, and nothing of it
//! is kept.

use std::io::Read;
use std::rc::Rc;

use super::{Deadline, MAX_MANGLED};

/// Bytes of a map that are read; functions behind that have no names.
pub const MAX_MAP: u64 = 128 << 20;
const PIECE: usize = 256 << 10;

/// The names of `addresses`, which are sorted. Of several lines for an address the last one counts: code is replaced.
pub fn names(map: &mut impl Read, addresses: &[u64], deadline: Deadline) -> Vec<Option<Vec<u8>>> {
    // Shared, as one line may be for all of them
    let mut found: Vec<Option<Rc<[u8]>>> = vec![None; addresses.len()];
    let (mut piece, mut filled, mut read) = (vec![0; PIECE], 0, 0);
    let mut skipping = false; // in a line that is too long
    while read < MAX_MAP && !deadline.is_over() {
        let Ok(count) = map.read(&mut piece[filled..]) else { break };
        if count == 0 {
            break; // a last line without its end is still being written
        }
        read += count as u64;
        filled += count;
        let mut rest = &piece[..filled];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if !std::mem::take(&mut skipping) {
                take(&rest[..end], addresses, &mut found);
            }
            rest = &rest[end + 1..];
        }
        let left = rest.len();
        if left > MAX_MANGLED + 64 {
            skipping = true;
            filled = 0;
        } else {
            piece.copy_within(filled - left..filled, 0);
            filled = left;
        }
    }
    found.into_iter().map(|name| name.map(|name| name.to_vec())).collect()
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
mod tests {
    use std::time::Duration;

    use super::*;

    fn names_in(text: &[u8], addresses: &[u64]) -> Vec<Option<String>> {
        let found = names(&mut &text[..], addresses, Deadline::within(Duration::from_secs(10)));
        found.into_iter().map(|name| name.map(|name| String::from_utf8_lossy(&name).into_owned())).collect()
    }

    #[test]
    fn good_lines_count_whatever_is_between_them() {
        let mut text = b"1000 10 first\n\xff\xff\nnot hex at all\n2000 ffffffffffffffff wraps\n3000 10 \n".to_vec();
        text.extend(vec![b'x'; 10 << 20]);
        text.extend(b"\n0x4000 0x10 LazyCompile:*f /a b.js:1\r\n5000 10 replaced\n5000 8 newer\n6000 10 unfinished");
        let found = names_in(&text, &[0xfff, 0x1000, 0x100f, 0x1010, 0x2000, 0x3000, 0x4001, 0x5000, 0x5008, 0x6000]);
        let first = Some("first".to_owned());
        let lazy = Some("LazyCompile:*f /a b.js:1".to_owned());
        let (newer, replaced) = (Some("newer".to_owned()), Some("replaced".to_owned()));
        assert_eq!(found, [None, first.clone(), first, None, None, None, lazy, newer, replaced, None]);
    }

    #[test]
    fn an_endless_map_ends() {
        let started = std::time::Instant::now();
        let mut zeros = std::io::repeat(0);
        assert_eq!(names(&mut zeros, &[1], Deadline::within(Duration::from_secs(60))), [None]);
        let mut lines = std::io::repeat(b'\n');
        assert_eq!(names(&mut lines, &[1], Deadline::within(Duration::from_secs(1))), [None]);
        assert!(started.elapsed().as_secs() < 30);
    }
}
