//! System calls with odd arguments.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::attackers::Attacker;
use crate::sys;

/// Opens of paths of any bytes and up to the longest length.
pub fn odd_paths(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let mut path = vec![b'/'; 1];
    while !attacker.is_over() {
        let len = attacker.rng.pick(&[1, 100, 254, 319, 320, 4094, 4095, 5000]);
        path.truncate(1);
        let alphabet = attacker.rng.pick(&[&b"a"[..], b"a/", b"\n\x1b\xff\"',;\\", b"{}%\xe2\x80\xae"]);
        while path.len() < len {
            path.push(attacker.rng.pick(alphabet));
        }
        let _ = File::open(std::ffi::OsStr::from_bytes(&path));
        // SAFETY: the kernel refuses the addresses
        unsafe {
            libc::open(std::ptr::dangling(), libc::O_RDONLY);
            libc::open(std::ptr::null(), libc::O_RDONLY);
        }
        std::thread::sleep(Duration::from_micros(attacker.rng.range(0, 500)));
    }
    Ok(())
}

/// Signals to its own children, with codes and values that the kernel would not send.
pub fn signals(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let child = sys::fork(|| {
        // SAFETY: no handler runs code
        unsafe {
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_IGN);
            }
            loop {
                libc::pause();
            }
        }
    })?;
    while !attacker.is_over() {
        let signal = attacker.rng.range(1, 65) as i32;
        if [libc::SIGKILL, libc::SIGSTOP].contains(&signal) {
            continue;
        }
        // SAFETY: all zero is valid
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        info.si_signo = signal;
        info.si_code = attacker.rng.pick(&[-1, -2, -6, -60, i32::MIN, -7]);
        info.si_errno = attacker.rng.next() as i32;
        // SAFETY: the structure outlives the call; the process is a child of this one
        unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, child, signal, &raw mut info) };
        sys::kill(child, signal);
        std::thread::sleep(Duration::from_micros(attacker.rng.range(0, 1000)));
    }
    sys::kill(child, libc::SIGKILL);
    sys::reap(child, 0);
    Ok(())
}

/// Connections on the loopback that are made, refused, reset and left half open.
pub fn sockets(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let listener = TcpListener::bind(attacker.rng.pick(&["127.0.0.1:0", "[::1]:0"]))?;
    let address = listener.local_addr()?;
    let mut held = Vec::new();
    while !attacker.is_over() {
        let Ok(mut stream) = TcpStream::connect(address) else { break };
        let (mut other, _) = listener.accept()?;
        match attacker.rng.range(0, 4) {
            0 => {
                stream.write_all(&vec![0; attacker.rng.range(1, 60_000) as usize])?;
                drop(stream);
                let _ = other.read(&mut [0; 4096]); // the rest is unread: a reset
            }
            1 if held.len() < 50 => held.push((stream, other)),
            2 => drop(TcpStream::connect("127.0.0.1:1")),
            _ => {
                let _ = other.write_all(b"x");
                let _ = stream.read(&mut [0; 1]);
            }
        }
        std::thread::sleep(Duration::from_micros(attacker.rng.range(100, 3000)));
    }
    Ok(())
}

/// Writes that reach the disk, and reads of pages that are not in memory.
pub fn disk(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let path = attacker.directory()?.join("data");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let mut page = vec![7; 64 << 10];
    while !attacker.is_over() {
        let at = attacker.rng.range(0, 64) * page.len() as u64;
        file.write_all_at(&page, at)?;
        if attacker.rng.once_in(4) {
            file.sync_data()?;
        }
        let _ = file.read_at(&mut page, attacker.rng.range(0, 64) * 4096);
        std::thread::sleep(attacker.rng.millis(1, 20));
    }
    fs::remove_file(path)
}
