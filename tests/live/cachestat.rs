//! `cachestat` against a file of known size: written, read from the disk, read again.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Advice, fadvise};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl_of_busy};
use crate::common::{Scratch, run};
use crate::disk::{Loop, retry};
use crate::load::{as_command, unique_name};
use crate::variants::{Variant, by_each_variant};

/// The file's size in pages of 4 KiB.
const PAGES: u64 = 1024;
/// What a thread maps of its own program while it works, and the file system's own doings.
const MORE: u64 = 64;

/// A file system on a disk of its own, gone after the test.
struct Mounted {
    path: PathBuf,
    _disk: Loop,
}

impl Mounted {
    fn new(scratch: &Scratch) -> Self {
        let disk = Loop::new(&scratch.path("disk"), 64 << 20);
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.path)).expect(0);
        let path = scratch.path("files");
        fs::create_dir(&path).expect("a folder");
        run(Command::new("mount").arg(&disk.path).arg(&path)).expect(0);
        Mounted { path, _disk: disk }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}

fn write(path: &Path) {
    let mut file = File::create(path).expect("a file");
    let piece = vec![7; 64 << 10];
    (0..PAGES * 4096 / piece.len() as u64).for_each(|_| file.write_all(&piece).expect("a write"));
    file.sync_all().expect("it gets to the disk");
}

/// In pieces of `bytes`; what comes at once can be more than the kernel looks up at once.
fn read(path: &Path, bytes: usize) {
    let mut file = File::open(path).expect("a file");
    let mut piece = vec![0; bytes];
    while file.read(&mut piece).expect("a read") > 0 {}
}

#[test]
fn hits_misses_and_written_pages_are_told_apart() {
    let symbols = fs::read_to_string("/proc/kallsyms").expect("the kernel's symbols");
    let folios = symbols.lines().any(|line| line.contains(" folio_mark_accessed"));
    by_each_variant("cachestat", |variant| {
        // Where there are folios, only what has not been rewritten for them comes by the way of pages
        if !(folios && variant.is_some_and(|variant| variant.name.starts_with("page_"))) {
            hits_misses_and_written_pages_are_told_by(variant);
        }
    });
}

fn hits_misses_and_written_pages_are_told_by(variant: Option<&Variant>) {
    let scratch = Scratch::new();
    let files = Mounted::new(&scratch);
    let names = ["writer", "cold", "warm", "pieces"].map(|_| unique_name());
    let [writer, cold, warm, pieces] = &names;
    // Once before anybody looks: what the test's own code maps when it first runs would be counted too
    let rehearsal = files.path.join("rehearsal");
    as_command(&unique_name(), move || {
        write(&rehearsal);
        read(&rehearsal, 1 << 20);
        read(&rehearsal, 4096);
    });
    retry(|| {
        let probes = json!([
            {"program": "cachestat", "name": "each", "filters": {"comm": names, "by_process": true}},
            {"program": "cachestat", "name": "together", "filters": {"comm": names}},
            {"program": "cachestat", "name": "nobody", "filters": {"comm": unique_name()}},
            {"program": "cachestat", "name": "everybody"},
        ]);
        let Some(capture) = Capture::start_by(variant, &scratch, &to_jsonl_of_busy(probes)) else {
            return Ok(());
        };
        let path = files.path.join("file");
        let of = |work: fn(&Path)| {
            let path = path.clone();
            move || work(&path)
        };
        as_command(writer, of(write));
        let file = File::open(&path).expect("it is there");
        fadvise(&file, 0, None, Advice::DontNeed).expect("it leaves the cache");
        drop(file);
        as_command(cold, of(|path| read(path, 1 << 20)));
        as_command(warm, of(|path| read(path, 1 << 20)));
        as_command(pieces, of(|path| read(path, 4096)));
        let records = records(&capture.stop().expect(0).stdout);
        let counters =
            |row: &Json| ["accessed", "misses", "dirtied"].map(|column| row[column].as_u64().expect("a number"));
        let total = |probe: &str, comm: &str| -> [u64; 3] {
            let rows = of_probe(&records, probe).into_iter().filter(|row| row["comm"] == comm);
            rows.map(counters).fold([0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]])
        };
        for (who, wanted) in
            [(writer, [0, 0, PAGES]), (cold, [PAGES, PAGES, 0]), (warm, [PAGES, 0, 0]), (pieces, [PAGES, 0, 0])]
        {
            let found = total("each", who);
            assert!((0..3).all(|i| found[i] <= wanted[i] + MORE), "{found:?}, not {wanted:?}: {records:#?}");
            if (0..3).any(|i| found[i] < wanted[i]) {
                return Err(format!("{found:?}, not {wanted:?}"));
            }
        }
        let each =
            names.iter().map(|name| total("each", name)).fold([0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
        assert_eq!(of_probe(&records, "nobody").len(), 0);
        let (together, everybody) = (total("together", ""), total("everybody", ""));
        match together == each && (0..3).all(|i| everybody[i] >= each[i]) {
            true => Ok(()),
            false => Err(format!("each {each:?}, together {together:?}, everybody {everybody:?}")),
        }
    });
}
