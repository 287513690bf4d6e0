//! What the other user does. Each attack runs in a process of its own; what it forks, the process above it kills in the end.

mod calls;
mod code;
mod names;
mod ordinary;
mod perf_maps;
mod processes;
mod served;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::attackers::Attacker;
use crate::elf;
use crate::place::FIXED;
use crate::rng::Rng;
use crate::sys;

pub struct Attack {
    pub name: &'static str,
    /// How often it is drawn.
    pub weight: usize,
    pub rights: Rights,
    pub run: fn(&mut Attacker<'_>) -> io::Result<()>,
}

/// What an attack begins with.
#[derive(Clone, Copy)]
pub enum Rights {
    User,
    /// It prepares something that only root can, and then becomes the user.
    Root,
}

const fn user(name: &'static str, weight: usize, run: fn(&mut Attacker<'_>) -> io::Result<()>) -> Attack {
    Attack { name, weight, rights: Rights::User, run }
}

const fn root(name: &'static str, weight: usize, run: fn(&mut Attacker<'_>) -> io::Result<()>) -> Attack {
    Attack { name, weight, rights: Rights::Root, run }
}

/// Runs all the time: what an ordinary process does, so that there is something to capture.
pub static ORDINARY: Attack = user("ordinary", 0, ordinary::run);
/// Runs all the time: a program with a known function.
pub static WITNESS: Attack = user("witness", 0, ordinary::witness);

pub static ALL: &[Attack] = &[
    user("perf-map", 8, perf_maps::run),
    root("foreign-perf-map", 1, perf_maps::of_another_user),
    user("odd-mapping", 4, code::odd_mapping),
    user("called-mapping", 4, code::called_by_program),
    user("lying-elf", 6, code::lying_elf),
    user("changing-file", 5, code::changing_file),
    user("lease", 2, code::lease),
    user("fuse-own", 3, served::in_own_namespace),
    root("fuse-shared", 3, served::for_all_users),
    user("exec-chain", 4, processes::exec_chain),
    user("exec-storm", 2, processes::exec_storm),
    user("fork-storm", 2, processes::fork_storm),
    user("memfd-exec", 1, processes::memfd_exec),
    root("pid-reuse", 3, processes::pid_reuse),
    root("user-change", 1, processes::user_change),
    user("stopped", 2, processes::stopped),
    user("traced", 1, processes::traced),
    user("zombies", 1, processes::zombies),
    user("thread-names", 2, names::threads),
    user("titles", 1, names::titles),
    user("many-mappings", 1, code::many_mappings),
    user("many-mounts", 1, names::many_mounts),
    root("cgroups", 1, names::cgroups),
    user("odd-paths", 2, calls::odd_paths),
    user("signals", 2, calls::signals),
    user("sockets", 2, calls::sockets),
    user("disk", 1, calls::disk),
];

type Spin = extern "C" fn(u64);
type Nap = extern "C" fn(*const libc::timespec);

/// Calls the code in a page until it is time.
pub fn run_code(page: *const u8, until: Instant, rng: &mut Rng) {
    // SAFETY: the page has `elf::leaf()`, mapped as executable; if another process changes it, only this one suffers
    let (spin, nap) =
        unsafe { (std::mem::transmute::<*const u8, Spin>(page), std::mem::transmute::<*const u8, Nap>(page.add(64))) };
    while Instant::now() < until {
        spin(rng.range(500_000, 3_000_000));
        let time = libc::timespec { tv_sec: 0, tv_nsec: rng.range(1_000_000, 4_000_000) as i64 };
        nap(&raw const time);
    }
}

/// A page of anonymous memory with code, at an address that a decoy has a name for.
pub fn anonymous_code() -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let page = sys::map(FIXED, 4096, all, flags, None)?;
    fill(page);
    Ok(page)
}

/// Writes the code to a page that can be written to.
pub fn fill(page: *mut u8) {
    let code = elf::leaf();
    // SAFETY: the page is mapped for writing and longer than the code
    unsafe { page.copy_from_nonoverlapping(code.as_ptr(), code.len()) };
}

/// Waits in small steps, until it is over.
pub fn wait_until_over(attacker: &Attacker<'_>) {
    while !attacker.is_over() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory with its own `/tmp`: a mount namespace of the user's, and there at times another root directory.
pub fn own_tmp(attacker: &mut Attacker<'_>) -> io::Result<&'static str> {
    let other_root = attacker.rng.once_in(3);
    let target = if other_root { attacker.directory()? } else { Path::new("/tmp").to_owned() };
    sys::own_namespaces(0)?;
    sys::mount("none", &target, "tmpfs", 0, "size=48m,mode=1777")?;
    if !other_root {
        return Ok("own mounts");
    }
    std::fs::create_dir(target.join("tmp"))?;
    std::os::unix::fs::chroot(&target)?;
    std::env::set_current_dir("/")?;
    Ok("own root")
}
