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
                let message = "`not` is for filters that compare values, and this one sets a limit";
                return Err(whole(Code::FilterNot, message));
            }
            _ => {
                return Err(whole(Code::FilterType, "a value, a list of values or `{not: …}` is needed"));
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
        let message = "an empty list lets nothing through: leave the filter out for no restriction".into();
        return Err(vec![one(None, (Code::FilterCount, message))]);
    }
    if items.len() > shape.max {
        let message = format!("{} values, and this program takes at most {}", items.len(), shape.max);
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
            "{} values, because text with escapes stands for the bytes that they mean and for itself, and this program \
             takes at most {}",
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
                return Err((Code::FilterName, format!("`{name}` is no name of a user")));
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
            format!("the path of a cgroup such as `/system.slice` is needed, not {}", shown(value)),
        ));
    };
    let inside =
        ["/sys/fs/cgroup/unified/", "/sys/fs/cgroup/"].iter().find_map(|root| path.strip_prefix(root)).unwrap_or(path);
    if path.is_empty() {
        return Err((
            Code::FilterFit,
            "an empty path would be every process: `/` is the root, if that is meant".into(),
        ));
    }
    let inside = inside.trim_matches('/');
    if inside.split('/').any(|part| part == "..") || inside.contains('\0') {
        return Err((Code::FilterName, format!("`{path}` is no path of a cgroup")));
    }
    Ok(format!("/{inside}"))
}

/// The name of a unit, with `.service` behind it if it has no type, as systemctl takes it.
fn unit(value: &Yaml) -> Result<String, ValueFault> {
    let Some(name) = value.as_str().filter(|name| !name.is_empty()) else {
        return Err((
            Code::FilterType,
            format!("the name of a systemd unit such as `nginx.service` is needed, not {}", shown(value)),
        ));
    };
    if name.contains(['/', '\0']) {
        return Err((Code::FilterName, format!("`{name}` is no name of a unit; a path goes into the filter `cgroup`")));
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
            other => Err((Code::FilterType, format!("a whole number is needed, not {}", shown(other)))),
        },
        ElementKind::Int => match value.as_i64() {
            Some(number) => signed(number, slot),
            None => Err((Code::FilterType, format!("a whole number is needed, not {}", shown(value)))),
        },
        ElementKind::Bool => match value {
            Yaml::Bool(flag) => unsigned((*flag).into(), slot),
            other => Err((Code::FilterType, format!("true or false is needed, not {}", shown(other)))),
        },
        ElementKind::User => match value {
            Yaml::Number(number) if number.is_u64() => unsigned(number.as_u64().unwrap_or_default(), slot),
            other => Err((Code::FilterType, format!("a user's number or name is needed, not {}", shown(other)))),
        },
        ElementKind::Text | ElementKind::Comm | ElementKind::Disk => unreachable!("these are texts"),
        ElementKind::Cgroup | ElementKind::Unit => unreachable!("these are looked up"),
        ElementKind::Enum(names) => match value.as_str() {
            // `cpu-clock` as well as `cpu_clock`
            Some(name) => match names.value(&name.replace('-', "_")) {
                Some(value) => unsigned(value, slot),
                None => Err((
                    Code::FilterChoice,
                    format!("`{name}` is not possible{}", suggest(name, names.iter().map(|(_, name)| name))),
                )),
            },
            None => Err((
                Code::FilterType,
                format!(
                    "one of {} is needed, not {}",
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
        other => Err((Code::FilterType, format!("a {what} such as `{example}` is needed, not {}", shown(other)))),
    }
}

/// Every filter of texts is one of beginnings (filter.h).
fn beginnings(value: &Yaml, size: usize) -> Result<Vec<Vec<u8>>, ValueFault> {
    match value.as_str().and_then(|beginning| beginning.strip_suffix('*')) {
        Some("") => Err((Code::FilterFit, "`*` alone lets everything through: leave the filter out for that".into())),
        Some(beginning) => Err((
            Code::FilterFit,
            format!("whatever begins like this passes, and `*` would have to be there: write `{beginning}`"),
        )),
        None => texts(value, size),
    }
}

/// `struct runner_comm`: text and mask.
fn comms(value: &Yaml, size: usize) -> Result<Vec<Meaning>, ValueFault> {
    let half = size / 2;
    let with_mask = |text: Vec<u8>, compared: usize| {
        let mask: Vec<u8> = (0..half).map(|i| if i < compared { 0xff } else { 0 }).collect();
        ([padded(&text, half), mask].concat(), None)
    };
    if value.as_str().is_some_and(|name| name.trim_end_matches('*').contains('*') || name.ends_with("**")) {
        return Err((Code::FilterName, format!("{}: a `*` can stand at the end only, once", shown(value))));
    }
    let Some(start) = value.as_str().and_then(|name| name.strip_suffix('*')) else {
        return Ok(texts(value, half)?.into_iter().map(|text| with_mask(text, half)).collect());
    };
    if start.is_empty() {
        return Err((Code::FilterName, "`*` alone lets everything through: leave the filter out for that".into()));
    }
    let starts = texts(&Yaml::String(start.to_owned()), half)?;
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
            "its kernel name or `major:minor` (see `lsblk -o NAME,KNAME,MAJ:MIN`)".to_owned()
        } else {
            format!("its name, `{below}` (see lsblk)")
        };
        return Err((Code::FilterName, format!("`{given}` is a path; a disk goes by {name}")));
    }
    if given.contains(['*', '?', '[']) {
        return Err((
            Code::FilterName,
            format!("`{given}`: a disk goes by its whole name (see lsblk); several are a list, `[sda, sdb]`"),
        ));
    }
    match given.split_once(':') {
        // sysfs has `!` where the kernel's name has a slash
        None if value.is_string() => texts(&Yaml::String(given.replace('!', "/")), name.len()),
        None => texts(value, name.len()),
        Some((major, minor)) => {
            let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
            let (Some(major), Some(minor)) = (number(major), number(minor)) else {
                return Err((
                    Code::FilterName,
                    format!("`{given}` is neither a disk's name nor its numbers, `major:minor` (see lsblk)"),
                ));
            };
            numbers[..4].copy_from_slice(&major.to_ne_bytes());
            numbers[4..].copy_from_slice(&minor.to_ne_bytes());
            Ok(Vec::new())
        }
    }
}

/// What a text means that goes into `size` bytes with a NUL behind it: itself and, if it may have been copied from the
/// output, the bytes that it was written for.
fn texts(value: &Yaml, size: usize) -> Result<Vec<Vec<u8>>, ValueFault> {
    let Yaml::String(text) = value else {
        return Err((Code::FilterType, format!("text is needed, not {}: put quotes around it", shown(value))));
    };
    let room = size - 1;
    if text.is_empty() {
        return Err((Code::FilterFit, "an empty text matches nothing: leave the filter out for no restriction".into()));
    }
    let mut meant = meanings(text);
    meant.retain(|bytes| bytes.len() <= room && !bytes.contains(&0));
    if meant.is_empty() && text.len() > room {
        let cut: String = text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= room).map(|(_, c)| c).collect();
        return Err((
            Code::FilterFit,
            format!("`{text}` is longer than the {room} bytes that the kernel keeps: write `{cut}`"),
        ));
    }
    if meant.is_empty() {
        return Err((Code::FilterFit, "text with a NUL in it can't be matched".into()));
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
        Yaml::Null => "nothing".into(),
        Yaml::Bool(flag) => flag.to_string(),
        Yaml::Number(number) => number.to_string(),
        Yaml::String(text) => format!("`{text}`"),
        Yaml::Sequence(_) => "a list".into(),
        Yaml::Mapping(_) | Yaml::Tagged(_) => "a mapping".into(),
    }
}

#[cfg(test)]
mod tests;
