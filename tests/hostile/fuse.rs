//! A file system in userspace with one file, whose server stops answering when it likes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys;

/// The name of the file in the root of the file system.
pub const NAME: &str = "library.so";

const ROOT: u64 = 1;
const FILE: u64 = 2;
/// The largest read and write, bytes.
const MOST: u32 = 1 << 16;

/// When the server stops: after so many answers, or at a time.
#[derive(Clone, Copy, Debug)]
pub struct Stops {
    pub answers: u64,
    pub after: Duration,
    /// Whether it still takes requests then, without an answer. A process that waits for such a request can't be killed.
    pub takes: bool,
}

pub fn open(device: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(device)
}

/// Mounts it. `more` are mount options behind the required ones.
pub fn mount(device: &File, at: &Path, user: u32, more: &str) -> io::Result<()> {
    let options = format!("fd={},rootmode=40755,user_id={user},group_id={user}{more}", device.as_raw_fd());
    sys::mount("hostile", at, "fuse", libc::MS_NOSUID | libc::MS_NODEV, &options)
}

/// Answers until it is to stop, and holds the connection until `end`.
pub fn serve(mut device: File, content: &[u8], stops: Stops, end: Instant) -> io::Result<()> {
    let began = Instant::now();
    let mut request = vec![0; 2 * MOST as usize]; // the kernel wants room for the largest write and its header
    let mut answered = 0;
    while Instant::now() < end {
        let silent = answered >= stops.answers || began.elapsed() >= stops.after;
        if (silent && !stops.takes) || !readable(&device) {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        let len = match device.read(&mut request) {
            Ok(len) => len,
            Err(error) if [libc::ENOENT, libc::EINTR].contains(&error.raw_os_error().unwrap_or_default()) => continue,
            Err(error) => return Err(error),
        };
        if silent || len < 40 {
            continue;
        }
        let (opcode, unique, node) = (u32_at(&request, 4), u64_at(&request, 8), u64_at(&request, 16));
        let Some(answer) = answer(opcode, node, &request[40..len], content) else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(number) => (-number, Vec::new()),
        };
        let mut reply = ((16 + body.len()) as u32).to_le_bytes().to_vec();
        reply.extend(error.to_le_bytes());
        reply.extend(unique.to_le_bytes());
        reply.extend(body);
        match device.write_all(&reply) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error), // the caller has gone
            _ => answered += 1,
        }
    }
    Ok(())
}

fn readable(device: &File) -> bool {
    let mut poll = libc::pollfd { fd: device.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid structure, as the count says
    unsafe { libc::poll(&raw mut poll, 1, 20) > 0 }
}

/// The body of a reply, or an error number; `None` where the kernel expects no reply.
fn answer(opcode: u32, node: u64, arguments: &[u8], content: &[u8]) -> Option<Result<Vec<u8>, i32>> {
    Some(match opcode {
        1 => match arguments.strip_suffix(b"\0") {
            // FUSE_LOOKUP
            Some(name) if node == ROOT && name == NAME.as_bytes() => {
                let mut body = words(&[FILE, 0, 3600, 3600, 0]);
                body.extend(attributes(FILE, content.len()));
                Ok(body)
            }
            _ => Err(libc::ENOENT),
        },
        2 | 42 => return None, // FUSE_FORGET, FUSE_BATCH_FORGET
        3 => {
            // FUSE_GETATTR
            let mut body = words(&[3600, 0]);
            body.extend(attributes(node, content.len()));
            Ok(body)
        }
        14 | 27 => Ok(words(&[0, 0])), // FUSE_OPEN, FUSE_OPENDIR
        15 => {
            // FUSE_READ
            let (offset, size) = (u64_at(arguments, 8) as usize, u32_at(arguments, 16) as usize);
            let from = offset.min(content.len());
            Ok(content[from..(from + size).min(content.len())].to_vec())
        }
        17 => Ok(vec![0; 80]),               // FUSE_STATFS
        18 | 25 | 29 | 34 => Ok(Vec::new()), // FUSE_RELEASE, FUSE_FLUSH, FUSE_RELEASEDIR, FUSE_ACCESS
        26 => {
            // FUSE_INIT
            let mut body = Vec::new();
            for value in [7u32, 31, MOST, 0, 16 | 12 << 16, MOST, 1, 16] {
                body.extend(value.to_le_bytes());
            }
            body.resize(64, 0);
            Ok(body)
        }
        _ => Err(libc::ENOSYS),
    })
}

fn attributes(node: u64, len: usize) -> Vec<u8> {
    let (mode, links) = if node == ROOT { (0o40755, 2) } else { (0o100755, 1) };
    let mut body = words(&[node, len as u64, 8, 0, 0, 0]);
    for value in [0u32, 0, 0, mode, links, 0, 0, 0, 4096, 0] {
        body.extend(value.to_le_bytes());
    }
    body
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
