//! The directories of a run.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{elf, sys};

/// The user that the attackers are: a number that no process of a machine has, so that a filter on it captures only them.
pub const USER: u32 = 64_209;
/// What no output may contain.
pub const MARKER: &str = "only_in_a_file_of_root";
/// Where attackers put code whose address has to be known.
pub const FIXED: u64 = 0x7e00_0000_0000;
/// Programs with the same addresses; each has the function `of_` and its own name.
pub const PROGRAMS: &[&str] = &["hx-a", "hx-b", "hx-c", "hx-d"];
/// The program that runs all the time and does no harm.
pub const WITNESS: &str = "hx-witness";
/// A program that takes the number of another one, in another pid namespace.
pub const DECOY: &str = "hx-decoy";
/// The program that calls code in a file that another program has opened.
pub const CALLER: &str = "hx-caller";

/// Rounds of a program that does not end by itself.
const FOREVER: u32 = u32::MAX >> 1;

#[derive(Debug)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// The directories below a new one, which is removed with the returned guard.
    pub fn new() -> io::Result<(Self, TempDir)> {
        let guard = tempfile::Builder::new().prefix("ebpf-run-hostile.").tempdir_in("/var/tmp")?;
        let place = Place { root: guard.path().to_owned() };
        fs::set_permissions(&place.root, Permissions::from_mode(0o755))?;
        for name in ["configs", "out", "good", "bin", "record", "small", "links", "user", "evil"] {
            fs::create_dir(place.path(name))?;
            fs::set_permissions(place.path(name), Permissions::from_mode(0o755))?;
        }
        for name in ["cwd", "tmp", "secret"] {
            fs::create_dir(place.path(name))?;
            fs::set_permissions(place.path(name), Permissions::from_mode(0o700))?;
        }
        for name in ["links", "user", "evil"] {
            sys::chown(&place.path(name), USER)?;
        }
        place.write_decoys()?;
        for (name, rounds) in PROGRAMS.iter().map(|name| (*name, 20)).chain([(WITNESS, FOREVER), (DECOY, FOREVER)]) {
            place.write_program(name, &elf::executable(name, rounds))?;
        }
        place.write_program(CALLER, &elf::caller_of_file(CALLER))?;
        Ok((place, guard))
    }

    pub fn at(root: &Path) -> Self {
        Place { root: root.to_owned() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Files that only root can read, each with what a careless look-up of symbols would take for names.
    fn write_decoys(&self) -> io::Result<()> {
        let write = |name: &str, content: &[u8]| {
            fs::write(self.path(name), content)?;
            fs::set_permissions(self.path(name), Permissions::from_mode(0o600))
        };
        write("secret/map", format!("{FIXED:x} 1000 {MARKER}\n0 7fffffffffff {MARKER}\n").as_bytes())?;
        write("secret/library.so", &elf::library(MARKER))?;
        sys::mkfifo(&self.path("secret/fifo"), 0o600)
    }

    fn write_program(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path("bin").join(name);
        let mut file = File::options().write(true).create_new(true).mode(0o755).open(path)?;
        io::Write::write_all(&mut file, content)
    }
}
