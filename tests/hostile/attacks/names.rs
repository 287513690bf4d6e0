//! Names with bytes that a reader does not expect, and more of something than a reader expects.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::{anonymous_code, run_code, wait_until_over};
use crate::attackers::Attacker;
use crate::rng::Rng;
use crate::sys;

const COMMS: &[&[u8]] = &[
    b"a\nb",
    b") S 1 1 (x",
    b"\x1b[2J\x1b]0;x\x07",
    b"\xff\xfe\x80\xc0",
    b"'\"`$(id)",
    b"=1+1;cmd|'",
    b"\xe2\x80\xae\xe2\x80\xa8x",
    b"",
    b" ",
    b"a\tb\\012",
    b"{{ 7*7 }}",
    b"[unknown]",
];

fn comm(rng: &mut Rng) -> Vec<u8> {
    if rng.once_in(4) { rng.bytes(15) } else { rng.pick(COMMS).to_vec() }
}

/// Threads that rename themselves all the time and run code.
pub fn threads(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let page = anonymous_code()? as usize;
    let until = attacker.until;
    let (done, wait) = mpsc::channel::<()>();
    for number in 0..4 {
        let mut rng = Rng::of(attacker.rng.next(), number);
        let done = done.clone();
        // Nothing forks in this process from here on
        std::thread::spawn(move || {
            while std::time::Instant::now() < until {
                sys::set_comm(&comm(&mut rng));
                let _ = fs::File::open("/no/such/file\n\x1b[2J");
                run_code(page as *const u8, std::time::Instant::now() + Duration::from_millis(3), &mut rng);
            }
            drop(done);
        });
    }
    drop(done);
    let _ = wait.recv();
    Ok(())
}

/// Titles and arguments with odd bytes, of processes that end with odd codes.
pub fn titles(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let path = sys::c("/bin/sh");
    while !attacker.is_over() {
        let name: Vec<u8> = comm(&mut attacker.rng).into_iter().filter(|byte| *byte != 0).collect();
        let name = std::ffi::CString::new(name).expect("no zero byte");
        let script = sys::c(format!("kill -{} $$; exit {}", attacker.rng.range(1, 16), attacker.rng.range(0, 256)));
        let child = sys::fork(|| Err(sys::exec(&path, &[&name, c"-c", &script])));
        if let Ok(child) = child {
            std::thread::sleep(Duration::from_millis(5));
            sys::kill(child, libc::SIGKILL);
            sys::reap(child, 0);
        }
    }
    Ok(())
}

/// Thousands of mounts in a namespace of its own, with code in a file below them.
pub fn many_mounts(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let directory = attacker.directory()?;
    let count = attacker.rng.range(200, 3000);
    attacker.note(count);
    sys::own_namespaces(0)?;
    sys::mount("none", &directory, "tmpfs", 0, "size=1m")?;
    let target = directory.join("a b\tc\n\\d");
    fs::create_dir(&target)?;
    for _ in 0..count {
        if attacker.is_over() || sys::mount("no ne\n", &target, "tmpfs", 0, "size=4k").is_err() {
            break;
        }
    }
    let page = anonymous_code()?;
    run_code(page, attacker.until, &mut attacker.rng);
    Ok(())
}

/// Cgroups with odd names that come and go, where they can be made.
pub fn cgroups(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let root = roots.iter().map(PathBuf::from).find(|root| root.join("cgroup.procs").exists());
    let Some(root) = root else { return Err(io::Error::other("no cgroups of version 2")) };
    attacker.note(root.display());
    let mut made = Vec::new();
    while !attacker.is_over() {
        let name = attacker.rng.pick(&["a b\tc", "\x1b[2J", "x)", "..x", "system.slice\u{202e}"]);
        let path = root.join(format!("hostile-{}-{name}", std::process::id()));
        fs::create_dir(&path)?;
        made.push(path.clone());
        let procs = path.join("cgroup.procs");
        let child = sys::fork(|| {
            fs::write(&procs, "0")?;
            attacker.become_user()?;
            let page = anonymous_code()?;
            run_code(page, std::time::Instant::now() + Duration::from_millis(20), &mut Rng::of(1, 1));
            Ok(())
        })?;
        sys::reap(child, 0);
        while fs::remove_dir(&path).is_err() && !attacker.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for path in made {
        let _ = fs::remove_dir(path);
    }
    attacker.become_user()?;
    wait_until_over(attacker);
    Ok(())
}
