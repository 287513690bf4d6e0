//! Quantities with units: `10ms`, `64KiB`, `0.1%`. A bare number is an error that shows how to write it.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};

const DURATION_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
const FREQUENCY_UNITS: &[(&str, u64)] = &[("Hz", 1), ("kHz", 1_000)];
const SIZE_UNITS: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// What validators and editors go by, for which formats of ours are none.
#[cfg(test)]
pub(crate) const TIME_PATTERN: &str = r"^ *[0-9]+(\.[0-9]*)? *(ns|us|µs|ms|s|min|m|h|d) *$";
#[cfg(test)]
pub(crate) const SIZE_PATTERN: &str = r"^ *[0-9]+(\.[0-9]*)? *(B|KiB|MiB|GiB) *$";
#[cfg(test)]
pub(crate) const FREQUENCY_PATTERN: &str = r"^ *(?!0+(\.0*)? *[Hk])[0-9]+(\.[0-9]*)? *(Hz|kHz) *$";
#[cfg(test)]
const PERCENT_PATTERN: &str = r"^ *(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?) *% *$";

/// Splits `1.5ms` into the number and the unit.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    number.starts_with(|c: char| c.is_ascii_digit()).then_some((number, unit.trim_start()))
}

/// Parses `text` as a whole multiple of `units`' base.
fn scaled(text: &str, units: &[(&str, u64)], what: &str, example: &str) -> Result<u64, String> {
    let list = || units.iter().map(|(unit, _)| *unit).filter(|unit| unit.is_ascii()).collect::<Vec<_>>().join(", ");
    let Some((number, unit)) = split(text) else {
        return Err(format!("`{text}` is not a {what}: write for instance `{example}`"));
    };
    if unit.is_empty() {
        let like = match number.parse() {
            // A number of bytes that was computed
            Ok(bytes) if units == SIZE_UNITS && bytes >= 1 << 10 => Bytes(bytes).to_string(),
            _ => format!("{number}{}", split(example).map_or("", |(_, unit)| unit)),
        };
        return Err(format!("`{text}` has no unit: write for instance `{like}` ({})", list()));
    }
    if number.parse::<f64>().is_err() {
        return Err(format!("`{number}` is not a number: write for instance `{example}`"));
    }
    let Some((_, factor)) = units.iter().find(|(known, _)| *known == unit) else {
        let near = units.iter().find(|(known, _)| known.eq_ignore_ascii_case(unit) || near_size(known, unit));
        let guess = near.map(|(known, _)| format!(", did you mean `{number}{known}`?")).unwrap_or_default();
        return Err(format!("`{unit}` is not a unit of {what}{guess} (known: {})", list()));
    };
    multiply(number, *factor).ok_or_else(|| format!("`{text}` does not fit into 64 bits"))
}

/// `K`, `KB`, `kb` for `KiB`: which of 1000 and 1024 was meant can't be known.
fn near_size(known: &str, unit: &str) -> bool {
    let short = known.strip_suffix("iB").unwrap_or_default();
    !short.is_empty() && [short.to_owned(), format!("{short}B")].iter().any(|near| near.eq_ignore_ascii_case(unit))
}

/// `number` × `factor`, exactly where the number is whole.
fn multiply(number: &str, factor: u64) -> Option<u64> {
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor),
        Err(_) => {
            let scaled = number.parse::<f64>().ok()? * factor as f64;
            (scaled < u64::MAX as f64).then(|| scaled.round() as u64)
        }
    }
}

/// A time span in nanoseconds out of `10ms`.
///
/// # Errors
/// One sentence that shows how to write it.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    scaled(text, DURATION_UNITS, "time", "10ms")
}

/// A size in bytes out of `64KiB`.
///
/// # Errors
/// One sentence that shows how to write it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    scaled(text, SIZE_UNITS, "size", "64KiB")
}

/// A frequency in Hz out of `99Hz`.
///
/// # Errors
/// One sentence that shows how to write it.
pub fn parse_frequency(text: &str) -> Result<u64, String> {
    scaled(text, FREQUENCY_UNITS, "frequency", "99Hz")
}

/// A share between 0 and 1 out of `0.1%`.
///
/// # Errors
/// One sentence that shows how to write it.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    match split(text) {
        Some((number, "%")) => match number.parse::<f64>() {
            Ok(percent) if percent <= 100.0 => Ok(percent / 100.0),
            _ => Err(format!("`{text}` is not between 0% and 100%")),
        },
        Some((number, "")) => Err(format!("`{text}` has no unit: write `{number}%`")),
        _ => Err(format!("`{text}` is not a percentage: write for instance `0.1%`")),
    }
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty), $parse:expr, $format:literal, $pattern:expr, $example:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(&text).map($name).map_err(D::Error::custom)
            }
        }

        #[cfg(test)]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": $format, "pattern": $pattern, "examples": [$example] })
            }
        }
    };
}

quantity!(
    /// A time span, nanoseconds.
    Nanoseconds(u64), parse_duration, "time-span", TIME_PATTERN, "10ms"
);
quantity!(
    /// A size, bytes.
    Bytes(u64), parse_size, "size", SIZE_PATTERN, "64KiB"
);
quantity!(
    /// A share between 0 and 1.
    Share(f64), parse_percent, "percent", PERCENT_PATTERN, "0.1%"
);

impl From<Nanoseconds> for Duration {
    fn from(span: Nanoseconds) -> Self {
        Duration::from_nanos(span.0)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZE_UNITS
            .iter()
            .rev()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One name for each unit, and the largest that leaves a whole number
        let mut units = DURATION_UNITS.iter().rev().filter(|(unit, _)| unit.is_ascii() && *unit != "m");
        let (unit, factor) =
            units.find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)).unwrap_or(&("ns", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl From<Duration> for Nanoseconds {
    fn from(duration: Duration) -> Self {
        Nanoseconds(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

#[cfg(test)]
mod tests;
