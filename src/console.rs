//! Messages on standard error, and the output of commands on standard output.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event::text::{push_shown, safe_json};
use crate::stdio;

/// How long a message waits for a standard error that does not accept it. After that the run continues without the
/// message.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes `text` and a newline to standard error in one write, so that the lines of other processes do not mix with it.
/// A blocked standard error must not end a capture, so errors are ignored.
pub fn say(text: &str) {
    let _ = stdio::write_within(rustix::stdio::stderr(), (safe(text) + "\n").as_bytes(), PATIENCE);
}

/// Writes `text`, which a later line overwrites, to standard error if that accepts it at once.
pub fn draw(text: &str) {
    let _ = stdio::write_within(rustix::stdio::stderr(), text.as_bytes(), Duration::ZERO);
}

/// Writes `text` to standard output. A closed pipe is not an error.
///
/// # Errors
/// If standard output is closed, or a write fails.
pub fn print(text: &str) -> Result<()> {
    print_as_it_is(&safe(text))
}

/// Writes `value` to standard output as JSON; terminal control characters are escaped.
///
/// # Errors
/// See [`print()`].
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    print_as_it_is(&safe_json(&format!("{value:#}\n")))
}

/// Writes `bytes` to standard output unchanged.
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

/// Writes clap's output: help and version to standard output, errors of the command line to standard error.
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

/// Escapes terminal control characters: messages quote configs, paths and names from the kernel.
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
