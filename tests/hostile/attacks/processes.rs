//! Processes that begin, change and end in ways that confuse who looks at them by their number.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{anonymous_code, run_code, wait_until_over};
use crate::attackers::Attacker;
use crate::place::{PROGRAMS, USER};
use crate::sys;

fn program(attacker: &mut Attacker<'_>) -> PathBuf {
    attacker.place.path("bin").join(attacker.rng.pick(PROGRAMS))
}

/// Programs with the same addresses, one after the other in one process.
pub fn exec_chain(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let chain: Vec<_> = (0..attacker.rng.range(5, 60)).map(|_| sys::c(program(attacker))).collect();
    attacker.note(format_args!("{} programs", chain.len()));
    let arguments: Vec<_> = chain.iter().map(|path| path.as_c_str()).collect();
    Err(sys::exec(arguments[0], &arguments))
}

/// Executions of all kinds that end at once or fail.
pub fn exec_storm(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let good = sys::c("/bin/true");
    let script = attacker.directory()?.join("script");
    std::fs::write(&script, format!("#!{}\n", script.display()))?; // interprets itself
    std::os::unix::fs::chown(&script, None, None)?;
    let _ = std::process::Command::new("chmod").arg("755").arg(&script).status();
    let (script, missing) = (sys::c(&script), sys::c("/no/such/program"));
    while !attacker.is_over() {
        let length = attacker.rng.range(1, 2000) as usize;
        let odd: Vec<u8> = attacker.rng.bytes(length).into_iter().map(|byte| byte.max(1)).collect();
        let odd = std::ffi::CString::new(odd).expect("no zero byte");
        let count = attacker.rng.range(1, 60) as usize;
        let path = attacker.rng.pick(&[&good, &script, &missing]);
        let arguments = vec![odd.as_c_str(); count];
        match sys::fork(|| Err(sys::exec(path, &arguments))) {
            Ok(child) => drop(sys::reap(child, 0)),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Ok(())
}

/// Processes that end at once, and ones that fork once more before they do.
pub fn fork_storm(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    while !attacker.is_over() {
        let deep = attacker.rng.once_in(4);
        let child = sys::fork(|| {
            if deep {
                sys::fork(|| Ok(()))?;
            }
            Ok(())
        });
        match child {
            Ok(child) => drop(sys::reap(child, 0)),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
        std::thread::sleep(Duration::from_micros(attacker.rng.range(0, 500)));
    }
    Ok(())
}

/// A program out of a memfd, and one whose file is gone once it runs; each under the command that its function is called after.
pub fn memfd_exec(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let program = program(attacker);
    let content = std::fs::read(&program)?;
    let path = attacker.directory()?.join(program.file_name().expect("it has one"));
    let name = sys::c(&path);
    if attacker.rng.once_in(2) {
        attacker.note("memfd");
        let mut file = sys::memfd("program")?;
        file.write_all(&content)?;
        std::os::unix::fs::symlink(format!("/proc/self/fd/{}", file.as_raw_fd()), &path)?;
        return Err(sys::exec(&name, &[&name]));
    }
    attacker.note("deleted");
    std::fs::write(&path, content)?;
    let _ = std::process::Command::new("chmod").arg("755").arg(&path).status();
    sys::fork(|| Err(sys::exec(&name, &[&name])))?;
    std::thread::sleep(Duration::from_millis(10));
    std::fs::remove_file(&path)?;
    wait_until_over(attacker);
    Ok(())
}

/// One number for two processes, one after the other: what happens by itself when numbers wrap around.
pub fn pid_reuse(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let mut pid = None;
    while !attacker.is_over() {
        let path = sys::c(program(attacker));
        let work = || {
            attacker.become_user()?;
            Err(sys::exec(&path, &[&path]))
        };
        let child = match pid {
            None => sys::fork(work)?,
            Some(pid) => match sys::fork_as(pid, work) {
                Ok(child) => child,
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => break, // another process has it now
                Err(error) => return Err(error),
            },
        };
        pid = Some(child);
        std::thread::sleep(attacker.rng.millis(2, 60));
        sys::kill(child, libc::SIGKILL);
        sys::reap(child, 0);
    }
    attacker.become_user()
}

/// A process that changes its user all the time, as a program with rights of its own does.
pub fn user_change(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let mut rng = attacker.rng.clone();
    let page = anonymous_code()?;
    while !attacker.is_over() {
        for user in [USER, USER + 1] {
            // SAFETY: no memory is involved; the saved user stays root
            unsafe { sys::ok(libc::setresuid(USER, user, 0))? };
            run_code(page, Instant::now() + Duration::from_millis(5), &mut rng);
            // SAFETY: as above
            unsafe { sys::ok(libc::setresuid(USER, 0, 0))? };
        }
    }
    attacker.become_user()
}

/// Processes that are stopped in their code.
pub fn stopped(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let page = anonymous_code()?;
    let until = attacker.until;
    let mut rng = attacker.rng.clone();
    let child = sys::fork(move || {
        run_code(page, until, &mut rng);
        Ok(())
    })?;
    while !attacker.is_over() {
        std::thread::sleep(attacker.rng.millis(1, 30));
        sys::kill(child, libc::SIGSTOP);
        std::thread::sleep(attacker.rng.millis(1, 100));
        sys::kill(child, libc::SIGCONT);
    }
    if attacker.rng.once_in(2) {
        sys::kill(child, libc::SIGSTOP); // and stays so until the end
    }
    Ok(())
}

/// A process that stands still under a tracer.
pub fn traced(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("");
    let page = anonymous_code()?;
    let until = attacker.until;
    let mut rng = attacker.rng.clone();
    let child = sys::fork(move || {
        run_code(page, until, &mut rng);
        Ok(())
    })?;
    while !attacker.is_over() {
        // SAFETY: the process is a child of this one
        unsafe {
            libc::ptrace(libc::PTRACE_ATTACH, child, 0, 0);
            sys::reap(child, 0);
            std::thread::sleep(attacker.rng.millis(5, 200));
            libc::ptrace(libc::PTRACE_DETACH, child, 0, 0);
        }
        std::thread::sleep(attacker.rng.millis(1, 20));
    }
    Ok(())
}

/// Processes that have ended and are not waited for.
pub fn zombies(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let count = attacker.rng.range(10, 100);
    attacker.note(count);
    let path = sys::c(program(attacker));
    for _ in 0..count {
        let runs = attacker.rng.once_in(10);
        let child = sys::fork(|| if runs { Err(sys::exec(&path, &[&path])) } else { Ok(()) });
        if child.is_err() {
            break;
        }
    }
    wait_until_over(attacker);
    Ok(())
}
