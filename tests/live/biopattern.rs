//! `biopattern` against writes whose order the test knows.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::OFlags;
use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl_of_busy};
use crate::common::Scratch;
use crate::disk::{BLOCK, Loop, retry};
use crate::root;

/// A block in memory, where direct writes want it.
#[repr(align(4096))]
struct Aligned([u8; BLOCK as usize]);

/// Writes these blocks of `disk` past the cache, one after the other.
fn write_blocks(disk: &Loop, blocks: impl IntoIterator<Item = u64>) {
    let direct = OFlags::DIRECT.bits() as i32;
    let file = OpenOptions::new().write(true).custom_flags(direct).open(&disk.path).expect("the disk opens");
    let block = Box::new(Aligned([1; BLOCK as usize]));
    for number in blocks {
        file.write_all_at(&block.0, number * BLOCK).expect("a write");
    }
}

#[test]
fn sequential_and_random_requests_are_told_apart() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 1 << 20);
    // Whoever looks at a new disk may read from it meanwhile: then it is tried again
    retry(|| {
        let probes = json!([
            {"program": "biopattern", "name": "all", "filters": {"device": disk.name}},
            {"program": "biopattern", "name": "writes", "filters": {"device": disk.name, "op": ["write", "discard"]}},
            {"program": "biopattern", "name": "reads", "filters": {"device": disk.name, "op": "read"}},
            {"program": "biopattern", "name": "others", "filters": {"device": {"not": disk.name}}},
            {"program": "biopattern", "name": "any"},
        ]);
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(probes), &[]);
        // Of the first it is not known; 31 follow it. Then 100, 50, 150 and 30 are somewhere else, 151 and 31 behind the last
        write_blocks(&disk, (0..32).chain([100, 50, 150, 151, 30, 31]));
        let records = records(&capture.stop().expect(0).stdout);
        let row = |probe: &str| -> Option<Json> {
            let mut rows = of_probe(&records, probe).into_iter().filter(|row| row["device"] == disk.name.as_str());
            let row = rows.next().cloned();
            assert!(rows.next().is_none(), "one row a disk: {records:#?}");
            row
        };
        assert_eq!(row("others"), None);
        for probe in ["all", "writes", "any"] {
            let row = row(probe).ok_or("no row")?;
            let found =
                ["sequential", "random", "requests", "bytes"].map(|column| row[column].as_u64().expect("a number"));
            if found != [33, 4, 38, 38 * BLOCK] {
                return Err(format!("{probe}: {found:?}"));
            }
        }
        row("reads").map_or(Ok(()), |row| Err(format!("somebody reads: {row}")))
    });
}
