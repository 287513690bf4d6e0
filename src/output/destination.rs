//! Where a sink's bytes go, and whole lines on their way there.

use std::fs::File;
use std::io::{self, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags};

/// The paths that stand for standard output.
pub const STANDARD_OUTPUT: &[&str] = &["-", "/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"];

/// Lines are collected up to so many bytes before they are handed to the file.
pub const BUFFER_BYTES: usize = 64 << 10;

/// The file behind a sink.
#[derive(Debug)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// An open file.
    File(File),
}

impl Output {
    /// Whether a person may be looking.
    pub fn is_terminal(&self) -> bool {
        match self {
            Output::Stdout => io::stdout().is_terminal(),
            Output::File(file) => file.is_terminal(),
        }
    }

    /// Columns of the terminal, if it is one.
    pub fn width(&self) -> Option<usize> {
        let size = match self {
            Output::Stdout => rustix::termios::tcgetwinsize(rustix::stdio::stdout()),
            Output::File(file) => rustix::termios::tcgetwinsize(file),
        };
        size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            // Not `io::stdout()`: its line buffer would write every record on its own
            Output::Stdout => write_stdout(bytes),
            Output::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal may be non-blocking because some other program made it so; then wait until it takes more.
fn write_stdout(bytes: &[u8]) -> io::Result<usize> {
    let stdout = rustix::stdio::stdout();
    loop {
        match rustix::io::write(stdout, bytes) {
            Err(rustix::io::Errno::AGAIN) => {
                rustix::event::poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None)?;
            }
            result => return Ok(result?),
        }
    }
}

/// A file, and how much has been written to it.
#[derive(Debug)]
pub struct Counted {
    output: Output,
    /// Bytes written so far.
    pub bytes: u64,
}

impl From<Output> for Counted {
    fn from(output: Output) -> Self {
        Counted { output, bytes: 0 }
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whole lines on their way to a file.
#[derive(Debug)]
pub struct Lines {
    /// What waits.
    pub buffer: String,
    /// Where it goes.
    pub output: Counted,
}

impl Lines {
    /// Hands everything over, and forgets it even where that fails.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.output.write_all(self.buffer.as_bytes());
        self.buffer.clear();
        result
    }

    /// Hands everything over if it is worth a system call.
    pub fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }
}
