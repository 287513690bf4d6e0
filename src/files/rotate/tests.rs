use super::*;

#[test]
fn segments_are_numbered_before_the_extension() {
    assert_eq!(numbered("io.csv".as_ref(), 1), "io.0001.csv");
    assert_eq!(numbered("io".as_ref(), 12), "io.0012");
    assert_eq!(numbered(".io".as_ref(), 2), ".io.0002");
    assert_eq!(numbered("a.b.jsonl".as_ref(), 10_000), "a.b.10000.jsonl");
}
