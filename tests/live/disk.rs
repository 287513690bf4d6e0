//! Disks that the tests of block I/O work on: a loop device of their own, where every sector is known, and the real disk
//! under a folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::common::run;
use crate::load::Held;

/// Blocks that [`reads_and_writes`] reads, and as many that it writes.
pub const BLOCKS: u64 = 32;
/// Bytes of each.
pub const BLOCK: u64 = 4096;

/// Some hosts hide a completion now and then from every tracing program (docs/explanation/limits.md). So what is missing is looked
/// for again with a new load, a few times, and each is told; what is wrong fails at once.
pub fn retry(mut load: impl FnMut() -> Result<(), String>) {
    let mut missing = Vec::new();
    let name = thread::current().name().unwrap_or_default().to_owned();
    for _ in 0..8 {
        match load() {
            Ok(()) => return,
            Err(what) => {
                // Not by a macro, whose output is kept from a terminal if the test passes
                let _ = writeln!(io::stderr(), "REPEATED the load of {name}: the host hid events: {what}");
                missing.push(what);
            }
        }
    }
    panic!("each time something was missing: {missing:#?}");
}

/// A `dd` that reads the first blocks of `disk` one by one and writes the same number behind them.
pub fn reads_and_writes(shell: &Path, dd: &Path, disk: &Loop) -> Held {
    let disk = disk.path.display();
    let count = format!("count={BLOCKS}");
    let args = [format!("if={disk}"), format!("of={disk}"), format!("seek={BLOCKS}"), format!("bs={BLOCK}"), count];
    let direct = ["iflag=direct", "oflag=direct", "conv=notrunc"].map(String::from);
    Held::new(shell, dd, args.into_iter().chain(direct))
}

/// Whether the kernel tells of a request's start, in the context of who asked for it (since 6.5).
pub fn starts_are_traced() -> bool {
    let types = fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF");
    let name = b"btf_trace_block_io_start\0";
    types.windows(name.len()).any(|window| window == name)
}

/// A loop device, gone after the test.
pub struct Loop {
    /// As `lsblk` has it: `loop3`.
    pub name: String,
    pub path: PathBuf,
}

impl Loop {
    /// Makes one of a new file of `size` bytes.
    pub fn new(file: &Path, size: u64) -> Self {
        File::create(file).and_then(|file| file.set_len(size)).expect("a file for a disk");
        let ended = run(Command::new("losetup").args(["--find", "--show"]).arg(file)).expect(0);
        let path = PathBuf::from(ended.stdout.trim());
        Loop { name: path.file_name().expect("a device has a name").to_str().expect("UTF-8").into(), path }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// A partition or a whole disk that is really there, no device mapper and no RAID.
pub struct Disk {
    /// The whole disk as `lsblk` has it: `sda`.
    pub name: String,
    /// Where on it the file system begins.
    first_sector: u64,
}

impl Disk {
    /// The one that `folder` lies on, if it is so simple.
    pub fn under(folder: &Path) -> Option<Self> {
        let device = fs::metadata(folder).ok()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let path = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        let number = |name: &str| fs::read_to_string(path.join(name)).ok()?.trim().parse().ok();
        let (whole, first_sector) = match number("start") {
            Some(start) => (path.parent()?, start),
            None => (path.as_path(), 0),
        };
        let name = whole.file_name()?.to_str()?.to_owned();
        whole.join("device").exists().then_some(Disk { name, first_sector })
    }

    /// The sectors of this disk that `file` lies on.
    pub fn sectors(&self, file: &Path) -> BTreeSet<u64> {
        let listed = run(Command::new("filefrag").args(["-v", "-b512"]).arg(file)).expect(0).stdout;
        let extents = listed.lines().filter_map(|line| {
            let mut columns = line.split(':');
            columns.next()?.trim().parse::<u32>().ok()?;
            let (first, last) = columns.nth(1)?.split_once("..")?;
            Some((first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?))
        });
        extents.flat_map(|(first, last)| self.first_sector + first..=self.first_sector + last).collect()
    }
}
