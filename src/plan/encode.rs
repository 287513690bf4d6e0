//! Values of a config as the bytes of a variable.

use serde_yaml::Value as Yaml;

use crate::catalog::{Element, ElementKind, Variable};
use crate::config::diagnostic::suggest;
use crate::config::quantity::{Bytes, Nanoseconds, parse_duration, parse_size};

/// Why a value can't be encoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Which entry of a list it is about.
    pub index: Option<usize>,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The bytes of `variable` for `value`.
pub(super) fn variable(variable: &Variable, value: &Yaml) -> Result<Vec<u8>, Problem> {
    let mut bytes = vec![0; variable.size];
    let one = |index, message| Problem { index, message };
    let Some(shape) = variable.list else {
        element(&variable.element, value, &mut bytes).map_err(|message| one(None, message))?;
        return Ok(bytes);
    };
    let single = std::slice::from_ref(value);
    let (items, listed) = match value {
        Yaml::Sequence(items) => (items.as_slice(), true),
        _ => (single, false),
    };
    if items.is_empty() {
        return Err(one(None, "an empty list lets nothing through: leave the filter out for no restriction".into()));
    }
    if items.len() > shape.max {
        let message = format!("{} values, and this program takes at most {}", items.len(), shape.max);
        return Err(one(Some(shape.max), message));
    }
    bytes[..4].copy_from_slice(&(items.len() as u32).to_ne_bytes());
    for (i, item) in items.iter().enumerate() {
        let at = shape.values + i * variable.element.size;
        let slot = &mut bytes[at..at + variable.element.size];
        element(&variable.element, item, slot).map_err(|message| one(listed.then_some(i), message))?;
    }
    Ok(bytes)
}

/// The values in the bytes of `variable`, as a config would write them.
pub(super) fn decode(variable: &Variable, bytes: &[u8]) -> Vec<String> {
    let Element { size, kind } = &variable.element;
    let (first, count) = match variable.list {
        None => (0, 1),
        Some(shape) => (shape.values, u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize),
    };
    bytes[first..].chunks(*size).take(count).map(|slot| decoded(kind, slot)).collect()
}

fn decoded(kind: &ElementKind, slot: &[u8]) -> String {
    match kind {
        ElementKind::Text | ElementKind::Disk => {
            let text = slot.split(|&byte| byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        }
        ElementKind::Duration => Nanoseconds(number(slot)).to_string(),
        ElementKind::Bytes => Bytes(number(slot)).to_string(),
        ElementKind::Uint => number(slot).to_string(),
        ElementKind::Int => {
            let unused = 64 - 8 * slot.len() as u32;
            (((number(slot) << unused) as i64) >> unused).to_string()
        }
        ElementKind::Bool => (number(slot) != 0).to_string(),
        ElementKind::Enum(names) => names.name(number(slot)).map_or_else(|| number(slot).to_string(), str::to_owned),
    }
}

fn number(slot: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let from = if cfg!(target_endian = "little") { 0 } else { 8 - slot.len() };
    bytes[from..from + slot.len()].copy_from_slice(slot);
    u64::from_ne_bytes(bytes)
}

fn element(element: &Element, value: &Yaml, slot: &mut [u8]) -> Result<(), String> {
    match &element.kind {
        ElementKind::Duration => unsigned(quantity(value, "time", "10ms", parse_duration)?, slot),
        ElementKind::Bytes => unsigned(quantity(value, "size", "64KiB", parse_size)?, slot),
        ElementKind::Uint => match value {
            Yaml::Number(number) if number.is_u64() => unsigned(number.as_u64().unwrap_or_default(), slot),
            Yaml::Number(number) => Err(format!("{number} is not a whole number from 0 on")),
            other => Err(format!("a whole number is needed, not {}", shown(other))),
        },
        ElementKind::Int => match value.as_i64() {
            Some(number) => signed(number, slot),
            None => Err(format!("a whole number is needed, not {}", shown(value))),
        },
        ElementKind::Bool => match value {
            Yaml::Bool(flag) => unsigned((*flag).into(), slot),
            other => Err(format!("true or false is needed, not {}", shown(other))),
        },
        ElementKind::Text => text(value, slot),
        ElementKind::Disk => {
            if let Some(name) = value.as_str().filter(|name| name.contains('/')) {
                let last = name.rsplit('/').next().unwrap_or_default();
                return Err(format!("`{name}` is a path; a disk goes by its name, `{last}` (see lsblk)"));
            }
            text(value, slot)
        }
        ElementKind::Enum(names) => match value.as_str() {
            Some(name) => match names.value(name) {
                Some(value) => unsigned(value, slot),
                None => Err(format!("`{name}` is not possible{}", suggest(name, names.iter().map(|(_, name)| name)))),
            },
            None => Err(format!(
                "one of {} is needed, not {}",
                names.iter().map(|(_, name)| name).collect::<Vec<_>>().join(", "),
                shown(value)
            )),
        },
    }
}

fn quantity(
    value: &Yaml,
    what: &str,
    example: &str,
    parse: impl Fn(&str) -> Result<u64, String>,
) -> Result<u64, String> {
    match value {
        Yaml::String(text) => parse(text),
        Yaml::Number(number) => parse(&number.to_string()),
        other => Err(format!("a {what} such as `{example}` is needed, not {}", shown(other))),
    }
}

fn text(value: &Yaml, slot: &mut [u8]) -> Result<(), String> {
    let Yaml::String(text) = value else {
        return Err(format!("text is needed, not {}: put quotes around it", shown(value)));
    };
    let room = slot.len() - 1;
    if text.is_empty() {
        return Err("an empty text matches nothing: leave the filter out for no restriction".into());
    }
    if text.len() > room {
        let cut: String = text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= room).map(|(_, c)| c).collect();
        return Err(format!("`{text}` is longer than the {room} bytes that the kernel keeps: write `{cut}`"));
    }
    if text.contains('\0') {
        return Err("text with a NUL in it can't be matched".into());
    }
    slot[..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}

fn unsigned(value: u64, slot: &mut [u8]) -> Result<(), String> {
    let (bytes, bits) = (value.to_ne_bytes(), 8 * slot.len());
    if bits < 64 && value >> bits != 0 {
        return Err(format!("{value} does not fit into {bits} bits"));
    }
    let from = if cfg!(target_endian = "little") { 0 } else { 8 - slot.len() };
    slot.copy_from_slice(&bytes[from..from + slot.len()]);
    Ok(())
}

fn signed(value: i64, slot: &mut [u8]) -> Result<(), String> {
    let bits = 8 * slot.len() as u32;
    if bits < 64 && !(-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&value) {
        return Err(format!("{value} does not fit into {bits} bits"));
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
mod tests {
    use super::*;
    use crate::catalog::ListShape;

    fn var(kind: ElementKind, size: usize, max: Option<usize>) -> Variable {
        let list = max.map(|max| ListShape { values: 8, max });
        let whole = max.map_or(size, |max| 8 + (size * max).next_multiple_of(8));
        let (name, symbol, doc) = ("x".into(), "x".into(), "x".into());
        Variable { name, symbol, doc, offset: 0, size: whole, list, element: Element { size, kind } }
    }

    fn set(variable: &Variable, yaml: &str) -> Result<Vec<u8>, Problem> {
        super::variable(variable, &serde_yaml::from_str(yaml).expect("YAML"))
    }

    #[test]
    fn one_value_and_several_take_the_bytes_that_c_expects() {
        let pid = var(ElementKind::Uint, 4, Some(3));
        assert_eq!(set(&pid, "7").unwrap(), [1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(set(&pid, "[7, 0]").unwrap()[..16], [2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(set(&pid, "[1, 2, 3, 4]").unwrap_err().index, Some(3));
        assert_eq!(set(&pid, "[]").unwrap_err().index, None);
        assert_eq!(set(&pid, "[1, -2]").unwrap_err().index, Some(1));
        assert!(set(&pid, "4294967296").unwrap_err().message.contains("32 bits"));
        let min = var(ElementKind::Duration, 8, None);
        assert_eq!(set(&min, "1ms").unwrap(), 1_000_000u64.to_ne_bytes());
        assert!(set(&min, "1").unwrap_err().message.contains("`1ms`"));
        let failed = var(ElementKind::Bool, 1, Some(1));
        assert_eq!(set(&failed, "false").unwrap()[..9], [1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let int = var(ElementKind::Int, 2, None);
        assert_eq!(set(&int, "-2").unwrap(), (-2i16).to_ne_bytes());
        assert!(set(&int, "40000").is_err());
    }

    #[test]
    fn bytes_are_shown_as_a_config_would_write_them() {
        let back = |variable: &Variable, yaml| decode(variable, &set(variable, yaml).expect("it fits")).join(", ");
        assert_eq!(back(&var(ElementKind::Uint, 4, Some(3)), "[7, 0]"), "7, 0");
        assert_eq!(back(&var(ElementKind::Duration, 8, None), "1.5ms"), "1500us");
        assert_eq!(back(&var(ElementKind::Bytes, 8, None), "64KiB"), "64KiB");
        assert_eq!(back(&var(ElementKind::Bool, 1, Some(1)), "false"), "false");
        assert_eq!(back(&var(ElementKind::Int, 2, None), "-2"), "-2");
        assert_eq!(back(&var(ElementKind::Text, 16, Some(2)), "[dd, fifteen-letters]"), "dd, fifteen-letters");
    }

    #[test]
    fn text_must_fit_with_its_nul() {
        let comm = var(ElementKind::Text, 16, Some(2));
        assert_eq!(&set(&comm, "dd").unwrap()[8..12], b"dd\0\0");
        assert!(set(&comm, "fifteen-letters").is_ok());
        let says = |yaml: &str| set(&comm, yaml).unwrap_err().message;
        assert!(says("sixteen-letters!").contains("write `sixteen-letters`"));
        assert!(says("12").contains("put quotes around it"));
        assert!(says("''").contains("empty"));
        let disk = var(ElementKind::Disk, 32, Some(4));
        assert!(set(&disk, "/dev/vda").unwrap_err().message.contains("`vda`"));
    }
}
