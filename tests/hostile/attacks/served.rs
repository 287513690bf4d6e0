//! Code in files of FUSE file systems whose servers stop answering.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{run_code, wait_until_over};
use crate::attackers::Attacker;
use crate::fuse::{self, Stops};
use crate::{elf, sys};

/// How long a connection is held at most after the attack: the end of the window is within.
const HELD: Duration = Duration::from_secs(8);

fn stops(attacker: &mut Attacker<'_>) -> Stops {
    Stops {
        answers: attacker.rng.pick(&[5, 6, 7, 8, 12, 1000]),
        after: attacker.rng.millis(100, 1500),
        takes: attacker.rng.once_in(2),
    }
}

fn note(attacker: &Attacker<'_>, stops: Stops, overlay: bool) {
    attacker.note(format_args!(
        "{}stops after {} answers or {} ms, {} requests then",
        if overlay { "below an overlay, " } else { "" },
        stops.answers,
        stops.after.as_millis(),
        if stops.takes { "takes" } else { "leaves" },
    ));
}

/// Mounted by the user in a namespace of its own; at times below an overlay, which is a file system of the kernel's.
pub fn in_own_namespace(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let root = attacker.directory()?;
    let mut stops = stops(attacker);
    let overlay = attacker.rng.once_in(2);
    if overlay {
        stops.answers += 30; // an overlay asks more before there is a file
    }
    sys::own_namespaces(0)?;
    let directory = root.join("served");
    for name in ["served", "empty", "merged"] {
        fs::create_dir(root.join(name))?;
    }
    // The device has to be opened in the user namespace of the mount
    let device = fuse::open(&attacker.fuse)?;
    fuse::mount(&device, &directory, 0, attacker.rng.pick(&["", ",allow_other"]))?;
    note(attacker, stops, overlay);
    let file = move || {
        if !overlay {
            return File::open(directory.join(fuse::NAME));
        }
        let options = format!("lowerdir={}:{}", directory.display(), root.join("empty").display());
        sys::mount("overlay", &root.join("merged"), "overlay", libc::MS_RDONLY, &options)?;
        File::open(root.join("merged").join(fuse::NAME))
    };
    serve_and_run(attacker, device, file, stops)
}

/// Mounted for all users, root too, as `fusermount` does with `user_allow_other`; served by the user.
pub fn for_all_users(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let directory = attacker.directory()?;
    sys::chown(&directory, crate::place::USER)?;
    let stops = stops(attacker);
    let device = fuse::open(Path::new("/dev/fuse"))?;
    fuse::mount(&device, &directory, crate::place::USER, ",allow_other")?;
    attacker.become_user()?;
    note(attacker, stops, false);
    serve_and_run(attacker, device, move || File::open(directory.join(fuse::NAME)), stops)
}

/// Runs code of the file that `open` opens in another process, which has the server's answers to wait for.
fn serve_and_run(
    attacker: &mut Attacker<'_>,
    device: File,
    open: impl FnOnce() -> io::Result<File>,
    stops: Stops,
) -> io::Result<()> {
    let until = attacker.until;
    let mut rng = attacker.rng.clone();
    // The client may wait for a server that has stopped, and can't be killed then: the end of the server frees it
    let copy = device.as_raw_fd();
    sys::fork(|| {
        // SAFETY: nothing in the client uses it; as long as it was open here, the connection would last
        unsafe { libc::close(copy) };
        let result = open().and_then(|file| super::code::map_code(&file));
        let page = result.inspect_err(|error| attacker.note(format_args!("failed: client: {error}")))?;
        run_code(page, until + HELD / 2, &mut rng);
        Ok(())
    })?;
    fuse::serve(device, &elf::library("of_library"), stops, Instant::now().max(until) + HELD)?;
    wait_until_over(attacker);
    Ok(())
}
