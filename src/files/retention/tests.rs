use std::sync::Arc;

use super::*;
use crate::files::atomic::{AtomicFile, FileAttributes};
use crate::files::path_safety::{ParentDir, PathPolicy};
use crate::output::Globals;

fn policy(plan: FilesPlan) -> RetentionPolicy {
    let globals = Globals { start: 1_767_225_600_000_000_000, ..Globals::default() };
    let pattern = PathPattern::new("/x/io-{{ start | date('%Y%m%d') }}.csv", &Arc::new(globals));
    RetentionPolicy::new(&plan, pattern.expect("it can be told"))
}

fn file(name: &str, written: i64, bytes: u64) -> RetainedFile {
    RetainedFile { name: name.into(), inode: 0, written: written * 1_000_000_000, bytes }
}

#[test]
fn segments_and_compressed_files_match_and_other_files_do_not() {
    let pattern = policy(FilesPlan::default()).pattern;
    for name in ["io-20250101.csv", "io-20250101.0007.csv", "io-20250101.12345.csv.zst", "io-20250101.csv.gz"] {
        assert!(is_of(&pattern, name), "{name}");
    }
    for name in ["io-20250101.csv.partial", "io-20250101.7.csv", "io-2025.csv", "io-20250101.csv.bak", "x-20250101.csv"]
    {
        assert!(!is_of(&pattern, name), "{name}");
    }
    assert_eq!(stale_name("io-20250101.csv.partial-20250102T000000Z"), Some("io-20250101.csv"));
    assert_eq!(stale_name("io-20250101.csv.partial"), None, "a run may be at work on it");
}

#[test]
fn the_newest_stay_by_number_age_and_size() {
    let there = || vec![file("a", 10, 5), file("c", 30, 5), file("b", 20, 5)];
    let names = |files: Vec<RetainedFile>| files.into_iter().map(|file| file.name).collect::<Vec<_>>();
    let surplus = |plan: FilesPlan| names(policy(plan).expired(there(), None, 31_000_000_000));
    assert!(surplus(FilesPlan::default()).is_empty());
    assert_eq!(surplus(FilesPlan { keep_files: Some(1), ..FilesPlan::default() }), ["b", "a"]);
    assert_eq!(surplus(FilesPlan { keep_bytes: Some(10), ..FilesPlan::default() }), ["a"]);
    assert_eq!(surplus(FilesPlan { keep_age: Some(Duration::from_secs(11)), ..FilesPlan::default() }), ["a"]);
    assert_eq!(surplus(FilesPlan { keep_bytes: Some(1), ..FilesPlan::default() }), ["b", "a"], "the newest stays");
    let one = policy(FilesPlan { keep_files: Some(1), ..FilesPlan::default() });
    assert_eq!(
        names(one.expired(there(), Some("a"), 0)),
        ["c", "b"],
        "and what was written just now, whatever the clock says"
    );
}

/// The run that writes the file is about to rename it.
#[test]
fn a_file_that_a_run_is_about_to_replace_is_kept() {
    let folder = tempfile::tempdir().expect("a directory");
    let opened = ParentDir::of(&folder.path().join("x"), PathPolicy::Checked).expect("a directory");
    let dir = OpenDir { fd: Arc::new(opened.fd), path: opened.path };
    for name in ["io-20250101.csv", "io-20250102.csv", "io-20250103.csv"] {
        std::fs::write(folder.path().join(name), "x").expect("written");
        let then = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let file = std::fs::File::options().write(true).open(folder.path().join(name)).expect("it is there");
        file.set_modified(then).expect("its time is set");
    }
    let attributes = FileAttributes { mode: 0o600, owner: None, group: None };
    let _other = AtomicFile::create(&dir, "io-20250101.csv".as_ref(), attributes).expect("it is made");
    let plan = FilesPlan { keep_age: Some(Duration::from_secs(60)), ..FilesPlan::default() };
    policy(plan).apply(&dir, None).expect("the folder can be read");
    let there = |name: &str| folder.path().join(name).exists();
    assert!(there("io-20250101.csv"), "another run works on it");
    assert!(!there("io-20250102.csv"), "it is old, and no run works on it");
    assert!(there("io-20250103.csv"), "the newest stays");
}
