use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::process::Command;

use super::*;

/// In a thread: the filter applies to the calling thread. No other restriction of `confine` does.
fn confined(
    test: impl FnOnce() -> Vec<(&'static str, io::ErrorKind)> + Send + 'static,
) -> Vec<(&'static str, io::ErrorKind)> {
    let inside = move || {
        set_no_new_privs(true).expect("it is allowed");
        let filter = filter().expect("it is valid");
        seccompiler::apply_filter(&filter).expect("it is taken");
        test()
    };
    std::thread::spawn(inside).join().expect("it ends")
}

#[test]
fn the_helper_can_read_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, new) = (dir.path().join("file"), dir.path().join("new"));
    fs::write(&file, "text").expect("written");
    let found = confined(move || {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut File::open(&file).expect("reading is allowed"), &mut bytes).expect("it is read");
        let grown: Vec<u8> = vec![1; 8 << 20];
        assert_eq!((bytes, grown.len()), (b"text".to_vec(), 8 << 20));
        let kind = |error: io::Error| error.kind();
        vec![
            ("write", OpenOptions::new().write(true).open(&file).map(drop).map_err(kind).expect_err("refused")),
            ("create", File::create(&new).map(drop).map_err(kind).expect_err("refused")),
            ("remove", fs::remove_file(&file).map_err(kind).expect_err("refused")),
            ("socket", TcpListener::bind("127.0.0.1:0").map(drop).map_err(kind).expect_err("refused")),
            ("exec", Command::new("/bin/true").spawn().map(drop).map_err(kind).expect_err("refused")),
        ]
    });
    for (what, kind) in found {
        assert_eq!(kind, io::ErrorKind::PermissionDenied, "{what}");
    }
    assert_eq!(fs::read(dir.path().join("file")).expect("it is still there"), b"text");
    assert!(!dir.path().join("new").exists());
}
