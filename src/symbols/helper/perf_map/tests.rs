use std::time::Duration;

use super::*;

fn names_in(text: &[u8], addresses: &[u64]) -> Vec<Option<String>> {
    let (found, is_whole) = names(text, addresses, Deadline::within(Duration::from_secs(10)));
    assert!(is_whole);
    found.into_iter().map(|name| name.map(|name| String::from_utf8_lossy(&name).into_owned())).collect()
}

#[test]
fn good_lines_count_whatever_is_between_them() {
    let mut text = b"1000 10 first\n\xff\xff\nnot hex at all\n2000 ffffffffffffffff wraps\n3000 10 \n".to_vec();
    text.extend(vec![b'x'; 10 << 20]);
    text.extend(b"\n0x4000 0x10 LazyCompile:*f /a b.js:1\r\n5000 10 replaced\n5000 8 newer\n6000 10 unfinished");
    let found = names_in(&text, &[0xfff, 0x1000, 0x100f, 0x1010, 0x2000, 0x3000, 0x4001, 0x5000, 0x5008, 0x6000]);
    let first = Some("first".to_owned());
    let lazy = Some("LazyCompile:*f /a b.js:1".to_owned());
    let (newer, replaced) = (Some("newer".to_owned()), Some("replaced".to_owned()));
    assert_eq!(found, [None, first.clone(), first, None, None, None, lazy, newer, replaced, None]);
}

#[test]
fn an_endless_map_ends() {
    let started = std::time::Instant::now();
    let (found, is_whole) = names(std::io::repeat(0), &[1], Deadline::within(Duration::from_secs(60)));
    assert_eq!((found, is_whole), (vec![None], true));
    let (found, is_whole) = names(std::io::repeat(b'\n'), &[1], Deadline::within(Duration::from_millis(10)));
    assert_eq!((found, is_whole), (vec![None], false), "the time is over before");
    assert!(started.elapsed().as_secs() < 30);
}
