//! Odd files where profilers look for the symbols of code in anonymous memory: `/tmp/perf-PID.map`.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::{anonymous_code, own_tmp, run_code};
use crate::attackers::Attacker;
use crate::place::{FIXED, MARKER, USER};
use crate::sys;

const KINDS: &[&str] = &[
    "fifo",
    "sparse",
    "link to a file of root",
    "link to a FIFO of root",
    "link to /dev/zero",
    "link to itself",
    "link into /proc",
    "directory",
    "unreadable",
    "socket",
    "growing",
    "garbage",
    "long lines",
    "cut short",
    "swapped",
    "replaced by a FIFO",
    "lease",
    "odd lines",
];

pub fn run(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let kind = attacker.rng.pick(KINDS);
    let decoy = attacker.place.path("secret");
    let mut place = "the same root";
    if attacker.rng.once_in(2) {
        place = own_tmp(attacker)?;
    }
    let own_pids = place == "own mounts" && attacker.rng.once_in(3);
    attacker.note(format_args!("{kind}, {place}{}", if own_pids { ", own pids" } else { "" }));
    let page = anonymous_code()?;
    if own_pids {
        sys::unshare(libc::CLONE_NEWPID)?;
        let child = sys::fork(|| {
            // Both numbers: which of them a look-up takes is up to it
            let inner = format!("/tmp/perf-{}.map", std::process::id());
            let outer = format!("/tmp/perf-{}.map", sys::outer_pid()?);
            make(attacker, kind, Path::new(&inner), &decoy)?;
            let _ = fs::hard_link(&inner, &outer).or_else(|_| symlink(&inner, &outer));
            run_code(page, attacker.until, &mut attacker.rng);
            Ok(())
        })?;
        sys::reap(child, 0);
        return Ok(());
    }
    let map = format!("/tmp/perf-{}.map", std::process::id());
    make(attacker, kind, Path::new(&map), &decoy)?;
    run_code(page, attacker.until, &mut attacker.rng);
    if place == "the same root" {
        let _ = fs::remove_file(&map).or_else(|_| fs::remove_dir(&map));
    }
    Ok(())
}

/// A sound map that belongs to a third user: names of a process are not that user's to give.
pub fn of_another_user(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let map = format!("/tmp/perf-{}.map", std::process::id());
    fs::write(&map, format!("{FIXED:x} 1000 {MARKER}\n"))?;
    sys::chown(Path::new(&map), USER + 1)?;
    attacker.become_user()?;
    let page = anonymous_code()?;
    run_code(page, attacker.until, &mut attacker.rng);
    Ok(())
}

/// Makes the file, and a child that goes on to change it where that is the kind.
fn make(attacker: &mut Attacker<'_>, kind: &str, map: &Path, decoy: &Path) -> io::Result<()> {
    match kind {
        "fifo" => sys::mkfifo(map, 0o666)?,
        "sparse" => {
            let mut file = File::create(map)?;
            file.write_all(line(0).as_bytes())?;
            file.set_len(1 << 40)?;
        }
        "link to a file of root" => symlink(decoy.join("map"), map)?,
        "link to a FIFO of root" => symlink(decoy.join("fifo"), map)?,
        "link to /dev/zero" => symlink("/dev/zero", map)?,
        "link to itself" => symlink(map, map)?,
        "link into /proc" => {
            let target = attacker.rng.pick(&["/proc/self/mem", "/proc/kmsg", "/proc/self/fd/0", "/proc/1/maps"]);
            symlink(target, map)?;
        }
        "directory" => fs::create_dir(map)?,
        "unreadable" => {
            fs::write(map, line(0))?;
            fs::set_permissions(map, Permissions::from_mode(0o0))?;
        }
        "socket" => drop(UnixListener::bind(map)?),
        "growing" => {
            let map = map.to_owned();
            let until = attacker.until;
            let mut file = File::create(&map)?;
            sys::fork(move || {
                let mut count = 0;
                while std::time::Instant::now() < until {
                    let lines: String = (count..count + 2000).map(line).collect();
                    count += 2000;
                    if file.write_all(lines.as_bytes()).is_err() || count > 400_000 {
                        file = File::create(&map)?;
                        count = 0;
                    }
                }
                Ok(())
            })?;
        }
        "garbage" => {
            let len = attacker.rng.range(1, 1 << 20) as usize;
            fs::write(map, attacker.rng.bytes(len))?;
        }
        "long lines" => {
            let mut file = File::create(map)?;
            let long = vec![b'x'; 10 << 20];
            for _ in 0..2 {
                write!(file, "{FIXED:x} 1000 ")?;
                file.write_all(&long)?;
                if attacker.rng.once_in(2) {
                    file.write_all(b"\n")?;
                }
            }
        }
        "cut short" => {
            let lines: String = (0..20_000).map(line).collect();
            fs::write(map, &lines)?;
            let (map, until) = (map.to_owned(), attacker.until);
            let mut rng = attacker.rng.clone();
            sys::fork(move || {
                while std::time::Instant::now() < until {
                    let file = File::options().write(true).open(&map)?;
                    file.set_len(rng.range(0, lines.len() as u64))?;
                    std::thread::sleep(rng.millis(0, 4));
                    (&file).write_all(lines.as_bytes())?;
                }
                Ok(())
            })?;
        }
        "swapped" => {
            let other = map.with_extension("other");
            fs::write(map, line(0))?;
            let link = attacker.rng.pick(&["map", "fifo"]);
            symlink(decoy.join(link), &other)?;
            let (map, until) = (map.to_owned(), attacker.until);
            sys::fork(move || {
                while std::time::Instant::now() < until {
                    for _ in 0..100 {
                        sys::exchange(&map, &other)?;
                    }
                    std::thread::sleep(std::time::Duration::from_micros(300));
                }
                Ok(())
            })?;
        }
        "replaced by a FIFO" => {
            let other = map.with_extension("other");
            fs::write(map, line(0))?;
            sys::mkfifo(&other, 0o666)?;
            let (map, until) = (map.to_owned(), attacker.until);
            sys::fork(move || {
                while std::time::Instant::now() < until {
                    sys::exchange(&map, &other)?;
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
                Ok(())
            })?;
        }
        "lease" => {
            fs::write(map, line(0))?;
            super::code::take_lease(&File::open(map)?)?;
        }
        "odd lines" => {
            let mut file = File::create(map)?;
            let odd: [&[u8]; 9] = [
                b"\n",
                b"zz 10 bad\n",
                b"ffffffffffffffff ffffffffffffffff wraps\n",
                b"7e0000000000\n",
                b"7e0000000000 1000 \xff\xfe\n",
                b"7e0000000000 1000 a;b c 1\x1b[2J\r\n",
                b"0 ffffffffffffffff all\n",
                b"-1 -1 negative\n",
                b"7e0000000000 0 empty\n",
            ];
            for _ in 0..attacker.rng.range(1, 2000) {
                file.write_all(attacker.rng.pick(&odd))?;
            }
        }
        other => panic!("no such kind: {other}"),
    }
    Ok(())
}

fn line(number: u64) -> String {
    format!("{:x} 10 function_{number}\n", FIXED + number * 16)
}
