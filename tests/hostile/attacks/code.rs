//! Code in mappings that are no ordinary libraries.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{fill, run_code};
use crate::attackers::Attacker;
use crate::place::CALLER;
use crate::{elf, sys};

const READ_EXEC: i32 = libc::PROT_READ | libc::PROT_EXEC;
const ALL: i32 = READ_EXEC | libc::PROT_WRITE;

/// Maps the page of a file that has the code.
pub fn map_code(file: &File) -> io::Result<*mut u8> {
    sys::map(0, 4096, READ_EXEC, libc::MAP_PRIVATE, Some((file, elf::CODE as i64)))
}

/// A file in the user's directory or in `/tmp`.
fn file_path(attacker: &mut Attacker<'_>) -> io::Result<PathBuf> {
    if attacker.rng.once_in(2) {
        return Ok(PathBuf::from(format!("/tmp/library-{}.so", std::process::id())));
    }
    Ok(attacker.directory()?.join("library.so"))
}

/// Mappings with sound code and a file that is odd, or no file at all.
pub fn odd_mapping(attacker: &mut Attacker<'_>) -> io::Result<()> {
    const KINDS: &[&str] = &[
        "memfd",
        "memfd of an ELF file",
        "shared anonymous",
        "SysV shared memory",
        "private /dev/zero",
        "deleted",
        "without a name",
        "far into a sparse file",
        "long path",
        "odd name",
        "name ends in (deleted)",
        "unreadable",
        "replaced by a FIFO",
        "replaced by a link",
        "unmounted",
        "empty file behind it",
    ];
    let kind = attacker.rng.pick(KINDS);
    attacker.note(kind);
    let library = elf::library("of_library");
    let page = match kind {
        "memfd" => {
            let file = sys::memfd("doublemapper")?;
            file.set_len(8192)?;
            file.write_all_at(&elf::leaf(), elf::CODE as u64)?;
            sys::map(0, 4096, READ_EXEC, libc::MAP_SHARED, Some((&file, elf::CODE as i64)))?
        }
        "memfd of an ELF file" => {
            let mut file = sys::memfd("x (deleted)\n/tmp/perf-1.map")?;
            file.write_all(&library)?;
            map_code(&file)?
        }
        "shared anonymous" => {
            let page = sys::map(0, 4096, ALL, libc::MAP_SHARED | libc::MAP_ANONYMOUS, None)?;
            fill(page);
            page
        }
        "SysV shared memory" => {
            // SAFETY: the segment is new, and marked to be removed with its last user
            let page = unsafe {
                let id = sys::ok(libc::shmget(libc::IPC_PRIVATE, 4096, 0o700))?;
                let page = libc::shmat(id, std::ptr::null(), libc::SHM_EXEC);
                libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut());
                page
            };
            if page as isize == -1 {
                return Err(io::Error::last_os_error());
            }
            fill(page.cast());
            page.cast()
        }
        "private /dev/zero" => {
            let zero = OpenOptions::new().read(true).write(true).open("/dev/zero")?;
            let page = sys::map(0, 4096, ALL, libc::MAP_PRIVATE, Some((&zero, 0)))?;
            fill(page);
            page
        }
        "without a name" => {
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).write(true).custom_flags(libc::O_TMPFILE).open(attacker.place.path("user"))?;
            file.write_all(&library)?;
            map_code(&file)?
        }
        "far into a sparse file" => {
            let path = file_path(attacker)?;
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
            let at = 1 << attacker.rng.range(30, 42);
            file.write_all_at(&library, 0)?;
            file.write_all_at(&elf::leaf(), at)?;
            sys::map(0, 4096, READ_EXEC, libc::MAP_PRIVATE, Some((&file, at as i64)))?
        }
        "long path" => {
            std::env::set_current_dir(attacker.directory()?)?;
            let part = "d".repeat(250);
            for _ in 0..16 {
                fs::create_dir(&part)?;
                std::env::set_current_dir(&part)?;
            }
            fs::write("library.so", &library)?;
            map_code(&File::open("library.so")?)?
        }
        "odd name" | "name ends in (deleted)" => {
            let odd: [&[u8]; 4] = [b"a\nb 00-ff r-xp", b"\xff\xfe\x1b[2J", b"a b\tc\\012", b"'; reboot; '"];
            let name = if kind == "odd name" { attacker.rng.pick(&odd) } else { b"library.so (deleted)" };
            let path = attacker.directory()?.join(std::ffi::OsStr::from_bytes(name));
            fs::write(&path, &library)?;
            map_code(&File::open(&path)?)?
        }
        "unmounted" => {
            let path = attacker.directory()?;
            sys::own_namespaces(0)?;
            sys::mount("none", &path, "tmpfs", 0, "size=1m")?;
            fs::write(path.join("library.so"), &library)?;
            let page = map_code(&File::open(path.join("library.so"))?)?;
            let name = sys::c(&path);
            // SAFETY: the path outlives the call
            sys::ok(unsafe { libc::umount2(name.as_ptr(), libc::MNT_DETACH) })?;
            page
        }
        other => {
            let path = file_path(attacker)?;
            fs::write(&path, &library)?;
            let page = map_code(&File::open(&path)?)?;
            match other {
                "deleted" => fs::remove_file(&path)?,
                "unreadable" => fs::set_permissions(&path, Permissions::from_mode(0o0))?,
                "replaced by a FIFO" => {
                    fs::remove_file(&path)?;
                    sys::mkfifo(&path, 0o666)?;
                }
                "replaced by a link" => {
                    fs::remove_file(&path)?;
                    symlink(attacker.place.path("secret/library.so"), &path)?;
                }
                _ => File::options().write(true).open(&path)?.set_len(elf::CODE as u64 + 100)?,
            }
            page
        }
    };
    run_code(page, attacker.until, &mut attacker.rng);
    Ok(())
}

/// A sound program that calls code in an odd file: its own function keeps its name.
pub fn called_by_program(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let kind = attacker.rng.pick(&["memfd", "deleted", "garbage", "lying", "sparse"]);
    let path = file_path(attacker)?;
    let mut content = elf::library("of_library");
    let mut length = None;
    let mut name = kind.to_owned();
    match kind {
        "garbage" | "memfd" => {
            content = attacker.rng.bytes(elf::CODE);
            content.extend(elf::leaf());
            content.resize(2 * elf::CODE, 0);
        }
        "lying" => {
            let lie = attacker.rng.pick(elf::LIES);
            (content, length) = elf::lying(lie, &mut attacker.rng, &attacker.place.path("secret/library.so"));
            name = format!("{kind}: {lie}");
        }
        "sparse" => length = Some(1 << 40),
        _ => {}
    }
    attacker.note(name);
    let mut file = if kind == "memfd" {
        sys::memfd("doublemapper")?
    } else {
        OpenOptions::new().read(true).write(true).create_new(true).open(&path)?
    };
    file.write_all(&content)?;
    if let Some(length) = length {
        file.set_len(length)?;
    }
    if kind == "deleted" {
        fs::remove_file(&path)?;
    }
    // SAFETY: no memory is involved; nothing else of this process uses descriptor 3 after the execution
    sys::ok(unsafe { libc::dup2(file.as_raw_fd(), 3) })?;
    std::mem::forget(file);
    let program = sys::c(attacker.place.path("bin").join(CALLER));
    Err(sys::exec(&program, &[&program]))
}

/// A file whose ELF headers lie.
pub fn lying_elf(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let lie = attacker.rng.pick(elf::LIES);
    attacker.note(lie);
    let decoy = attacker.place.path("secret/library.so");
    let (content, length) = elf::lying(lie, &mut attacker.rng, &decoy);
    let path = file_path(attacker)?;
    fs::write(&path, content)?;
    if let Some(length) = length {
        File::options().write(true).open(&path)?.set_len(length)?;
    }
    let page = map_code(&File::open(&path)?)?;
    run_code(page, attacker.until, &mut attacker.rng);
    let _ = fs::remove_file(&path);
    Ok(())
}

/// A library that is cut short, written over or replaced while it is mapped.
pub fn changing_file(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let kind = attacker.rng.pick(&["cut short", "written over", "replaced", "emptied", "swapped"]);
    attacker.note(kind);
    let path = file_path(attacker)?;
    let good = elf::library("of_library");
    fs::write(&path, &good)?;
    let page = map_code(&File::open(&path)?)?;
    let mut rng = attacker.rng.clone();
    let until = attacker.until;
    let decoy = attacker.place.path("secret/library.so");
    let changed = path.clone();
    sys::fork(move || {
        while Instant::now() < until {
            change(kind, &changed, &good, &mut rng, &decoy)?;
            std::thread::sleep(Duration::from_micros(rng.range(100, 5000)));
        }
        Ok(())
    })?;
    run_code(page, attacker.until, &mut attacker.rng);
    let _ = fs::remove_file(&path);
    Ok(())
}

fn change(kind: &str, path: &Path, good: &[u8], rng: &mut crate::rng::Rng, decoy: &Path) -> io::Result<()> {
    let open = || OpenOptions::new().read(true).write(true).open(path);
    match kind {
        "cut short" => {
            // The page with the code stays, the tables behind it go and come back
            let file = open()?;
            file.set_len(rng.range(elf::CODE as u64 + 200, good.len() as u64))?;
            std::thread::sleep(Duration::from_micros(rng.range(0, 3000)));
            file.write_all_at(good, 0)
        }
        "written over" => {
            let (bad, _) = elf::lying(rng.pick(elf::LIES), rng, decoy);
            let file = open()?;
            file.write_all_at(&bad[elf::CODE + 0x1000..], (elf::CODE + 0x1000) as u64)?;
            file.write_all_at(&bad[..64], 0)
        }
        "emptied" => {
            open()?.set_len(0)?;
            std::thread::sleep(Duration::from_micros(rng.range(0, 1000)));
            open()?.write_all_at(good, 0)
        }
        _ => {
            let other = path.with_extension("other");
            let _ = fs::remove_file(&other);
            match rng.range(0, 3) {
                0 => symlink(decoy, &other)?,
                1 => sys::mkfifo(&other, 0o666)?,
                _ => fs::write(&other, good)?,
            }
            if kind == "replaced" { fs::rename(&other, path) } else { sys::exchange(&other, path) }
        }
    }
}

/// A lease on a mapped library: opening it without `O_NONBLOCK` waits for its holder.
pub fn lease(attacker: &mut Attacker<'_>) -> io::Result<()> {
    attacker.note("on a mapped library");
    let path = file_path(attacker)?;
    fs::write(&path, elf::library("of_library"))?;
    let file = File::open(&path)?;
    let page = map_code(&file)?;
    take_lease(&file)?;
    run_code(page, attacker.until, &mut attacker.rng);
    Ok(())
}

/// Takes a write lease that is not given back when the kernel asks. The file stays open.
pub fn take_lease(file: &File) -> io::Result<()> {
    let file = file.try_clone()?;
    // SAFETY: both calls take numbers only
    unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
        sys::ok(libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK))?;
    }
    std::mem::forget(file);
    Ok(())
}

/// Tens of thousands of mappings around the code.
pub fn many_mappings(attacker: &mut Attacker<'_>) -> io::Result<()> {
    let path = file_path(attacker)?;
    fs::write(&path, elf::library("of_library"))?;
    let file = File::open(&path)?;
    let count = attacker.rng.range(2000, 30_000);
    attacker.note(count);
    for i in 0..count {
        // Neighbours with different rights stay mappings of their own
        let protection = if i % 2 == 0 { libc::PROT_READ } else { READ_EXEC };
        if sys::map(0, 4096, protection, libc::MAP_PRIVATE, Some((&file, elf::CODE as i64))).is_err() {
            break;
        }
    }
    let page = map_code(&file)?;
    run_code(page, attacker.until, &mut attacker.rng);
    let _ = fs::remove_file(&path);
    Ok(())
}
