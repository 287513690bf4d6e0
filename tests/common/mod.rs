//! Shared code of the tests of the binary: scratch directories, and runs of `ebpf-run` with their results.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_ebpf-run");
/// An unprivileged user; the name differs between distributions, the number does not.
pub const NOBODY: u32 = 65534;

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this is a guest of scripts/vm, whose modules, CPUs and disks nothing else uses.
#[allow(dead_code)] // not every test binary asks
pub fn in_guest() -> bool {
    fs::read_to_string("/proc/cmdline").is_ok_and(|words| words.contains("vm_init="))
}

/// A directory that every user can read, and that is removed after the test.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        Scratch::within(&std::env::temp_dir())
    }

    pub fn within(parent: &Path) -> Self {
        let scratch = Scratch(tempfile::tempdir_in(parent).expect("a scratch folder"));
        scratch.set_mode("", 0o755);
        scratch
    }

    /// The path of `name` in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("its mode can be set");
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).expect("a scratch file");
        self.set_mode(name, 0o644);
        self.path(name)
    }
}

/// Copies a program or a script, in a separate process. If this process had the copy open for writing while another
/// test forks, the child would have it open too until it executes its program, and until then no process can execute
/// the copy (ETXTBSY).
pub fn copy_program(from: &Path, to: &Path) {
    run(Command::new("install").args(["-m", "755", "--"]).args([from, to])).expect(0);
}

/// The exit code and the output of a process.
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Asserts that it ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code; standard error was:\n{}", self.stderr);
        self
    }

    /// Asserts that standard error contains each of `words`.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is missing in:\n{}", self.stderr);
        }
        self
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("all output is UTF-8");
        assert_eq!(output.status.signal(), None, "a signal ended it");
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs `command` to its end, with nothing on its standard input.
pub fn run(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display())).into()
}
