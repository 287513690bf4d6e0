//! What goes on all the time beside the attacks, so that a capture that sees nothing is one that fails.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::attackers::Attacker;
use crate::place::WITNESS;
use crate::sys;

/// A program with a known function.
pub fn witness(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let path = sys::c(attacker.place.path("bin").join(WITNESS));
    Err(sys::exec(&path, &[&path]))
}

/// Each kind of event that a shipped config captures, many times a second, until it is killed.
pub fn run(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let data = attacker.directory()?.join("data");
    let file = File::options().read(true).write(true).create_new(true).open(&data)?;
    let program = sys::c("/bin/false");
    loop {
        // At times there are too many processes or sockets of this user
        let _ = once(&listener, address, &file, &program);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn once(listener: &TcpListener, address: SocketAddr, file: &File, program: &CStr) -> io::Result<()> {
    let _ = File::open("/no/such/file");
    let child = sys::fork(|| Err(sys::exec(program, &[program])))?;
    sys::reap(child, 0);
    let child = sys::fork(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    })?;
    sys::kill(child, libc::SIGTERM);
    sys::reap(child, 0);
    file.write_all_at(&[1; 4096], 0)?;
    file.sync_data()?;
    let mut client = TcpStream::connect(address)?;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"x")?;
    server.read_exact(&mut [0])
}
