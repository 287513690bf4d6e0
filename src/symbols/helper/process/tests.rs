use super::*;

#[test]
fn a_mapping_is_a_line() {
    let line = b"7f0000001000-7f0000002000 r-xp 00003000 08:01 1234                       /a b\n";
    let wanted =
        Mapping { start: 0x7f00_0000_1000, end: 0x7f00_0000_2000, offset: 0x3000, inode: 1234, name: b"/a b".to_vec() };
    assert_eq!(mapping(line), Some(wanted));
    let anonymous = mapping(b"00400000-00401000 rwxp 00000000 00:00 0 \n").expect("a mapping");
    assert_eq!((anonymous.start, anonymous.inode, anonymous.name.as_slice()), (0x40_0000, 0, &b""[..]));
    for odd in [&b"\n"[..], b"x-y r-xp 0 0:0 0", b"1000 r-xp 0 0:0 0", b"\xff\xff"] {
        assert_eq!(mapping(odd), None);
    }
}

#[test]
fn a_command_with_brackets_is_no_harm() {
    let mut text = b"7 (a) R 1 2) S".to_vec();
    (4..=30).for_each(|field| text.extend(format!(" {field}").bytes()));
    let stat = Stat::of(&text).expect("a line of the kernel");
    let wanted = Stat { is_zombie: false, start_time: 22, start_code: 26, end_code: 27, start_stack: 28 };
    assert_eq!(stat, wanted);
    let layout = stat.layout(22);
    assert_ne!(layout, Stat { start_stack: 29, ..wanted }.layout(22));
    assert!(stat.is_of(layout, 0) && !stat.is_of(stat.layout(21), 0) && !stat.is_of(stat.layout(23), 0));
    // Shown 5.003 s later, its tick is 522 or 523, depending on the fraction of a tick
    let later = |start_time| Stat { start_time, is_zombie: false, start_code: 26, end_code: 27, start_stack: 28 };
    assert!(later(522).is_of(layout, 5_003_000_000) && later(523).is_of(layout, 5_003_000_000));
    assert!(!later(524).is_of(layout, 5_003_000_000) && !later(521).is_of(layout, 5_003_000_000));
    assert!(later(2).is_of(layout, -200_000_000), "an earlier time");
    assert_eq!(Stat::of(b"7 (a) S 1 2"), None);
}
