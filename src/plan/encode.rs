//! Values of a config as the bytes of a variable.

use std::fmt;

use serde_yaml::Value as Yaml;

use crate::catalog::{Element, ElementKind, Variable};
use crate::config::diagnostic::{Code, suggest};
use crate::config::quantity::{parse_duration, parse_frequency, parse_size};
use crate::event::text::meanings;

/// Why a value can't be encoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ValueProblem {
    /// Whether it is about what stands behind `not`.
    pub negated: bool,
    /// Which entry of a list it is about.
    pub index: Option<usize>,
    /// Which kind of fault.
    pub code: Code,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// What is wrong with one value, and what would be right.
type ValueFault = (Code, String);

/// The bytes of one value, or room for what has to be looked up.
type Meaning = (Vec<u8>, Option<LookupName>);

/// A value as the program is to have it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Encoded {
    /// The variable's bytes.
    pub bytes: Vec<u8>,
    /// What only the machine that runs it knows: where in `bytes` it goes, and what it is.
    pub lookups: Vec<(usize, LookupName)>,
}

/// A name that is looked up on the machine that runs the capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupName {
    /// A user; its number, a u32, is wanted.
    User(String),
    /// A cgroup by its path below the root; `struct runner_cgroup` is wanted.
    Cgroup(String),
    /// A systemd unit; `struct runner_cgroup` is wanted.
    Unit(String),
}

impl fmt::Display for LookupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupName::User(name) => write!(f, "user {name}"),
            LookupName::Cgroup(path) => write!(f, "cgroup {path}"),
            LookupName::Unit(name) => write!(f, "unit {name}"),
        }
    }
}

/// The bytes of `variable` for `value`: a value, a list of values, or `{not: …}` one of these. All that is wrong otherwise.
pub(super) fn variable(variable: &Variable, value: &Yaml) -> Result<Encoded, Vec<ValueProblem>> {
    let mut encoded = Encoded { bytes: vec![0; variable.size], lookups: Vec::new() };
    let whole = |code, message: &str| vec![ValueProblem { negated: false, index: None, code, message: message.into() }];
    let (value, negated) = match value {
        Yaml::Mapping(map) => match (map.len(), map.get("not")) {
            (1, Some(value)) if variable.list.is_some() => (value, true),
            (1, Some(_)) => {
                let message = "a limit can't be negated: remove `not`";
                return Err(whole(Code::FilterNot, message));
            }
            _ => {
                return Err(whole(Code::FilterType, "must be a value, a list of values or `{not: …}`"));
            }
        },
        value => (value, false),
    };
    let one = |index, (code, message)| ValueProblem { negated, index, code, message };
    let Some(shape) = variable.list else {
        let found = element(&variable.element, value).map_err(|fault| vec![one(None, fault)])?;
        let (bytes, lookup) = found.into_iter().next().expect("a value has one meaning at least");
        encoded.bytes = bytes;
        encoded.lookups.extend(lookup.map(|name| (0, name)));
        return Ok(encoded);
    };
    let single = std::slice::from_ref(value);
    let (items, listed) = match value {
        Yaml::Sequence(items) => (items.as_slice(), true),
        _ => (single, false),
    };
    if items.is_empty() {
        let message = "an empty list matches no event: add a value, or remove the filter".into();
        return Err(vec![one(None, (Code::FilterCount, message))]);
    }
    if items.len() > shape.max {
        let message = format!("{} values, and at most {} are possible: remove some", items.len(), shape.max);
        return Err(vec![one(Some(shape.max), (Code::FilterCount, message))]);
    }
    let mut problems = Vec::new();
    let mut meanings = Vec::new();
    for (i, item) in items.iter().enumerate() {
        match element(&variable.element, item) {
            Ok(found) => meanings.extend(found),
            Err(fault) => problems.push(one(listed.then_some(i), fault)),
        }
    }
    if meanings.len() > shape.max {
        let message = format!(
            "{} values, and at most {} are possible (text with escapes counts twice: as it is written, and as the bytes \
             that it means): remove some",
            meanings.len(),
            shape.max
        );
        problems.push(one(None, (Code::FilterCount, message)));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    encoded.bytes[..4].copy_from_slice(&(meanings.len() as u32).to_ne_bytes());
    encoded.bytes[4..8].copy_from_slice(&u32::from(negated).to_ne_bytes());
    for (i, (bytes, lookup)) in meanings.into_iter().enumerate() {
        let at = shape.values + i * variable.element.size;
        encoded.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        encoded.lookups.extend(lookup.map(|name| (at, name)));
    }
    Ok(encoded)
}

/// The bytes of one value, or what has to be looked up for it. Text that was copied from output may mean several.
fn element(element: &Element, value: &Yaml) -> Result<Vec<Meaning>, ValueFault> {
    let mut slot = vec![0; element.size];
    let name = match &element.kind {
        ElementKind::User => match value {
            Yaml::String(name) if name.is_empty() || name.contains([':', '/', '\0']) => {
                return Err((Code::FilterName, format!("`{name}` is not a user name")));
            }
            Yaml::String(name) => Some(LookupName::User(name.clone())),
            _ => None,
        },
        ElementKind::Cgroup => Some(LookupName::Cgroup(cgroup(value)?)),
        ElementKind::Unit => Some(LookupName::Unit(unit(value)?)),
        _ => None,
    };
    if name.is_some() {
        return Ok(vec![(slot, name)]);
    }
    let texts = match &element.kind {
        ElementKind::Text => beginnings(value, slot.len())?,
        ElementKind::Comm => return comms(value, slot.len()),
        ElementKind::Disk => disk(value, &mut slot)?,
        _ => {
            plain_element(element, value, &mut slot)?;
            Vec::new()
        }
    };
    if texts.is_empty() {
        return Ok(vec![(slot, None)]);
    }
    Ok(texts.into_iter().map(|text| (padded(&text, slot.len()), None)).collect())
}

fn padded(text: &[u8], size: usize) -> Vec<u8> {
    let mut slot = text.to_vec();
    slot.resize(size, 0);
    slot
}

/// The path of a cgroup as systemd-cgls writes it: from the root of the hierarchy on.
fn cgroup(value: &Yaml) -> Result<String, ValueFault> {
    let Some(path) = value.as_str() else {
        return Err((
            Code::FilterType,
            format!("must be the path of a cgroup such as `/system.slice`, not {}", shown(value)),
        ));
    };
    let inside =
        ["/sys/fs/cgroup/unified/", "/sys/fs/cgroup/"].iter().find_map(|root| path.strip_prefix(root)).unwrap_or(path);
    if path.is_empty() {
        return Err((Code::FilterFit, "the path is empty: write `/` for the root cgroup".into()));
    }
    let inside = inside.trim_matches('/');
    if inside.split('/').any(|part| part == "..") || inside.contains('\0') {
        return Err((Code::FilterName, format!("`{path}` is not the path of a cgroup: remove `..` and NUL")));
    }
    Ok(format!("/{inside}"))
}

/// The name of a unit, with `.service` behind it if it has no type, as systemctl takes it.
fn unit(value: &Yaml) -> Result<String, ValueFault> {
    let Some(name) = value.as_str().filter(|name| !name.is_empty()) else {
        return Err((
            Code::FilterType,
            format!("must be the name of a systemd unit such as `nginx.service`, not {}", shown(value)),
        ));
    };
    if name.contains(['/', '\0']) {
        return Err((Code::FilterName, format!("`{name}` is not a unit name: use the filter `cgroup` for a path")));
    }
    const TYPES: &[&str] = &[".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
    let typed = TYPES.iter().any(|end| name.ends_with(end));
    Ok(if typed { name.to_owned() } else { format!("{name}.service") })
}

fn plain_element(element: &Element, value: &Yaml, slot: &mut [u8]) -> Result<(), ValueFault> {
    match &element.kind {
        ElementKind::Duration => unsigned(quantity(value, "time", "10ms", parse_duration)?, slot),
        ElementKind::Bytes => unsigned(quantity(value, "size", "64KiB", parse_size)?, slot),
        ElementKind::Frequency => {
            let value = quantity(value, "frequency", "99Hz", parse_frequency)?;
            if value == 0 {
                return Err((
                    Code::FilterFit,
                    "0Hz is never: leave the filter out, or write for instance `99Hz`".into(),
                ));
            }
            unsigned(value, slot)
        }
        ElementKind::Uint => match value {
            Yaml::Number(number) if number.is_u64() => unsigned(number.as_u64().unwrap_or_default(), slot),
            Yaml::Number(number) => Err((Code::FilterFit, format!("{number} is not a whole number from 0 on"))),
            other => Err((Code::FilterType, format!("must be a whole number, not {}", shown(other)))),
        },
        ElementKind::Int => match value.as_i64() {
            Some(number) => signed(number, slot),
            None => Err((Code::FilterType, format!("must be a whole number, not {}", shown(value)))),
        },
        ElementKind::Bool => match value {
            Yaml::Bool(flag) => unsigned((*flag).into(), slot),
            other => Err((Code::FilterType, format!("must be true or false, not {}", shown(other)))),
        },
        ElementKind::User => match value {
            Yaml::Number(number) if number.is_u64() => unsigned(number.as_u64().unwrap_or_default(), slot),
            other => Err((Code::FilterType, format!("must be a user's number or name, not {}", shown(other)))),
        },
        ElementKind::Text | ElementKind::Comm | ElementKind::Disk => unreachable!("these are texts"),
        ElementKind::Cgroup | ElementKind::Unit => unreachable!("these are looked up"),
        ElementKind::Enum(names) => match value.as_str() {
            // `cpu-clock` as well as `cpu_clock`
            Some(name) => match names.value(&name.replace('-', "_")) {
                Some(value) => unsigned(value, slot),
                None => Err((
                    Code::FilterChoice,
                    format!("`{name}` is not a possible value{}", suggest(name, names.iter().map(|(_, name)| name))),
                )),
            },
            None => Err((
                Code::FilterType,
                format!(
                    "must be one of {}, not {}",
                    names.iter().map(|(_, name)| name).collect::<Vec<_>>().join(", "),
                    shown(value)
                ),
            )),
        },
    }
}

fn quantity(
    value: &Yaml,
    what: &str,
    example: &str,
    parse: impl Fn(&str) -> Result<u64, String>,
) -> Result<u64, ValueFault> {
    match value {
        Yaml::String(text) => parse(text).map_err(|words| (Code::Quantity, words)),
        Yaml::Number(number) => parse(&number.to_string()).map_err(|words| (Code::Quantity, words)),
        other => Err((Code::FilterType, format!("must be a {what} such as `{example}`, not {}", shown(other)))),
    }
}

/// Every filter of texts is one of beginnings (filter.h).
fn beginnings(value: &Yaml, size: usize) -> Result<Vec<Vec<u8>>, ValueFault> {
    match value.as_str().and_then(|beginning| beginning.strip_suffix('*')) {
        Some("") => Err((Code::FilterFit, "`*` alone matches every event: remove the filter".into())),
        Some(beginning) => Err((
            Code::FilterFit,
            format!("this filter matches beginnings, and `*` is compared as it is: write `{beginning}`"),
        )),
        None => texts(value, size, Compared::Beginning),
    }
}

/// `struct runner_comm`: text and mask.
fn comms(value: &Yaml, size: usize) -> Result<Vec<Meaning>, ValueFault> {
    let half = size / 2;
    if let Some(name) = value.as_str().and_then(worker) {
        let what = format!(
            "{}: the kernel's name of this worker is `{name}` (ps adds its work): write `{name}`",
            shown(value)
        );
        return Err((Code::FilterFit, what));
    }
    let with_mask = |text: Vec<u8>, compared: usize| {
        let mask: Vec<u8> = (0..half).map(|i| if i < compared { 0xff } else { 0 }).collect();
        ([padded(&text, half), mask].concat(), None)
    };
    if value.as_str().is_some_and(|name| name.trim_end_matches('*').contains('*') || name.ends_with("**")) {
        return Err((Code::FilterName, format!("{}: `*` is allowed only at the end, once", shown(value))));
    }
    let Some(start) = value.as_str().and_then(|name| name.strip_suffix('*')) else {
        return Ok(texts(value, half, Compared::Command)?.into_iter().map(|text| with_mask(text, half)).collect());
    };
    if start.is_empty() {
        return Err((Code::FilterName, "`*` alone matches every event: remove the filter".into()));
    }
    let starts = texts(&Yaml::String(start.to_owned()), half, Compared::Command)?;
    Ok(starts.into_iter().map(|text| (text.len(), text)).map(|(compared, text)| with_mask(text, compared)).collect())
}

/// `struct runner_disk`: a name, which is returned, or numbers behind an empty one.
fn disk(value: &Yaml, slot: &mut [u8]) -> Result<Vec<Vec<u8>>, ValueFault> {
    let (name, numbers) = slot.split_at_mut(slot.len() - 8);
    let given = value.as_str().unwrap_or_default();
    // A few drivers have a slash in their disks' names (`cciss/c0d0`); links to disks have more than one folder
    let path = ["dev/", "mapper/", "disk/", "md/"].iter().any(|folder| given.starts_with(folder));
    if given.starts_with('/') || path {
        let below = given.trim_start_matches('/');
        let below = below.strip_prefix("dev/").unwrap_or(below);
        let link = ["mapper/", "disk/", "md/"].iter().any(|folder| below.starts_with(folder));
        let name = if link {
            "kernel name or `major:minor` (see `lsblk -o NAME,KNAME,MAJ:MIN`)".to_owned()
        } else {
            format!("name, `{below}` (see lsblk)")
        };
        return Err((Code::FilterName, format!("`{given}` is a path: write the disk's {name}")));
    }
    if given.contains(['*', '?', '[']) {
        return Err((
            Code::FilterName,
            format!(
                "`{given}`: patterns are not supported; write whole names (see lsblk), several as a list: `[sda, sdb]`"
            ),
        ));
    }
    match given.split_once(':') {
        // sysfs has `!` where the kernel's name has a slash
        None if value.is_string() => texts(&Yaml::String(given.replace('!', "/")), name.len(), Compared::Disk),
        None => texts(value, name.len(), Compared::Disk),
        Some((major, minor)) => {
            let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
            let (Some(major), Some(minor)) = (number(major), number(minor)) else {
                return Err((Code::FilterName, format!("`{given}` is not a disk's name or `major:minor` (see lsblk)")));
            };
            numbers[..4].copy_from_slice(&major.to_ne_bytes());
            numbers[4..].copy_from_slice(&minor.to_ne_bytes());
            Ok(Vec::new())
        }
    }
}

/// The name that the kernel has for a worker thread, if `text` is what ps shows: `kworker/0:4` for `kworker/0:4-events`.
fn worker(text: &str) -> Option<&str> {
    // A rescuer has a `-` in its own name: `kworker/R-events`
    let rest = text.strip_prefix("kworker/").filter(|rest| !rest.starts_with("R-"))?;
    let end = rest.find(['-', '+'])?;
    Some(&text[.."kworker/".len() + end])
}

/// What a text is compared with.
#[derive(Clone, Copy)]
enum Compared {
    /// The beginning of a text.
    Beginning,
    /// The name of a thread, which the kernel cuts.
    Command,
    /// The name of a disk.
    Disk,
}

/// What a text means that goes into `size` bytes with a NUL behind it: itself and, if it may have been copied from the
/// output, the bytes that it was written for.
fn texts(value: &Yaml, size: usize, compared: Compared) -> Result<Vec<Vec<u8>>, ValueFault> {
    let Yaml::String(text) = value else {
        return Err((Code::FilterType, format!("must be text, not {}: put quotes around it", shown(value))));
    };
    let room = size - 1;
    if text.is_empty() {
        return Err((Code::FilterFit, "an empty text matches no event: write a value, or remove the filter".into()));
    }
    let mut meant = meanings(text);
    meant.retain(|bytes| bytes.len() <= room && !bytes.contains(&0));
    if meant.is_empty() && text.len() > room {
        let cut: String = text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= room).map(|(_, c)| c).collect();
        let advice = match compared {
            Compared::Beginning => format!("write `{cut}`"),
            Compared::Command if cut.len() == room => format!("write `{cut}`"),
            // The kernel cuts within a character
            Compared::Command => format!("write `{cut}*`"),
            Compared::Disk => "no disk has this name (see lsblk)".into(),
        };
        return Err((
            Code::FilterFit,
            format!("`{text}` is longer than the {room} bytes that the kernel keeps: {advice}"),
        ));
    }
    if meant.is_empty() {
        return Err((Code::FilterFit, "text can't contain NUL: remove it".into()));
    }
    Ok(meant)
}

fn unsigned(value: u64, slot: &mut [u8]) -> Result<(), ValueFault> {
    let (bytes, bits) = (value.to_ne_bytes(), 8 * slot.len());
    if bits < 64 && value >> bits != 0 {
        return Err((Code::FilterFit, format!("{value} does not fit into {bits} bits")));
    }
    let from = if cfg!(target_endian = "little") { 0 } else { 8 - slot.len() };
    slot.copy_from_slice(&bytes[from..from + slot.len()]);
    Ok(())
}

fn signed(value: i64, slot: &mut [u8]) -> Result<(), ValueFault> {
    let bits = 8 * slot.len() as u32;
    if bits < 64 && !(-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&value) {
        return Err((Code::FilterFit, format!("{value} does not fit into {bits} bits")));
    }
    let masked = if bits == 64 { value as u64 } else { value as u64 & ((1 << bits) - 1) };
    unsigned(masked, slot)
}

fn shown(value: &Yaml) -> String {
    match value {
        Yaml::Null => "null".into(),
        Yaml::Bool(flag) => flag.to_string(),
        Yaml::Number(number) => number.to_string(),
        Yaml::String(text) => format!("`{text}`"),
        Yaml::Sequence(_) => "a list".into(),
        Yaml::Mapping(_) | Yaml::Tagged(_) => "a mapping".into(),
    }
}

#[cfg(test)]
mod tests;
