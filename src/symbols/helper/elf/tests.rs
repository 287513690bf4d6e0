use std::time::Duration;

use super::*;

/// A file with one function, `hot`, at offsets 0x10 to 0x1f of the file, in `.symtab` or in a section with the name
/// `.gnu_debugdata` that has no archive.
struct ElfBuilder {
    wide: bool,
    big: bool,
    bytes: Vec<u8>,
}

impl ElfBuilder {
    fn new(wide: bool, big: bool, compressed: bool) -> Self {
        let mut made = ElfBuilder { wide, big, bytes: Vec::new() };
        let names = b"\0hot\0.gnu_debugdata\0";
        let (header, segment, section, symbol): (u64, u64, u64, u64) =
            if wide { (64, 56, 64, 24) } else { (52, 32, 40, 16) };
        let (symbols, strings) = (header + segment, header + segment + 2 * symbol);
        let sections = (strings + names.len() as u64).next_multiple_of(8);

        made.bytes.extend(b"\x7fELF");
        made.bytes.extend([if wide { 2 } else { 1 }, if big { 2 } else { 1 }, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        made.put(2, &[3, 62]); // a shared object
        made.put(4, &[1]);
        made.word(&[0, header, sections]);
        made.put(4, &[0]);
        made.put(2, &[header, segment, 1, section, 3, 2]);
        // One segment: the file from 0 on is mapped at 0x1000
        let rest = [0, 0x1000, 0x1000, 0x100, 0x100];
        made.put(4, &[1]);
        if wide {
            made.put(4, &[5]);
            made.word(&rest);
        } else {
            made.word(&rest);
            made.put(4, &[5]);
        }
        made.word(&[0]); // alignment
        for (name, address, size) in [(0, 0, 0), (1, 0x1010, 0x10)] {
            made.put(4, &[name]);
            if wide {
                made.bytes.extend([if name == 0 { 0 } else { 0x12 }, 0]);
                made.put(2, &[name]);
                made.word(&[address, size]);
            } else {
                made.put(4, &[address, size]);
                made.bytes.extend([if name == 0 { 0 } else { 0x12 }, 0]);
                made.put(2, &[name]);
            }
        }
        made.bytes.extend(names);
        made.bytes.resize(sections as usize, 0);
        let table = if compressed { (5, 1, symbols) } else { (0, 2, symbols) };
        for (name, kind, at, size, link) in
            [(0, 0, 0, 0, 0), (table.0, table.1, table.2, 2 * symbol, 2), (0, 3, strings, names.len() as u64, 0)]
        {
            made.put(4, &[name, kind]);
            made.word(&[0, 0, at, size]);
            made.put(4, &[link, 0]);
            made.word(&[0, symbol]);
        }
        made
    }

    fn put(&mut self, size: usize, values: &[u64]) {
        for value in values {
            let bytes = if self.big { value.to_be_bytes() } else { value.to_le_bytes() };
            self.bytes.extend(if self.big { &bytes[8 - size..] } else { &bytes[..size] });
        }
    }

    /// A value with the size of an address.
    fn word(&mut self, values: &[u64]) {
        self.put(if self.wide { 8 } else { 4 }, values);
    }
}

fn name(bytes: &[u8], offset: u64) -> Option<Vec<u8>> {
    let functions = Functions::read(&bytes, Deadline::within(Duration::from_secs(10))).ok()?;
    functions.name(&bytes, offset)
}

const KINDS: [(bool, bool); 4] = [(true, false), (true, true), (false, false), (false, true)];

#[test]
fn functions_are_found_in_files_of_either_class_and_byte_order() {
    for (wide, big) in KINDS {
        let made = ElfBuilder::new(wide, big, false);
        let found = [0x0f, 0x10, 0x1f, 0x20, 0x100, u64::MAX].map(|offset| name(&made.bytes, offset));
        let hot = Some(b"hot".to_vec());
        assert_eq!(found, [None, hot.clone(), hot, None, None, None], "wide: {wide}, big: {big}");
    }
}

/// With overflow checks, as tests are built.
#[test]
fn truncated_and_malicious_files_do_no_harm() {
    for ((wide, big), compressed) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let whole = ElfBuilder::new(wide, big, compressed).bytes;
        for length in 0..whole.len() {
            name(&whole[..length], 0x10);
        }
        for at in 0..whole.len() {
            for size in [1, 2, 4, 8] {
                let Some(field) = at.checked_add(size).filter(|end| *end <= whole.len()) else { continue };
                for value in [0_u8, 0x7f, 0x80, 0xff] {
                    let mut changed = whole.clone();
                    changed[at..field].fill(value);
                    for offset in [0, 0x10, u64::MAX] {
                        name(&changed, offset);
                    }
                }
            }
        }
    }
}

#[test]
fn more_sections_than_fit_are_counted_by_the_first_one() {
    let mut made = ElfBuilder::new(true, false, false).bytes;
    let sections = u64::from_le_bytes(made[40..48].try_into().expect("eight bytes")) as usize;
    made[60..62].fill(0); // e_shnum
    assert_eq!(name(&made, 0x10), None, "there are none");
    made[sections + 32..sections + 40].copy_from_slice(&3_u64.to_le_bytes()); // sh_size of the first
    assert_eq!(name(&made, 0x10).as_deref(), Some(&b"hot"[..]));
    made[sections + 32..sections + 40].fill(0xff);
    assert_eq!(name(&made, 0x10), None, "more than there can be");
}

#[test]
fn a_function_in_another_one_ends_before_it() {
    let function = |start, size| Function { start, size, name: 1 };
    let functions = vec![function(0x10, 0x100), function(0x20, 8), function(0x40, 0)];
    let table = SymbolSection { functions, strings: SymbolNames::Here(b"\0a\0".to_vec()) };
    let has = |address| table.name(&&b""[..], address).is_some();
    assert!(!has(0x0f) && has(0x10) && has(0x20) && has(0x30) && has(0x41) && !has(0x8));
}
