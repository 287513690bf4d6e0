//! Where a sink's bytes go, and whole lines on their way there.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd as _;

use rustix::fd::BorrowedFd;
use rustix::fs::{FileType, SeekFrom, fstat, ftruncate, seek};
use rustix::io::pread;

use crate::stdio;

/// The paths that stand for standard output.
pub const STANDARD_OUTPUT: &[&str] = &["-", "/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"];

/// Lines are collected up to so many bytes before they are handed to the file.
pub const BUFFER_BYTES: usize = 64 << 10;

/// The file behind a sink.
#[derive(Debug)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// An open file.
    File(File),
}

impl Destination {
    /// Whether a person may be looking.
    pub fn is_terminal(&self) -> bool {
        match self {
            Destination::Stdout => io::stdout().is_terminal(),
            Destination::File(file) => file.is_terminal(),
        }
    }

    /// Columns of the terminal, if it is one.
    pub fn width(&self) -> Option<usize> {
        let size = match self {
            Destination::Stdout => rustix::termios::tcgetwinsize(rustix::stdio::stdout()),
            Destination::File(file) => rustix::termios::tcgetwinsize(file),
        };
        size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Destination::Stdout => rustix::stdio::stdout(),
            Destination::File(file) => file.as_fd(),
        }
    }
}

/// Where records end in what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordEnd {
    /// At each line's end.
    Line,
    /// At each line's end that is not within the quotes of a CSV field.
    UnquotedLine,
}

impl RecordEnd {
    /// How many of `bytes`, which begin with a record, are whole records.
    fn whole(self, bytes: &[u8]) -> usize {
        let (mut quoted, mut whole) = (false, 0);
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' if self == RecordEnd::UnquotedLine => quoted = !quoted,
                b'\n' if !quoted => whole = at + 1,
                _ => {}
            }
        }
        whole
    }
}

/// A file, and how much has been written to it.
#[derive(Debug)]
pub struct Counted {
    output: Destination,
    // Cells, because a `csv::Writer` lends what it writes to only for reading
    bytes: Cell<u64>,
    /// So many of them were written when everything was flushed the last time: they are whole records.
    flushed: Cell<u64>,
    /// A write has failed. What comes after it has no place.
    failed: Cell<bool>,
}

impl From<Destination> for Counted {
    fn from(output: Destination) -> Self {
        Counted { output, bytes: Cell::new(0), flushed: Cell::new(0), failed: Cell::new(false) }
    }
}

impl Counted {
    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Nothing more is written. If that ended within a record, and this is a regular file, its beginning is cut off.
    pub fn cut_to_records(&self, end: RecordEnd) {
        self.failed.set(true);
        let partly = self.bytes.get() - self.flushed.get();
        if partly == 0 {
            return;
        }
        // A pipe can't give back what it took. Nor is a file cut that another process has written to after this one
        let fd = self.output.fd();
        let Ok(stat) = fstat(fd) else { return };
        let position = seek(fd, SeekFrom::Current(0)).unwrap_or(0);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size as u64 != position {
            return;
        }
        let from = position.saturating_sub(partly);
        // What can't be read back is cut off as a whole
        let whole = read_back(fd, from, partly).map_or(0, |bytes| end.whole(&bytes) as u64);
        if whole < partly && ftruncate(fd, from + whole).is_ok() {
            self.bytes.set(self.flushed.get() + whole);
        }
    }

    /// The error of earlier writes that a file system has kept until now.
    ///
    /// # Errors
    /// See [`stdio::delayed_error`].
    pub fn delayed_error(&self) -> io::Result<()> {
        stdio::delayed_error(self.output.fd())
    }
}

fn read_back(fd: BorrowedFd<'_>, from: u64, count: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(count).ok()?];
    let mut read = 0;
    while read < bytes.len() {
        match pread(fd, &mut bytes[read..], from + read as u64) {
            Ok(0) | Err(_) => return None,
            Ok(more) => read += more,
        }
    }
    Some(bytes)
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.get() {
            return Err(io::Error::other("an earlier write has failed"));
        }
        // Not `io::stdout()`: its line buffer would write every record on its own
        let written = stdio::write(self.output.fd(), bytes);
        match &written {
            Ok(written) => self.bytes.set(self.bytes.get() + *written as u64),
            // A table that is dropped writes what it still has
            Err(_) => self.failed.set(true),
        }
        written
    }

    /// Whole records are written.
    fn flush(&mut self) -> io::Result<()> {
        if self.failed.get() {
            return Err(io::Error::other("an earlier write has failed"));
        }
        self.flushed.set(self.bytes.get());
        Ok(())
    }
}

/// Whole lines on their way to a file.
#[derive(Debug)]
pub struct BufferedLines {
    /// What waits.
    pub buffer: String,
    /// Where it goes.
    pub output: Counted,
}

impl BufferedLines {
    /// Hands everything over, and forgets it even where that fails.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.output.write_all(self.buffer.as_bytes()).and_then(|()| self.output.flush());
        self.buffer.clear();
        result
    }

    /// Hands everything over if it is worth a system call.
    pub fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
