use std::io::Seek as _;

use super::*;

#[test]
fn records_end_with_lines_that_are_not_quoted() {
    assert_eq!(RecordEnd::Line.whole(b"a\nb\nc"), 4);
    assert_eq!(RecordEnd::Line.whole(b"abc"), 0);
    assert_eq!(RecordEnd::UnquotedLine.whole(b"a,\"b\n\"\"c\"\nd,\"e\n"), 10);
    assert_eq!(RecordEnd::Line.whole(b"a,\"b\n"), 5);
}

/// What is there of a record when a disk is full is cut off; what others have written is not.
#[test]
fn a_file_ends_with_a_whole_record() {
    let after = |flushed: &str, partly: &str, other: &str| {
        let mut file = tempfile::tempfile().expect("a file");
        let mut counted = Counted::from(Destination::File(file.try_clone().expect("it can be")));
        counted.write_all(flushed.as_bytes()).and_then(|()| counted.flush()).expect("there is room");
        counted.write_all(partly.as_bytes()).expect("there is room");
        if !other.is_empty() {
            let end = counted.bytes();
            rustix::io::pwrite(&file, other.as_bytes(), end).expect("there is room");
        }
        counted.cut_to_records(RecordEnd::UnquotedLine);
        counted.write_all(b"more").expect_err("nothing comes behind it");
        counted.flush().expect_err("nor is that written");
        file.rewind().expect("it is a file");
        (io::read_to_string(&file).expect("text"), counted.bytes())
    };
    assert_eq!(after("a\n", "b\n\"c\nd", ""), ("a\nb\n".into(), 4));
    assert_eq!(after("a\n", "b", ""), ("a\n".into(), 2));
    assert_eq!(after("a\n", "b\n", ""), ("a\nb\n".into(), 4));
    assert_eq!(after("a\n", "", ""), ("a\n".into(), 2));
    assert_eq!(after("a\n", "b", "theirs"), ("a\nbtheirs".into(), 3));
}
