//! The protocol between the runner and its symbol helper over a socket: requests with addresses, replies with names.
//!
//! Either side can be compromised, most likely the helper: lengths are checked before any allocation, and a reply that
//! does not match its request exactly is an error.

use std::io::{self, Read, Write};
use std::time::Duration;

/// Limit of addresses in one request.
pub const MAX_ADDRESSES: usize = 1024;
/// Limit of bytes of one name; longer names are cut.
pub const MAX_NAME: usize = 1024;

const HEAD: usize = 24;

/// Identifies the program image that an address belongs to. The eBPF program and the helper compute `layout` in the
/// same way from the kernel's data of the process: see `bpf/include/stack.h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Image {
    /// The process, in the initial pid namespace.
    pub pid: u32,
    /// The lower half of the inode number of its executable.
    pub exe: u32,
    /// A hash of its start time and the layout of its address space, which changes with every execution.
    pub layout: u64,
}

/// Why a frame has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum UnresolvedCause {
    /// The file that is mapped there has no symbol for the address, or the kernel has none.
    NoSymbol = 1,
    /// Code in anonymous memory without an entry in a perf map.
    NoFile,
    /// The file is not opened: it is not regular, on a file system in user space, or leased.
    FileRefused,
    /// The process has ended, or has executed another program.
    ProcessGone,
    /// The permission to read the process, or the kernel's addresses, is missing.
    NotPermitted,
    /// Nothing is mapped there any more.
    NotMapped,
    /// The look-up would have taken too long.
    TimedOut,
    /// The helper could not be started, or failed too often.
    NoHelper,
    /// The runner is in a pid namespace: it can't find the process by the pid of the initial namespace.
    PidNamespace,
    /// The names of one snapshot take too much memory.
    NoRoom,
}

impl UnresolvedCause {
    /// Every cause, in the order of their numbers.
    pub const ALL: [UnresolvedCause; 10] = [
        UnresolvedCause::NoSymbol,
        UnresolvedCause::NoFile,
        UnresolvedCause::FileRefused,
        UnresolvedCause::ProcessGone,
        UnresolvedCause::NotPermitted,
        UnresolvedCause::NotMapped,
        UnresolvedCause::TimedOut,
        UnresolvedCause::NoHelper,
        UnresolvedCause::PidNamespace,
        UnresolvedCause::NoRoom,
    ];

    /// The key in JSON.
    pub fn key(self) -> &'static str {
        match self {
            UnresolvedCause::NoSymbol => "no_symbol",
            UnresolvedCause::NoFile => "no_file",
            UnresolvedCause::FileRefused => "file_refused",
            UnresolvedCause::ProcessGone => "process_gone",
            UnresolvedCause::NotPermitted => "not_permitted",
            UnresolvedCause::NotMapped => "not_mapped",
            UnresolvedCause::TimedOut => "timed_out",
            UnresolvedCause::NoHelper => "no_helper",
            UnresolvedCause::PidNamespace => "pid_namespace",
            UnresolvedCause::NoRoom => "no_room",
        }
    }

    /// The text in messages.
    pub fn words(self) -> &'static str {
        match self {
            UnresolvedCause::NoSymbol => "no symbol",
            UnresolvedCause::NoFile => "code without a file or perf map",
            UnresolvedCause::FileRefused => "file not opened",
            UnresolvedCause::ProcessGone => "process ended or executed another program",
            UnresolvedCause::NotPermitted => "not permitted",
            UnresolvedCause::NotMapped => "no longer mapped",
            UnresolvedCause::TimedOut => "lookup took too long",
            UnresolvedCause::NoHelper => "symbol helper failed",
            UnresolvedCause::PidNamespace => "the runner is in a pid namespace",
            UnresolvedCause::NoRoom => "names take too much memory",
        }
    }

    /// Whether the cause applies to all addresses.
    pub fn is_for_all(self) -> bool {
        matches!(self, UnresolvedCause::NotPermitted | UnresolvedCause::NoHelper | UnresolvedCause::PidNamespace)
    }

    fn of(number: u8) -> Option<UnresolvedCause> {
        UnresolvedCause::ALL.into_iter().find(|cause| *cause as u8 == number)
    }
}

/// A name, or why there is none.
pub type Answer = Result<Vec<u8>, UnresolvedCause>;

/// A request of the runner.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The program image.
    pub image: Image,
    /// Addresses in it.
    pub addresses: Vec<u64>,
    /// Time limit of the answer.
    pub allowance: Duration,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes a request for at most [`MAX_ADDRESSES`] addresses, to be answered within `allowance`.
///
/// # Errors
/// If the write fails.
pub fn send_request(to: &mut impl Write, image: &Image, addresses: &[u64], allowance: Duration) -> io::Result<()> {
    debug_assert!(addresses.len() <= MAX_ADDRESSES);
    let mut bytes = Vec::with_capacity(HEAD + 8 * addresses.len());
    bytes.extend(image.pid.to_ne_bytes());
    bytes.extend(image.exe.to_ne_bytes());
    bytes.extend(image.layout.to_ne_bytes());
    bytes.extend((addresses.len() as u32).to_ne_bytes());
    bytes.extend(u32::try_from(allowance.as_millis()).unwrap_or(u32::MAX).to_ne_bytes());
    addresses.iter().for_each(|address| bytes.extend(address.to_ne_bytes()));
    to.write_all(&bytes)
}

/// Reads a request; `None` at the end of the stream.
///
/// # Errors
/// If it is invalid, or if the read fails.
pub fn receive_request(from: &mut impl Read) -> io::Result<Option<Request>> {
    let mut head = [0; HEAD];
    match from.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let count = word(16) as usize;
    if count > MAX_ADDRESSES {
        return Err(invalid("too many addresses"));
    }
    let mut bytes = vec![0; 8 * count];
    from.read_exact(&mut bytes)?;
    let addresses = bytes.chunks_exact(8).map(|chunk| u64::from_ne_bytes(chunk.try_into().expect("eight bytes")));
    Ok(Some(Request {
        image: Image { pid: word(0), exe: word(4), layout: long(8) },
        addresses: addresses.collect(),
        allowance: Duration::from_millis(word(20).into()),
    }))
}

/// Writes the answers to a request.
///
/// # Errors
/// If the write fails.
pub fn send_answers(to: &mut impl Write, answers: &[Answer]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for answer in answers {
        match answer {
            Ok(name) => {
                let name = &name[..name.len().min(MAX_NAME)];
                bytes.push(0);
                bytes.extend((name.len() as u16).to_ne_bytes());
                bytes.extend(name);
            }
            Err(cause) => bytes.push(*cause as u8),
        }
    }
    to.write_all(&bytes)
}

/// Reads `count` answers.
///
/// # Errors
/// If they are invalid, or if the read fails.
pub fn receive_answers(from: &mut impl Read, count: usize) -> io::Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        let mut status = [0];
        from.read_exact(&mut status)?;
        if status[0] != 0 {
            answers.push(Err(UnresolvedCause::of(status[0]).ok_or_else(|| invalid("an unknown status"))?));
            continue;
        }
        let mut length = [0; 2];
        from.read_exact(&mut length)?;
        let length = usize::from(u16::from_ne_bytes(length));
        if length > MAX_NAME {
            return Err(invalid("a name that is too long"));
        }
        let mut name = vec![0; length];
        from.read_exact(&mut name)?;
        answers.push(Ok(name));
    }
    Ok(answers)
}

#[cfg(test)]
mod tests;
