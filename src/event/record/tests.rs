use super::*;

fn list(len: u32, cut: u32, tail: &[u8]) -> Vec<Vec<u8>> {
    let head = [len.to_ne_bytes(), cut.to_ne_bytes()].concat();
    List::new(&head, tail).iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn a_list_is_split_at_its_nuls() {
    assert_eq!(list(6, 0, b"a\0b c\0xxxx"), [&b"a"[..], b"b c"]);
    assert_eq!(list(3, 0, b"a\0\0"), [&b"a"[..], b""], "an empty argument is one");
    assert!(list(0, 0, b"junk").is_empty());
}

#[test]
fn a_cut_list_says_so() {
    assert_eq!(list(4, 1, b"a\0bc"), [&b"a"[..], b"bc", CUT]);
    assert_eq!(list(9, 0, b"a\0"), [&b"a"[..], CUT], "a length that the record does not have is never trusted");
}
