use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};

use super::*;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is there");
}

#[test]
fn a_directory_that_every_user_can_write_to_is_named() {
    let folder = tempfile::tempdir().expect("a directory");
    let open = folder.path().join("open");
    fs::create_dir_all(open.join("inner")).expect("directories");
    let file = open.join("inner/file");
    ParentDir::of(&file, PathPolicy::Checked).expect("nothing is wrong with it");
    mode(&open, 0o777);
    let problem = ParentDir::of(&file, PathPolicy::Checked).expect_err("every user can write there");
    assert!(problem.message.contains(&format!("the directory {} and", open.display())), "{problem:?}");
    assert!(problem.hint.is_some_and(|hint| hint.contains("chmod o-w")));
    ParentDir::of(&file, PathPolicy::Unchecked).expect("it was asked for");
    mode(&open, 0o1777);
    ParentDir::of(&file, PathPolicy::Checked).expect("what is in it is safe from others");
}

#[test]
fn links_of_one_s_own_are_followed_and_those_of_others_are_not() {
    let folder = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(folder.path().join("real/inner")).expect("directories");
    symlink("real/../real", folder.path().join("link")).expect("a link");
    let file = folder.path().join("link/inner/file");
    let found = ParentDir::of(&file, PathPolicy::Checked).expect("it is one's own");
    assert_eq!(found.name, "file");
    symlink("loop", folder.path().join("loop")).expect("a link");
    let error = ParentDir::of(&folder.path().join("loop/x"), PathPolicy::Checked).expect_err("it never ends");
    assert_eq!(error.errno, Some(Errno::LOOP));
    if geteuid().is_root() {
        lchown(folder.path().join("link"), Some(65534), Some(65534)).expect("root may");
        let problem = ParentDir::of(&file, PathPolicy::Checked).expect_err("it belongs to another user");
        assert!(problem.message.contains("link of user 65534"), "{problem:?}");
    }
}

/// In directories that other users can change, only entries of root and of the runner's user are followed.
#[test]
fn in_a_shared_directory_only_own_entries_are_followed() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can give files away");
        return;
    }
    let theirs = Some(65534);
    for (owner, permissions) in [(theirs, 0o755), (None, 0o775), (None, 0o1777), (theirs, 0o1777)] {
        let folder = tempfile::tempdir().expect("a directory");
        let shared = folder.path().join("shared");
        for name in ["own", "theirs", "shared/own", "shared/theirs"] {
            fs::create_dir_all(folder.path().join(name)).expect("a directory");
        }
        symlink("own", shared.join("link")).expect("a link");
        symlink(folder.path().join("own"), shared.join("away")).expect("a link");
        for name in ["theirs", "shared/theirs"] {
            lchown(folder.path().join(name), theirs, theirs).expect("root may");
        }
        lchown(&shared, owner, theirs).expect("root may");
        mode(&shared, permissions);
        let at = |path: &str| ParentDir::of(&folder.path().join(path), PathPolicy::Checked);
        for path in ["theirs/x", "shared/x", "shared/own/x", "shared/link/x", "shared/away/x", "shared/../own/x"] {
            at(path).unwrap_or_else(|problem| panic!("{permissions:o} {path}: {problem:?}"));
        }
        let problem = at("shared/theirs/x").expect_err("they can put another one there");
        assert!(problem.message.contains("belongs to user 65534"), "{problem:?}");
        // Another user has made a hard link of root's link
        fs::hard_link(shared.join("away"), folder.path().join("second")).expect("a name");
        let problem = at("shared/away/x").expect_err("it has two names");
        assert!(problem.message.contains("several hard links"), "{problem:?}");
        at("second/x").expect("here only root could have made it");
        ParentDir::of(&shared.join("theirs/x"), PathPolicy::Unchecked).expect("it was asked for");
        let named = ParentDir::of(&shared.join("theirs/x"), PathPolicy::Named);
        assert_eq!(named.is_ok(), permissions & 0o002 == 0, "{permissions:o}: any user could have made it");
    }
}

#[test]
fn links_of_processes_and_names_of_incomplete_files_are_refused() {
    for path in ["/proc/self/cwd/x", "/proc/self/root/tmp/x", "/proc/thread-self/cwd/x"] {
        let problem = ParentDir::of(Path::new(path), PathPolicy::Checked).expect_err(path);
        assert!(problem.message.contains("is a link in /proc"), "{problem:?}");
    }
    let folder = tempfile::tempdir().expect("a directory");
    for name in ["x.partial", "x.partial-20260101T000000Z"] {
        let problem = ParentDir::of(&folder.path().join(name), PathPolicy::Unchecked).expect_err(name);
        assert!(problem.message.contains("`.partial`"), "{problem:?}");
    }
    ParentDir::of(&folder.path().join("x.partially"), PathPolicy::Checked).expect("that is another name");
}

#[test]
fn missing_directories_and_files_in_their_place_are_reported() {
    let folder = tempfile::tempdir().expect("a directory");
    fs::write(folder.path().join("file"), "").expect("a file");
    let message =
        |path: &str| ParentDir::of(&folder.path().join(path), PathPolicy::Checked).expect_err("wrong").message;
    assert!(message("no/such/file").contains("there is no directory"));
    assert!(message("file/x").contains("is not a directory"));
    assert!(message("file/").contains("is a directory"));
}
