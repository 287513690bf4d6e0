//! Bytes from the kernel as text. A file name or a command can hold any byte but NUL; each output format requires its
//! own escaping.

use std::fmt::Write as _;

/// The first of the 128 private characters that represent the bytes 0x80 to 0xff where they are not UTF-8.
const STAND_IN: u32 = 0xef80;

/// `bytes` as text, if they can be copied to any sink unchanged: printable ASCII without `"` and `\`.
#[inline]
pub fn plain(bytes: &[u8]) -> Option<&str> {
    // Without an early exit the compiler vectorises the loop
    let plain =
        bytes.iter().fold(true, |plain, &byte| plain & matches!(byte, 0x20..=0x7e) & (byte != b'"') & (byte != b'\\'));
    if plain { std::str::from_utf8(bytes).ok() } else { None }
}

/// Appends `bytes` as valid UTF-8 that [`restore`] can convert back. UTF-8 stays unchanged; a byte 0xNN that is not
/// UTF-8 becomes the private character U+EFNN. (So does each byte of such a character itself, so that the conversion is
/// reversible.)
pub fn push_lossless(bytes: &[u8], out: &mut String) {
    let stand_in =
        |byte: u8| char::from_u32(STAND_IN - 0x80 + u32::from(byte)).expect("U+EF80 to U+EFFF are characters");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_stand_in(c) {
                out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(stand_in));
            } else {
                out.push(c);
            }
        }
        out.extend(chunk.invalid().iter().map(|&byte| stand_in(byte)));
    }
}

/// The bytes from which [`push_lossless`] made `text`.
pub fn restore(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        if is_stand_in(c) {
            bytes.push((u32::from(c) & 0xff) as u8);
        } else {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    bytes
}

fn is_stand_in(c: char) -> bool {
    (STAND_IN..STAND_IN + 128).contains(&u32::from(c))
}

/// Appends `bytes` for display: on one line, without terminal control characters. Control characters and bytes that are
/// not UTF-8 become `\n`, `\x1b`, `\u{202e}`.
pub fn push_shown(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_shown_char(c, out);
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("a String takes all");
        }
    }
}

/// `text` for display, escaped as by [`push_shown`].
pub fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    push_shown(text.as_bytes(), &mut shown);
    shown
}

fn push_shown_char(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        c if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)).expect("a String takes all"),
        c if is_deceptive(c) => write!(out, "\\u{{{:x}}}", u32::from(c)).expect("a String takes all"),
        c => out.push(c),
    }
}

/// Invisible characters that change the display: DEL, C1 controls, bidirectional and invisible formatting, line ends,
/// and the characters that Unicode hides where it does not support them (Default_Ignorable_Code_Point), except the two
/// variation selectors that choose between the text and the emoji form of a symbol.
pub fn is_deceptive(c: char) -> bool {
    matches!(u32::from(c), 0x7f..=0x9f | 0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f
        | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0d | 0xfeff | 0xffa0
        | 0xfff0..=0xfffb | 0x13430..=0x1343f | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

/// `json` with every deceptive character escaped. JSON has none of them outside strings.
pub fn safe_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if is_deceptive(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(safe, "\\u{unit:04x}").expect("a String takes all");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Characters with which a formula can begin in a spreadsheet, also after characters that it ignores, and in the wide
/// forms of East Asia. CSV output adds a `'` before such text, and before text that begins with `'`.
pub const FORMULA: &[char] = &['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// The bytes that `text` can mean if it was copied from output: those of the text itself, those from which
/// [`push_lossless`] made it (JSON Lines, CSV), those that [`push_shown`] shows as it (a terminal), and the same
/// without the `'` that CSV adds. Most texts have one meaning only.
pub fn meanings(text: &str) -> Vec<Vec<u8>> {
    let mut found = vec![text.as_bytes().to_vec()];
    let copied = |text: &str| [restore(text), unshown(text)];
    let quoted = text.strip_prefix('\'').filter(|rest| rest.starts_with(FORMULA) || rest.starts_with('\''));
    // A terminal shows the first character of such a text as an escape, for example a tab
    let shown =
        text.strip_prefix('\'').filter(|rest| ["\\t", "\\r", "\\n"].iter().any(|escape| rest.starts_with(escape)));
    for bytes in [Some(text), quoted, shown].into_iter().flatten().flat_map(copied) {
        if !found.contains(&bytes) {
            found.push(bytes);
        }
    }
    found
}

/// The bytes that [`push_shown`] shows as `text`. Anything that is not one of its escapes stays unchanged, because it
/// does not escape backslashes.
fn unshown(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let (escaped, length) = shown_escape(rest).unwrap_or_else(|| (b"\\".to_vec(), 1));
        bytes.extend_from_slice(&escaped);
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The byte or character of the escape at the beginning of `text`, and the length of the escape.
fn shown_escape(text: &str) -> Option<(Vec<u8>, usize)> {
    let hex = |digits: &str| {
        let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u32::from_str_radix(digits, 16).ok().filter(|_| lower)
    };
    let (bytes, length) = match text.get(1..2)? {
        "n" => (vec![b'\n'], 2),
        "t" => (vec![b'\t'], 2),
        "r" => (vec![b'\r'], 2),
        "x" => (vec![hex(text.get(2..4)?)? as u8], 4),
        "u" => {
            let digits = text.get(2..)?.strip_prefix('{')?.split_once('}')?.0;
            (char::from_u32(hex(digits)?)?.to_string().into_bytes(), digits.len() + 4)
        }
        _ => return None,
    };
    // Only what `push_shown` would show in this form
    let mut shown = String::new();
    push_shown(&bytes, &mut shown);
    (shown == text[..length]).then_some((bytes, length))
}

/// Appends `bytes` as one shell word (bash, ksh, zsh: `$'…'`) with exactly these bytes, on one line.
pub fn push_quoted(bytes: &[u8], out: &mut String) {
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(safe) {
        out.extend(bytes.iter().map(|&byte| char::from(byte)));
        return;
    }
    let harmless = |c: char| !c.is_ascii_control() && !is_deceptive(c);
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(harmless) => {
            out.push('\'');
            out.push_str(&text.replace('\'', r"'\''"));
            out.push('\'');
        }
        _ => {
            out.push_str("$'");
            for chunk in bytes.utf8_chunks() {
                for c in chunk.valid().chars() {
                    match c {
                        '\'' | '\\' => out.extend(['\\', c]),
                        '\n' | '\t' | '\r' => push_shown_char(c, out),
                        c if harmless(c) => out.push(c),
                        // Byte by byte, because \u depends on the reader's locale
                        c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_octal(byte, out)),
                    }
                }
                chunk.invalid().iter().for_each(|&byte| push_octal(byte, out));
            }
            out.push('\'');
        }
    }
}

/// Three octal digits: unlike `\x`, a digit that follows can't extend them.
fn push_octal(byte: u8, out: &mut String) {
    write!(out, "\\{byte:03o}").expect("a String takes all");
}

#[cfg(test)]
mod tests;
