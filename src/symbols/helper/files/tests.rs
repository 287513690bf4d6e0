use std::io::Write as _;
use std::path::Path;

use super::*;

#[test]
fn the_kind_of_a_mount_is_behind_the_dash() {
    let mut list = tempfile::tempfile().expect("a file");
    let text =
        "21 1 0:5 / /a\\040-\\040b rw - tmpfs x rw\n22 1 0:6 / /b rw shared:1 master:2 - fuse.sshfs y rw\nodd\n23\n";
    list.write_all(text.as_bytes()).expect("written");
    let kind = |mount| {
        let mut list = list.try_clone().expect("a descriptor");
        std::io::Seek::rewind(&mut list).expect("a file");
        Mount::of_number(list, mount).map(|mount| mount.kind)
    };
    assert_eq!(kind(21).as_deref(), Some(&b"tmpfs"[..]));
    assert_eq!(kind(22).as_deref(), Some(&b"fuse.sshfs"[..]));
    assert_eq!((kind(23), kind(24)), (None, None));
    assert!(in_user_space(b"fuse.sshfs") && in_user_space(b"fuseblk") && !in_user_space(b"ext4"));
    assert!(!in_user_space(b"fusectl"), "that one is the kernel's");
    let wanted = Mount { device: b"0:6".to_vec(), kind: b"fuse.sshfs".to_vec() };
    let mut list = list.try_clone().expect("a descriptor");
    std::io::Seek::rewind(&mut list).expect("a file");
    assert_eq!(Mount::find(list, |_, mount| *mount == wanted).as_ref(), Some(&wanted));
}

#[test]
fn only_regular_files_are_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "text").expect("written");
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("fifo"), Mode::RUSR).expect("a FIFO");
    let (mut opener, mut proc) = (Opener::new(), ProcDir::open(std::process::id()).expect("oneself"));
    let mut open = |path: &Path| {
        let found = openat(rustix::fs::CWD, path, PATH, Mode::empty()).expect("it is there");
        let stat = look_at(found.as_fd()).expect("it has attributes");
        opener.open(&mut proc, found.as_fd(), &stat)
    };
    let mut text = String::new();
    open(&file).expect("a file").read_to_string(&mut text).expect("it is read");
    assert_eq!(text, "text");
    for odd in [dir.path().join("fifo").as_path(), dir.path(), Path::new("/dev/null")] {
        assert_eq!(open(odd).expect_err("no file"), UnresolvedCause::FileRefused, "{}", odd.display());
    }
}

#[test]
fn memory_files_are_known_by_their_device() {
    let memfd = memfd_create("test", MemfdFlags::CLOEXEC).expect("a memfd");
    let mut proc = ProcDir::open(std::process::id()).expect("oneself");
    let found = proc.link(&format!("fd/{}", memfd.as_raw_fd())).expect("it is there");
    let stat = look_at(found.as_fd()).expect("it has attributes");
    assert!(Opener::new().open(&mut proc, found.as_fd(), &stat).is_ok());
    assert!(!Opener::new().may_open_on_mount_of(&mut proc, found.as_fd()), "it is in no list of mounts");
}

#[test]
fn mounts_of_the_own_user_namespace_are_recognised() {
    let proc = ProcDir::open(std::process::id()).expect("oneself");
    assert!(proc.mounts_are_made_by_root());
}
