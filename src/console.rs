//! Words for the person at the terminal: a message at a time.

use std::io::{self, Write as _};

use crate::event::text::push_shown;

/// Writes `text` and a line's end to standard error, in one piece: pieces would be mixed with what others write. A
/// standard error that nobody reads must not end a capture, so a failure is nobody's business.
pub fn say(text: &str) {
    let _ = io::stderr().write_all((safe(text) + "\n").as_bytes());
}

/// Writes `text` to standard output. A reader that has gone away has seen what it wanted.
pub fn print(text: &str) -> io::Result<()> {
    print_as_it_is(&safe(text))
}

/// Writes `value` to standard output, for machines: JSON escapes what a terminal would obey by itself.
pub fn print_json(value: &serde_json::Value) -> io::Result<()> {
    print_as_it_is(&format!("{value:#}\n"))
}

fn print_as_it_is(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Configs, paths and names from the kernel are quoted in messages: what a terminal would obey is shown escaped.
fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 1);
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        for (i, piece) in line.split('\t').enumerate() {
            safe.push_str(if i > 0 { "\t" } else { "" });
            push_shown(piece.as_bytes(), &mut safe);
        }
        safe.push_str(end);
    }
    safe
}
