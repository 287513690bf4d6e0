//! The process above all attackers: starts them, replaces those that have ended, and in the end kills them all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libc::pid_t;

use crate::attacks::{self, Attack, Rights};
use crate::place::{Place, USER};
use crate::rng::Rng;
use crate::sys;

/// How many attacks go on at a time.
const AT_ONCE: usize = 6;
/// No more processes of the user than this.
const PROCESSES: u64 = 400;
/// What the attackers may fill of memory in their `/tmp`.
const TMP: &str = "size=96m,mode=1777";
/// How long processes may take to end that were killed.
const GRACE: Duration = Duration::from_secs(15);

/// What an attack works with.
pub struct Attacker<'a> {
    pub rng: Rng,
    pub place: &'a Place,
    /// When it should be over.
    pub until: Instant,
    /// A FUSE device that the user can open.
    pub fuse: PathBuf,
    log: File,
    name: &'static str,
    number: u64,
}

impl Attacker<'_> {
    /// Writes a line to the log of the attacks.
    pub fn note(&self, what: impl std::fmt::Display) {
        let line = format!("{} {} {what}", self.number, self.name).trim_end().to_owned() + "\n";
        let _ = (&self.log).write_all(line.as_bytes()); // one write: lines of several processes do not mix
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Gives up all rights of root.
    pub fn become_user(&self) -> io::Result<()> {
        // SAFETY: none of these involves memory of this process
        unsafe {
            sys::ok(libc::setgroups(0, std::ptr::null()))?;
            sys::ok(libc::setresgid(USER, USER, USER))?;
            sys::ok(libc::setresuid(USER, USER, USER))?;
            sys::ok(libc::prctl(libc::PR_SET_DUMPABLE, 1))?; // else its files in /proc belong to root
            sys::ok(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        }
        Ok(())
    }

    /// A directory of its own on the disk.
    pub fn directory(&self) -> io::Result<PathBuf> {
        let path = self.place.path("user").join(format!("{}-{}", self.number, std::process::id()));
        fs::create_dir(&path)?;
        Ok(path)
    }
}

/// `attackers ROOT SEED WINDOW ONLY`: runs until SIGTERM. Writes `ready` to standard output once attacks are going on.
pub fn run(root: &Path, seed: u64, window: u64, only: &str) -> io::Result<()> {
    let place = Place::at(root);
    // SAFETY: none of these involves memory
    unsafe {
        sys::ok(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1))?;
        sys::ok(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
    }
    let stopped = stop_signal()?;
    sys::own_mounts()?;
    sys::mount("none", Path::new("/tmp"), "tmpfs", 0, TMP)?;
    // Not mounted everywhere; in this namespace only
    let _ = sys::mount("none", Path::new("/sys/fs/fuse/connections"), "fusectl", 0, "");
    let fuse = fuse_device()?;
    let log = File::options().append(true).create(true).open(place.path("record/attacks.log"))?;
    let mut rng = Rng::of(seed, window);
    let attacks: Vec<&Attack> = attacks::ALL.iter().filter(|attack| only.is_empty() || attack.name == only).collect();
    let bag: Vec<&Attack> = attacks.into_iter().flat_map(|attack| std::iter::repeat_n(attack, attack.weight)).collect();
    let mut number = 0;
    let mut start = |attack: &'static Attack, rng: &mut Rng| {
        number += 1;
        // Some go on until the end of the window
        let last = if rng.once_in(4) { Duration::from_secs(60) } else { rng.millis(200, 2500) };
        let attacker = Attacker {
            rng: Rng::of(rng.next(), number),
            place: &place,
            until: Instant::now() + last,
            fuse: fuse.clone(),
            log: log.try_clone()?,
            name: attack.name,
            number,
        };
        sys::fork(move || attack_once(attacker, attack))
    };
    let mut running = vec![start(&attacks::ORDINARY, &mut rng)?, start(&attacks::WITNESS, &mut rng)?];
    let mut ready = false;
    while !stopped() {
        while let Some((pid, _)) = sys::reap(-1, libc::WNOHANG) {
            running.retain(|running| *running != pid);
        }
        while running.len() < AT_ONCE + 2 {
            running.push(start(rng.pick(&bag), &mut rng)?);
        }
        if !ready {
            println!("ready");
            ready = true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    end(&place)
}

fn attack_once(mut attacker: Attacker<'_>, attack: &Attack) -> io::Result<()> {
    if attack.weight > 0 {
        sys::limit(libc::RLIMIT_NPROC, PROCESSES)?; // of these two there is always one more
    }
    sys::limit(libc::RLIMIT_CORE, 0)?;
    sys::limit(libc::RLIMIT_AS, 8 << 40)?;
    // SAFETY: nothing here has a handler for these signals
    unsafe {
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    if matches!(attack.rights, Rights::User) {
        attacker.become_user()?;
    }
    let result = (attack.run)(&mut attacker);
    if let Err(error) = &result {
        attacker.note(format_args!("failed: {error}"));
    }
    result
}

/// A device file for FUSE that the user can open, as `/dev/fuse` is on most distributions; in the attackers' own `/tmp`.
fn fuse_device() -> io::Result<PathBuf> {
    let path = PathBuf::from("/tmp/.fuse");
    if let Ok(device) = fs::metadata("/dev/fuse") {
        let name = sys::c(&path);
        let number = device.rdev();
        // SAFETY: the path outlives the calls
        unsafe {
            sys::ok(libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o666, number))?;
            sys::ok(libc::chmod(name.as_ptr(), 0o666))?;
        }
    }
    Ok(path)
}

/// Returns a function that reports whether SIGTERM has come.
fn stop_signal() -> io::Result<impl Fn() -> bool> {
    use std::sync::atomic::{AtomicBool, Ordering};
    static STOPPED: AtomicBool = AtomicBool::new(false);
    extern "C" fn stop(_: libc::c_int) {
        STOPPED.store(true, Ordering::Relaxed);
    }
    // SAFETY: the handler only writes to an atomic
    unsafe { libc::signal(libc::SIGTERM, stop as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    Ok(|| STOPPED.load(Ordering::Relaxed))
}

/// Kills every descendant until none is left: orphans become children of this process.
fn end(place: &Place) -> io::Result<()> {
    let until = Instant::now() + GRACE;
    loop {
        let descendants = descendants(std::process::id() as pid_t);
        for pid in &descendants {
            sys::kill(*pid, libc::SIGKILL);
        }
        while sys::reap(-1, libc::WNOHANG).is_some() {}
        if descendants.is_empty() {
            break;
        }
        if Instant::now() > until - GRACE / 2 {
            abort_connections(); // a server that something else holds
        }
        if Instant::now() > until {
            return Err(io::Error::other(format!(
                "attackers do not end:\n{}",
                crate::watch::threads(std::process::id() as pid_t)
            )));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    unmount(&place.path("user"))?;
    clear(&place.path("user"));
    Ok(())
}

/// Ends connections of the attackers' FUSE file systems.
fn abort_connections() {
    for entry in fs::read_dir("/sys/fs/fuse/connections").into_iter().flatten().flatten() {
        if entry.metadata().is_ok_and(|found| found.uid() == USER) {
            let _ = fs::write(entry.path().join("abort"), "1");
        }
    }
}

/// Detaches what is mounted below a directory: no server answers any more.
fn unmount(directory: &Path) -> io::Result<()> {
    for line in fs::read_to_string("/proc/self/mounts")?.lines() {
        let Some(target) = line.split(' ').nth(1).filter(|target| Path::new(target).starts_with(directory)) else {
            continue;
        };
        let target = sys::c(target);
        // SAFETY: the path outlives the call
        sys::ok(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) })?;
    }
    Ok(())
}

/// Every process below `of`.
pub fn descendants(of: pid_t) -> Vec<pid_t> {
    let mut parents: Vec<(pid_t, pid_t)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { continue };
        // The name is in parentheses and may have any bytes
        let Some(end) = stat.iter().rposition(|byte| *byte == b')') else { continue };
        let rest = String::from_utf8_lossy(&stat[end + 1..]).into_owned();
        if let Some(parent) = rest.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![of];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Removes what is in a directory, at any depth: names may be too long for one path.
fn clear(directory: &Path) {
    let _ = std::process::Command::new("find").arg(directory).args(["-mindepth", "1", "-delete"]).status();
}
