//! Words for the person at the terminal: standard error, a message at a time.

use std::io::Write as _;

use crate::event::text::push_shown;

/// Writes `text` and a line's end, in one piece: pieces would be mixed with what others write. A standard error that
/// nobody reads must not end a capture, so a failure is nobody's business.
///
/// Configs, paths and names from the kernel are quoted in messages: what a terminal would obey is shown escaped.
pub fn say(text: &str) {
    let mut safe = String::with_capacity(text.len() + 1);
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        for (i, piece) in line.split('\t').enumerate() {
            safe.push_str(if i > 0 { "\t" } else { "" });
            push_shown(piece.as_bytes(), &mut safe);
        }
        safe.push_str(end);
    }
    safe.push('\n');
    let _ = std::io::stderr().write_all(safe.as_bytes());
}
