//! The formatters: what templates have as filters beside Jinja's own. One implementation serves the fast path and
//! minijinja, so that both write the same bytes.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::errno::push_errno;
use super::time;

/// The names of all formatters.
pub const NAMES: &[&str] = &["clock", "date", "duration", "bytes", "errno", "folded", "left", "right"];

/// What a formatter is applied to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operand<'a> {
    /// An unsigned integer.
    Uint(u64),
    /// A signed integer.
    Int(i64),
    /// A number that a template worked out.
    Float(f64),
    /// A wall-clock time, nanoseconds since 1970.
    Time(i64),
    /// Text that is fit to be written as it is.
    Text(&'a str),
}

/// An argument of a formatter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg<'a> {
    /// A whole number.
    Int(i64),
    /// Text.
    Text(&'a str),
}

/// A formatter with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formatter {
    /// Time of day in local time, with microseconds.
    Clock,
    /// strftime(3), in UTC unless the second argument is `'local'`.
    Date { format: String, local: bool },
    /// Nanoseconds in the unit that suits them.
    Duration,
    /// Bytes in the unit that suits them.
    Bytes,
    /// An error number's name; other numbers as they are.
    Errno,
    /// A stack for a flame graph. Stacks are written so anyway; an argument is put before one that is not empty.
    Folded(String),
    /// Left-aligned in so many columns.
    Left(usize),
    /// Right-aligned in so many columns.
    Right(usize),
}

impl Formatter {
    /// The formatter `name` with `args`; `None` if there is no such formatter.
    pub fn new(name: &str, args: &[Arg<'_>]) -> Option<Result<Self, String>> {
        let width = |what: &str| match args {
            [Arg::Int(width)] if (0..=4096).contains(width) => Ok(*width as usize),
            _ => Err(format!("`{what}` needs a width between 0 and 4096: write for instance `{what}(16)`")),
        };
        let bare = |formatter: Formatter| match args {
            [] => Ok(formatter),
            _ => Err(format!("`{name}` takes no arguments: remove them")),
        };
        Some(match name {
            "clock" => bare(Formatter::Clock),
            "duration" => bare(Formatter::Duration),
            "bytes" => bare(Formatter::Bytes),
            "errno" => bare(Formatter::Errno),
            "folded" => match args {
                [] => Ok(Formatter::Folded(String::new())),
                [Arg::Text(before)] => Ok(Formatter::Folded((*before).to_owned())),
                _ => Err("`folded` takes at most one text, the prefix of a stack that is not empty: write for instance `folded(';')`".into()),
            },
            "left" => width("left").map(Formatter::Left),
            "right" => width("right").map(Formatter::Right),
            "date" => match args {
                [Arg::Text(format)] => date(format, false),
                [Arg::Text(format), Arg::Text("local")] => date(format, true),
                _ => Err("`date` needs a format, and 'local' for local time: write for instance `date('%H:%M:%S')`".into()),
            },
            _ => return None,
        })
    }

    /// Appends `input`, formatted.
    ///
    /// # Errors
    /// If the formatter is not made for such a value.
    pub fn apply(&self, input: Operand<'_>, out: &mut String) -> Result<(), String> {
        match (self, input) {
            (Formatter::Clock, Operand::Time(at)) => time::push_clock(at, out),
            (Formatter::Date { format, local }, Operand::Time(at)) => time::push_date(at, format, *local, out)?,
            (Formatter::Clock | Formatter::Date { .. }, _) => {
                return Err(
                    "`clock` and `date` need a time: use `time` or `start` (`ts` is a monotonic counter)".into()
                );
            }
            (Formatter::Duration, input) => push_signed(input, "duration", out, push_duration)?,
            (Formatter::Bytes, input) => push_signed(input, "bytes", out, push_bytes)?,
            (Formatter::Errno, Operand::Int(value)) => push_errno(value, out),
            (Formatter::Errno, Operand::Uint(value)) => push_uint(value, out),
            (Formatter::Errno, _) => return Err("`errno` needs a whole number".into()),
            (Formatter::Folded(_), Operand::Text("")) => {}
            (Formatter::Folded(before), Operand::Text(text)) => {
                out.push_str(before);
                out.push_str(text);
            }
            (Formatter::Folded(_), _) => return Err("`folded` needs a stack".into()),
            (Formatter::Left(width), input) => pad(input, *width, Side::Left, out),
            (Formatter::Right(width), input) => pad(input, *width, Side::Right, out),
        }
        Ok(())
    }
}

fn date(format: &str, local: bool) -> Result<Formatter, String> {
    time::push_date(0, format, local, &mut String::new())?;
    Ok(Formatter::Date { format: format.to_owned(), local })
}

/// Appends an unsigned integer.
#[inline]
pub fn push_uint(value: u64, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Appends a signed integer.
#[inline]
pub fn push_int(value: i64, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Appends `value` / `unit`, rounded to as many decimals as make three digits: `1.23`, `12.3`, `123`. Whole numbers
/// all the way: formatting floats would be most of the cost of a line.
fn push_three_digits(value: u64, unit: u64, out: &mut String) {
    let scaled = |factor: u64| (u128::from(value) * u128::from(factor) + u128::from(unit) / 2) / u128::from(unit);
    let (digits, decimals) = match scaled(100) {
        hundredths if hundredths < 1_000 => (hundredths, 2),
        _ => match scaled(10) {
            tenths if tenths < 1_000 => (tenths, 1),
            _ => (scaled(1), 0),
        },
    };
    push_decimal(digits as u64, decimals, out);
}

/// Appends `digits` with the point before the last `decimals` of them.
fn push_decimal(digits: u64, decimals: u32, out: &mut String) {
    let unit = 10u64.pow(decimals);
    push_uint(digits / unit, out);
    if decimals > 0 {
        out.push('.');
    }
    for place in (0..decimals).rev() {
        out.push(char::from(b'0' + (digits / 10u64.pow(place) % 10) as u8));
    }
}

fn push_duration(ns: u64, out: &mut String) {
    // The limits lie where three digits would be rounded up into the next unit
    let (unit, name) = match ns {
        0..1_000 => {
            push_uint(ns, out);
            return out.push_str("ns");
        }
        1_000..999_500 => (1_000, "us"),
        999_500..999_500_000 => (1_000_000, "ms"),
        999_500_000..59_950_000_000 => (1_000_000_000, "s"),
        _ => {
            let seconds = ns.saturating_add(500_000_000) / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            return if hours > 0 {
                write!(out, "{hours}h{minutes:02}m").expect("a String takes all")
            } else {
                write!(out, "{minutes}m{:02}s", seconds % 60).expect("a String takes all")
            };
        }
    };
    push_three_digits(ns, unit, out);
    out.push_str(name);
}

fn push_bytes(bytes: u64, out: &mut String) {
    const UNITS: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let tenths = |unit: usize| (u128::from(bytes) * 10 + (1u128 << (10 * unit)) / 2) >> (10 * unit);
    // 1023.95 and more would be rounded to 1024 of the unit: then the next one
    let unit = (0..UNITS.len()).find(|unit| tenths(*unit) < 10_240).unwrap_or(UNITS.len() - 1);
    let tenths = tenths(unit) as u64;
    match tenths.is_multiple_of(10) {
        true => push_uint(tenths / 10, out),
        false => push_decimal(tenths, 1, out),
    }
    out.push_str(UNITS[unit]);
}

/// A number as its sign and what is to be shown of it.
fn push_signed(input: Operand<'_>, what: &str, out: &mut String, push: fn(u64, &mut String)) -> Result<(), String> {
    let (negative, size) = match input {
        Operand::Uint(value) => (false, value),
        Operand::Int(value) => (value < 0, value.unsigned_abs()),
        Operand::Float(value) => (value < 0.0, value.abs().round() as u64),
        Operand::Time(_) | Operand::Text(_) => return Err(format!("`{what}` needs a number")),
    };
    if negative {
        out.push('-');
    }
    push(size, out);
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
}

/// Text that is too wide is cut, and `…` says so; a number never is.
fn pad(input: Operand<'_>, width: usize, side: Side, out: &mut String) {
    let mut digits = String::new();
    match input {
        Operand::Text(_) => {}
        Operand::Uint(value) => push_uint(value, &mut digits),
        Operand::Int(value) => push_int(value, &mut digits),
        Operand::Float(value) => write!(digits, "{value}").expect("a String takes all"),
        Operand::Time(at) => time::push_rfc3339(at, &mut digits),
    }
    let (text, may_cut) = if let Operand::Text(text) = input { (text, true) } else { (digits.as_str(), false) };
    // Most text is ASCII without control characters: one column a byte
    let used = if text.is_ascii() { text.len() } else { text.width() };
    match (used > width && may_cut, side) {
        (true, Side::Left) => {
            let used = fit(text.chars(), width, |c| out.push(c));
            push_cut(used, width, out);
        }
        (true, Side::Right) => {
            let mut kept = Vec::new();
            let used = fit(text.chars().rev(), width, |c| kept.push(c));
            push_cut(used, width, out);
            out.extend(kept.into_iter().rev());
        }
        (false, Side::Left) => {
            out.push_str(text);
            push_spaces(width.saturating_sub(used), out);
        }
        (false, Side::Right) => {
            push_spaces(width.saturating_sub(used), out);
            out.push_str(text);
        }
    }
}

/// Keeps characters for as long as they leave a column for the `…`; returns the columns used.
fn fit(chars: impl Iterator<Item = char>, width: usize, mut keep: impl FnMut(char)) -> usize {
    let mut used = 0;
    for c in chars {
        let columns = c.width().unwrap_or(0);
        if used + columns + 1 > width {
            break;
        }
        used += columns;
        keep(c);
    }
    used
}

/// The mark of a cut, and the column that a wide character left over.
fn push_cut(used: usize, width: usize, out: &mut String) {
    if width > 0 {
        out.push('…');
        push_spaces(width - 1 - used, out);
    }
}

fn push_spaces(count: usize, out: &mut String) {
    const SPACES: &str = "                                                                ";
    let mut left = count;
    while left > 0 {
        let now = left.min(SPACES.len());
        out.push_str(&SPACES[..now]);
        left -= now;
    }
}

#[cfg(test)]
mod tests;
