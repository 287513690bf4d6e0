use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::*;
use crate::files::path_safety::{ParentDir, PathPolicy};

const PLAIN: FileAttributes = FileAttributes { mode: 0o640, owner: None, group: None };

fn dir(folder: &Path) -> OpenDir {
    let folder = ParentDir::of(&folder.join("x"), PathPolicy::Checked).expect("a directory");
    OpenDir { fd: Arc::new(folder.fd), path: folder.path }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn a_file_has_its_name_only_when_it_is_whole() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = dir(folder.path());
    fs::write(folder.path().join("a"), "old").expect("written");
    let mut file = AtomicFile::create(&dir, "a".as_ref(), PLAIN).expect("it is made");
    file.writer().and_then(|mut file| file.write_all(b"new")).expect("written");
    assert_eq!(names(folder.path()), ["a", "a.partial"]);
    assert_eq!(fs::read_to_string(folder.path().join("a")).expect("there"), "old");
    file.finish().expect("it is finished");
    assert_eq!(names(folder.path()), ["a"]);
    let meta = fs::metadata(folder.path().join("a")).expect("there");
    assert_eq!((meta.permissions().mode() & 0o7777, meta.len()), (0o640, 3));
}

#[test]
fn a_file_is_removed_before_begin_and_kept_after_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = dir(folder.path());
    drop(AtomicFile::create(&dir, "a".as_ref(), PLAIN).expect("it is made"));
    assert!(names(folder.path()).is_empty());
    let mut begun = AtomicFile::create(&dir, "a".as_ref(), PLAIN).expect("it is made");
    begun.begin();
    drop(begun);
    assert_eq!(names(folder.path()), ["a.partial"]);
}

#[test]
fn a_stale_file_is_renamed_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = dir(folder.path());
    for content in ["first", "second"] {
        fs::write(folder.path().join("a.partial"), content).expect("written");
        drop(AtomicFile::create(&dir, "a".as_ref(), PLAIN).expect("it is made"));
    }
    let left = names(folder.path());
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|name| name.starts_with("a.partial-2") && name.contains('Z')), "{left:?}");
    let texts = left.iter().map(|name| fs::read_to_string(folder.path().join(name)).expect("there"));
    assert_eq!(texts.collect::<std::collections::BTreeSet<_>>().len(), 2, "neither took the other's place");
    let _held = AtomicFile::create(&dir, "a".as_ref(), PLAIN).expect("it is made");
    let again = AtomicFile::create(&dir, "a".as_ref(), PLAIN);
    assert!(matches!(again, Err(CreateError::InUse)), "{again:?}");
}

/// Runs of one path at the same moment: one of them writes, the others are refused, and no file of theirs is taken for
/// a stale one.
#[test]
fn of_many_runs_at_the_same_moment_one_gets_the_file() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = dir(folder.path());
    let made = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for id in ["a", "b", "c", "d"] {
            let (dir, made) = (&dir, &made);
            scope.spawn(move || {
                for _ in 0..300 {
                    let Ok(mut file) = AtomicFile::create(dir, "x".as_ref(), PLAIN) else { continue };
                    file.begin();
                    file.writer().and_then(|mut to| to.write_all(id.repeat(5000).as_bytes())).expect("written");
                    file.finish().expect("only this one has the name");
                    made.fetch_add(1, Ordering::Relaxed);
                    let whole = fs::read_to_string(dir.path.join("x")).expect("it is there from now on");
                    assert!(whole.len() == 5000 && whole.chars().all(|c| whole.starts_with(c)), "it is one's own");
                }
            });
        }
    });
    assert!(made.load(Ordering::Relaxed) > 0);
    assert_eq!(names(folder.path()), ["x"]);
}

#[test]
fn a_file_in_use_is_not_set_aside_and_not_removed() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = dir(folder.path());
    let _held = AtomicFile::create(&dir, "a".as_ref(), PLAIN).expect("it is made");
    assert!(matches!(quarantine_stale(&dir, "a.partial".as_ref()), Err(CreateError::InUse)));
    assert!(matches!(remove_stale(&dir, "a.partial".as_ref()), Err(CreateError::InUse)));
    assert_eq!(is_held(&dir, "a.partial".as_ref()), Ok(true));
    assert_eq!(names(folder.path()), ["a.partial"]);
}

/// A user who can write to the directory can move the file. Then no other file gets its name.
#[test]
fn a_file_that_was_moved_is_not_finished_and_nothing_else_in_its_place_either() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = dir(folder.path());
    let at = |name: &str| folder.path().join(name);
    for other in [None, Some("other")] {
        let mut file = AtomicFile::create(&dir, "a".as_ref(), PLAIN).expect("it is made");
        fs::rename(at("a.partial"), at("moved")).expect("it is there");
        if let Some(other) = other {
            fs::write(at("a.partial"), other).expect("written");
        }
        let error = file.finish().expect_err("it is not there");
        assert!(error.to_string().contains("has moved or removed"), "{error}");
        drop(file);
        assert!(!at("a").exists());
    }
    assert_eq!(fs::read_to_string(at("a.partial")).expect("it stays"), "other");
}

#[test]
fn an_empty_file_that_only_kept_others_away_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = dir(folder.path());
    fs::write(folder.path().join("a.partial"), "").expect("written");
    drop(AtomicFile::reserve(&dir, "a".as_ref(), PLAIN).expect("it is made"));
    assert!(names(folder.path()).is_empty());
    fs::write(folder.path().join("a.partial"), "content").expect("written");
    drop(AtomicFile::reserve(&dir, "a".as_ref(), PLAIN).expect("it is made"));
    assert!(names(folder.path())[0].starts_with("a.partial-2"), "what has content is kept");
}

#[test]
fn a_file_is_given_to_its_owner() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give files away");
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let attributes = FileAttributes { mode: 0o604, owner: Some(12), group: Some(34) };
    AtomicFile::create(&dir(folder.path()), "a".as_ref(), attributes).expect("made").finish().expect("finished");
    let meta = fs::metadata(folder.path().join("a")).expect("there");
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (12, 34, 0o604));
}
