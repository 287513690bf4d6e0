//! What the tests give the programs to see: processes that nobody else can have started.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use crate::common::{Scratch, copy_program, run};

/// A command name that no other process has. Its end tells it from others, in the last of its (at most 15) bytes.
pub fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test{:06x}-{:03}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A copy of the program `from` under a name of its own: its path, and the name that it has as a command.
pub fn copy_of(scratch: &Scratch, from: &str) -> (PathBuf, String) {
    let name = unique_name();
    (copy_as(scratch, from, &name), name)
}

/// A copy of the program `from` called `name`.
pub fn copy_as(scratch: &Scratch, from: &str, name: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(from)).find(|path| path.is_file());
    let found = found.unwrap_or_else(|| panic!("these tests need the program `{from}`"));
    copy_program(&found, &scratch.path(name));
    scratch.path(name)
}

/// A program of the test's own, from its C source: what needs system calls that Rust has no safe words for.
pub fn compiled(scratch: &Scratch, source: &str) -> (PathBuf, String) {
    let name = unique_name();
    let code = scratch.write(&format!("{name}.c"), source);
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-pthread", "-o"]).arg(scratch.path(&name)).arg(code).args(["-lrt"]);
    run(&mut cc).expect(0);
    (scratch.path(&name), name)
}

/// `loads/calls.c`: system calls that end otherwise than they began.
pub struct Calls {
    child: Child,
    pub comm: String,
}

impl Calls {
    /// Does `mode` with `argument` once it is let go.
    pub fn new(scratch: &Scratch, mode: &str, argument: &str) -> Self {
        let (program, comm) = compiled(scratch, include_str!("loads/calls.c"));
        let mut command = Command::new(program);
        command.args([mode, argument]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Calls { child: command.spawn().expect("it runs"), comm }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The numbers that it saw; `None` if this machine can't do it.
    pub fn go(mut self) -> Option<Vec<u64>> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.child.stdout.take().expect("it is piped").read_to_string(&mut said).expect("text");
        match self.child.wait().expect("it ends").code() {
            Some(77) => {
                eprintln!("SKIPPED: this machine can't make these calls");
                None
            }
            code => {
                assert_eq!(code, Some(0), "{said}");
                Some(said.split_whitespace().map(|word| word.parse().expect("numbers")).collect())
            }
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done` holds, which may take its time on a busy or emulated machine.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether this kernel has the raw tracepoint `name`: its BTF then has a type for it.
pub fn has_tracepoint(name: &str) -> bool {
    let btf = fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF");
    let wanted = format!("\0btf_trace_{name}\0").into_bytes();
    btf.windows(wanted.len()).any(|bytes| bytes == wanted)
}

/// Runs `work` on a thread whose command is `comm`.
pub fn named<T: Send + 'static>(comm: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().name(comm.into()).spawn(work).expect("a thread starts")
}

/// A process that waits for a word before it becomes another program: so its number is known before anything happens.
pub struct Held(Child);

impl Held {
    /// Will run `program` with `args`, if that can be run. Until then it is the shell `shell`.
    pub fn new<A: AsRef<OsStr>>(shell: &Path, program: &Path, args: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(shell);
        command.args(["-c", "read _; exec \"$@\"", "held"]).arg(program).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Held(command.spawn().expect("a shell starts"))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Lets it run to its end; returns its exit code.
    pub fn go(mut self) -> Option<i32> {
        self.0.stdin.take().expect("it is piped").write_all(b"go\n").expect("it waits for this");
        self.0.wait().expect("it ends").code()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `work` to its end in a thread whose command is `comm`.
pub fn as_command(comm: &str, work: impl FnOnce() + Send + 'static) {
    let started = thread::Builder::new().name(comm.into()).spawn(work);
    started.expect("a thread starts").join().expect("it does not panic");
}

/// Tries `count` times to run what is not there, from a thread whose command is `comm`, with an argument of `bytes` bytes.
/// Each try is one event of `execsnoop`; the pauses between them are up to `pace`.
pub fn failing_calls(comm: &str, count: usize, bytes: usize, pace: impl Fn(usize) + Send + 'static) -> JoinHandle<()> {
    let argument = "x".repeat(bytes);
    let calls = move || {
        for i in 0..count {
            pace(i);
            let tried = Command::new("/no/such/program").arg(&argument).stdin(Stdio::null()).spawn();
            assert_eq!(tried.expect_err("it is not there").kind(), ErrorKind::NotFound);
        }
    };
    thread::Builder::new().name(comm.into()).spawn(calls).expect("a thread starts")
}

/// Opens the missing file `path` `count` times as fast as it can, from a thread whose command is `comm`; says how long it
/// took. Each is one event of `opensnoop`.
pub fn flood_of_opens(comm: &str, count: usize, path: &str) -> JoinHandle<Duration> {
    let path = CString::new(path).expect("no NUL");
    let opens = move || {
        let start = Instant::now();
        for _ in 0..count {
            open(&path, OFlags::RDONLY, Mode::empty()).expect_err("it is not there");
        }
        start.elapsed()
    };
    thread::Builder::new().name(comm.into()).spawn(opens).expect("a thread starts")
}

/// A pipe called `path`, with its reading end, which nobody reads yet: `opens` is what opens the other end.
pub fn pipe<T>(path: &Path, opens: impl FnOnce() -> T) -> (File, T) {
    mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0).expect("a pipe");
    let reader = thread::spawn({
        let path = path.to_owned();
        move || File::open(path)
    });
    let opened = opens();
    (reader.join().expect("it does not panic").expect("a pipe opens"), opened)
}

/// A file system in memory that is full soon.
pub struct SmallFolder(PathBuf);

impl SmallFolder {
    /// Mounts it in `scratch`, which must outlive it.
    pub fn mount(scratch: &Scratch, size: &str) -> Self {
        let path = scratch.path("small");
        fs::create_dir(&path).expect("a folder");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "small"]).arg(&path)).expect(0);
        SmallFolder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for SmallFolder {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left may still be in it
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A clock of the kernel in nanoseconds.
pub fn clock(id: rustix::time::ClockId) -> i64 {
    let now = rustix::time::clock_gettime(id);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
