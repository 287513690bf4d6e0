//! Messages on standard error, and what the commands print on standard output.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event::text::{push_shown, safe_json};
use crate::stdio;

/// How long a message waits for a standard error that takes nothing. After that the run goes on without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes `text` and a line's end to standard error, in one piece: pieces would be mixed with what others write. A
/// standard error that takes nothing must not end a capture, so an error is ignored.
pub fn say(text: &str) {
    let _ = stdio::write_within(rustix::stdio::stderr(), (safe(text) + "\n").as_bytes(), PATIENCE);
}

/// Writes `text`, which is drawn over later, to standard error if that takes it at once.
pub fn draw(text: &str) {
    let _ = stdio::write_within(rustix::stdio::stderr(), text.as_bytes(), Duration::ZERO);
}

/// Writes `text` to standard output. A reader that has gone away is no error.
///
/// # Errors
/// If standard output is closed, or takes no more.
pub fn print(text: &str) -> Result<()> {
    print_as_it_is(&safe(text))
}

/// Writes `value` to standard output, for machines; what a terminal would obey is escaped.
///
/// # Errors
/// See [`print()`].
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    print_as_it_is(&safe_json(&format!("{value:#}\n")))
}

/// Writes `bytes` to standard output as they are.
///
/// # Errors
/// See [`print()`].
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    match stdio::write_all(rustix::stdio::stdout(), bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()) => {
            Err(Error::failed("can't write to standard output: it is closed, or not open for writing"))
        }
        result => result.map_err(|error| Error::failed(format!("can't write to standard output: {error}"))),
    }
}

/// Writes what clap has to show: help and the version to standard output, an error of the command line to standard error.
///
/// # Errors
/// See [`print()`].
pub fn show_clap(shown: &clap::Error) -> Result<()> {
    let plain_wanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    let text = |is_terminal: bool| {
        let text = shown.render();
        if is_terminal && !plain_wanted { text.ansi().to_string() } else { safe(&text.to_string()) }
    };
    if shown.use_stderr() {
        let text = text(io::stderr().is_terminal());
        let _ = stdio::write_within(rustix::stdio::stderr(), text.as_bytes(), PATIENCE);
        return Ok(());
    }
    print_as_it_is(&text(io::stdout().is_terminal()))
}

fn print_as_it_is(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
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
