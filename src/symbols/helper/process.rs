//! One process: whether it still runs the sampled program, what is mapped at its addresses, and their names.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read as _};

use rustix::fd::AsFd as _;

use super::elf::{Functions, Unreadable};
use super::files::{Opener, ProcDir, look_at};
use super::function_cache::FileKey;
use super::{Deadline, WorkerState, demangle, perf_map, vdso};
use crate::symbols::wire::{Answer, Image, UnresolvedCause};

/// Limit of bytes of a list of mappings.
const MAX_MAPS: u64 = 64 << 20;
/// Personality of a process without address space randomisation (ADDR_NO_RANDOMIZE).
const NO_RANDOMIZE: u32 = 0x004_0000;
/// Resolution of a start time, nanoseconds.
const TICK: i128 = 10_000_000;

/// A mapping of code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    /// Its offset in the file.
    offset: u64,
    /// The inode; 0: anonymous memory.
    inode: u64,
    /// `[vdso]`, `//anon`, a path.
    name: Vec<u8>,
}

/// The answers for `addresses` of a program image.
pub fn names(image: &Image, addresses: &[u64], tools: &mut WorkerState, deadline: Deadline) -> Vec<Answer> {
    find(image, addresses, tools, deadline).unwrap_or_else(|cause| vec![Err(cause); addresses.len()])
}

fn find(
    image: &Image,
    addresses: &[u64],
    tools: &mut WorkerState,
    deadline: Deadline,
) -> Result<Vec<Answer>, UnresolvedCause> {
    let mut dir = ProcDir::open(image.pid)?;
    if !runs(&dir, image, tools.boot_offset)? {
        return Err(UnresolvedCause::ProcessGone);
    }
    let mut order: Vec<usize> = (0..addresses.len()).collect();
    order.sort_by_key(|at| addresses[*at]);
    let sorted: Vec<u64> = order.iter().map(|at| addresses[*at]).collect();
    let mappings = mappings(dir.read("maps")?, &sorted).ok_or(UnresolvedCause::ProcessGone)?;

    let mut answers = vec![Err(UnresolvedCause::NotMapped); sorted.len()];
    let mut without_file = Vec::new();
    for mapping in &mappings {
        let first = sorted.partition_point(|address| *address < mapping.start);
        let behind = sorted.partition_point(|address| *address < mapping.end);
        let (addresses, answers) = (&sorted[first..behind], &mut answers[first..behind]);
        if deadline.is_over() {
            answers.fill(Err(UnresolvedCause::TimedOut));
        } else if mapping.name == b"[vdso]" {
            vdso::names(mapping.start, addresses, answers);
        } else if mapping.inode == 0 {
            answers.fill(Err(UnresolvedCause::NoFile));
            without_file.extend(first..behind);
        } else {
            in_file(&mut dir, mapping, addresses, answers, tools, deadline);
        }
    }
    // Code of a just-in-time compiler can be in a file too (a memfd that is mapped twice), which then has no symbols
    let unnamed = |at: &usize| matches!(answers[*at], Err(UnresolvedCause::NoSymbol | UnresolvedCause::NoFile));
    let unnamed: Vec<usize> = (0..sorted.len()).filter(unnamed).collect();
    if !without_file.is_empty() || unnamed.iter().any(|at| answers[*at] == Err(UnresolvedCause::NoSymbol)) {
        let wanted: Vec<u64> = unnamed.iter().map(|at| sorted[*at]).collect();
        if let Some(map) = open_perf_map(&mut dir, &mut tools.opener) {
            let (names, is_whole) = perf_map::names(map, &wanted, deadline);
            for (at, name) in unnamed.iter().zip(names) {
                match name {
                    Some(name) => answers[*at] = Ok(name),
                    None if !is_whole => answers[*at] = Err(UnresolvedCause::TimedOut),
                    None => {}
                }
            }
        }
    }
    // Another program has been executed since then: the names found are those of the other one
    if !runs(&dir, image, tools.boot_offset)? {
        return Err(UnresolvedCause::ProcessGone);
    }
    let mut found = vec![Err(UnresolvedCause::NotMapped); addresses.len()];
    order.into_iter().zip(answers).for_each(|(at, answer)| found[at] = answer);
    Ok(found)
}

fn in_file(
    dir: &mut ProcDir,
    mapping: &Mapping,
    addresses: &[u64],
    answers: &mut [Answer],
    tools: &mut WorkerState,
    deadline: Deadline,
) {
    let WorkerState { opener, library, .. } = tools;
    let found = dir.link(&format!("map_files/{:x}-{:x}", mapping.start, mapping.end)).and_then(|path| {
        let stat = look_at(path.as_fd())?;
        library.get(FileKey::of(&stat), || {
            let file = opener.open(dir, path.as_fd(), &stat)?;
            let functions = Functions::read(&file, deadline).map_err(|unreadable| match unreadable {
                Unreadable::Invalid => UnresolvedCause::NoSymbol,
                Unreadable::TimedOut => UnresolvedCause::TimedOut,
            })?;
            Ok((file, functions))
        })
    });
    let (file, functions) = match found {
        Ok(found) => found,
        Err(cause) => return answers.fill(Err(cause)),
    };
    answers.fill(Err(UnresolvedCause::TimedOut));
    for (address, answer) in addresses.iter().zip(answers) {
        let offset = (address - mapping.start).checked_add(mapping.offset);
        let name = offset.and_then(|offset| functions.name(file, offset));
        *answer = name.map(|name| demangle(&name)).ok_or(UnresolvedCause::NoSymbol);
        if deadline.is_over() {
            break;
        }
    }
}

/// The mappings that contain one of `addresses`, which are sorted; `None` if the process ended meanwhile.
fn mappings(maps: File, addresses: &[u64]) -> Option<Vec<Mapping>> {
    let mut maps = BufReader::with_capacity(1 << 16, maps.take(MAX_MAPS));
    let (mut line, mut found, mut next) = (Vec::new(), Vec::new(), 0);
    let mut any = false;
    while next < addresses.len() {
        line.clear();
        if maps.read_until(b'\n', &mut line).ok()? == 0 {
            break;
        }
        any = true;
        let Some(mapping) = mapping(&line) else { continue };
        let first = next + addresses[next..].partition_point(|address| *address < mapping.start);
        let behind = first + addresses[first..].partition_point(|address| *address < mapping.end);
        if first < behind {
            found.push(mapping);
        }
        next = behind.max(first);
    }
    any.then_some(found)
}

/// `START-END PERMISSIONS OFFSET MAJOR:MINOR INODE NAME`
fn mapping(line: &[u8]) -> Option<Mapping> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let range = std::str::from_utf8(words.next()?).ok()?;
    let (start, end) = range.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = (hex(start)?, hex(end)?);
    let offset = hex(std::str::from_utf8(words.nth(1)?).ok()?)?;
    let inode = std::str::from_utf8(words.nth(1)?).ok()?.parse().ok()?;
    let name = words.next().unwrap_or_default().trim_ascii_start().to_vec();
    Some(Mapping { start, end, offset, inode, name })
}

fn open_perf_map(dir: &mut ProcDir, opener: &mut Opener) -> Option<File> {
    let status = dir.text("status").ok()?;
    let numbers = |key: &[u8]| -> Option<Vec<u32>> {
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key))?;
        std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
    };
    // Its pid in its own pid namespace, by which it names the file
    let pid = *numbers(b"NSpid:")?.last()?;
    let user = *numbers(b"Uid:")?.get(1)?;
    let path = dir.in_tmp(opener, &format!("perf-{pid}.map")).ok()?;
    let stat = look_at(path.as_fd()).ok()?;
    // In a directory that every user can write to, any user may have created it. It can also be another file under this
    // name: by a hard link, or by a mount in the process's mount namespace, with which a user can put root's files
    // there
    if stat.stx_uid != user || stat.stx_nlink != 1 {
        return None;
    }
    opener.open(dir, path.as_fd(), &stat).ok()
}

/// Whether the process still runs the program of `image`.
fn runs(dir: &ProcDir, image: &Image, boot_offset: i128) -> Result<bool, UnresolvedCause> {
    let stat = Stat::of(&dir.text("stat")?).ok_or(UnresolvedCause::ProcessGone)?;
    if stat.start_stack == 0 {
        // The kernel shows the layout of an address space only to processes with the permission to ptrace it
        return Err(if stat.is_zombie { UnresolvedCause::ProcessGone } else { UnresolvedCause::NotPermitted });
    }
    if !stat.is_of(image.layout, boot_offset) {
        return Ok(false);
    }
    // Without randomisation two programs can have the same layout
    Ok(is_randomized(dir) || exe(dir).is_none_or(|exe| exe == image.exe))
}

fn is_randomized(dir: &ProcDir) -> bool {
    let everywhere = fs::read("/proc/sys/kernel/randomize_va_space").is_ok_and(|value| value.first() != Some(&b'0'));
    let personality = dir
        .text("personality")
        .ok()
        .and_then(|text| u32::from_str_radix(std::str::from_utf8(&text).ok()?.trim(), 16).ok());
    everywhere && personality.is_some_and(|personality| personality & NO_RANDOMIZE == 0)
}

fn exe(dir: &ProcDir) -> Option<u32> {
    let path = dir.link("exe").ok()?;
    look_at(path.as_fd()).ok().map(|stat| stat.stx_ino as u32)
}

/// How much later this process sees times since the boot, in nanoseconds: not 0 in a time namespace.
pub fn boot_offset() -> i128 {
    let text = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let offset = text.lines().find_map(|line| {
        let mut words = line.strip_prefix("boottime")?.split_ascii_whitespace();
        let (seconds, nanoseconds): (i128, i128) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(seconds * 1_000_000_000 + nanoseconds)
    });
    offset.unwrap_or(0)
}

/// The fields of /proc/PID/stat that identify an execution.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    is_zombie: bool,
    start_time: u64,
    start_code: u64,
    end_code: u64,
    start_stack: u64,
}

impl Stat {
    fn of(text: &[u8]) -> Option<Self> {
        // The command is in brackets and can contain brackets
        let behind = text.iter().rposition(|byte| *byte == b')')? + 1;
        let words: Vec<&str> = std::str::from_utf8(&text[behind..]).ok()?.split_ascii_whitespace().collect();
        // The first word is the third field
        let number = |field: usize| words.get(field - 3)?.parse().ok();
        Some(Stat {
            is_zombie: matches!(*words.first()?, "Z" | "X"),
            start_time: number(22)?,
            start_code: number(26)?,
            end_code: number(27)?,
            start_stack: number(28)?,
        })
    }

    /// Whether it has that layout. If times since the boot are shown with an offset, the start is rounded differently
    /// from the kernel's: then two values are possible.
    fn is_of(&self, layout: u64, boot_offset: i128) -> bool {
        let earliest = i128::from(self.start_time) * TICK - boot_offset;
        let [first, last] = [earliest, earliest + TICK - 1].map(|time| time.div_euclid(TICK) as u64);
        self.layout(first) == layout || self.layout(last) == layout
    }

    /// The same as `image_layout()` in `bpf/include/stack.h`.
    fn layout(&self, start_time: u64) -> u64 {
        let words = [start_time, self.start_code, self.end_code, self.start_stack];
        words.into_iter().fold(0, |hash: u64, word| {
            let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^ hash >> 32
        })
    }
}

#[cfg(test)]
mod tests;
