//! Code in files of FUSE file systems whose servers stop answering.

use std::fs::File;
use std::io;
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

fn note(attacker: &Attacker<'_>, stops: Stops) {
    attacker.note(format_args!(
        "stops after {} answers or {} ms, {} requests then",
        stops.answers,
        stops.after.as_millis(),
        if stops.takes { "takes" } else { "leaves" },
    ));
}

/// Mounted by the user in a namespace of its own.
pub fn in_own_namespace(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let directory = attacker.directory()?;
    let stops = stops(attacker);
    sys::own_namespaces(0)?;
    // The device has to be opened in the user namespace of the mount
    let device = fuse::open(&attacker.fuse)?;
    fuse::mount(&device, &directory, 0, attacker.rng.pick(&["", ",allow_other"]))?;
    note(attacker, stops);
    serve_and_run(attacker, device, &directory, stops)
}

/// Mounted for all users, root too, as `fusermount` does with `user_allow_other`; served by the user.
pub fn for_all_users(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let directory = attacker.directory()?;
    sys::chown(&directory, crate::place::USER)?;
    let stops = stops(attacker);
    let device = fuse::open(Path::new("/dev/fuse"))?;
    fuse::mount(&device, &directory, crate::place::USER, ",allow_other")?;
    attacker.become_user()?;
    note(attacker, stops);
    serve_and_run(attacker, device, &directory, stops)
}

fn serve_and_run(attacker: &mut Attacker<'_>, device: File, directory: &Path, stops: Stops) -> io::Result<()> {
    let until = attacker.until;
    let file = directory.join(fuse::NAME);
    // The client waits for a server that stops, and can't be killed then: so the server is the parent, and its end frees it
    let mut rng = attacker.rng.clone();
    let client_file = file.clone();
    let client_device = device.try_clone()?;
    sys::fork(move || {
        drop(client_device);
        let page = super::code::map_code(&File::open(client_file)?)?;
        run_code(page, until + HELD / 2, &mut rng);
        Ok(())
    })?;
    // A perf map in it, for a process whose root it is
    fuse::serve(device, &elf::library("of_library"), stops, Instant::now().max(until) + HELD)?;
    wait_until_over(attacker);
    Ok(())
}
