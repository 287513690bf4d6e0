//! Words for the person at the terminal: standard error, a message at a time.

use std::io::Write as _;

/// Writes `text` and a line's end, in one piece: pieces would be mixed with what others write. A standard error that
/// nobody reads must not end a capture, so a failure is nobody's business.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
