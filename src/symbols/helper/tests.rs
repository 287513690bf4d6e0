use super::*;

#[test]
fn names_are_made_readable() {
    let cases: &[(&[u8], &[u8])] = &[
        (b"main", b"main"),
        (b"_ZN3foo3barEi", b"foo::bar(int)"),
        (b"_ZN4core3fmt5write17h0123456789abcdefE", b"core::fmt::write"),
        (b"_RNvC7mycrate4main", b"mycrate::main"),
        (b"_Znonsense", b"_Znonsense"),
        (b"\xff\xfe", b"\xff\xfe"),
        (b"", b""),
    ];
    for (name, wanted) in cases {
        assert_eq!(demangle(name), *wanted);
    }
}

/// Each substitution expands to two of the previous one: a short name becomes one of 2^60 characters.
#[test]
fn a_name_that_grows_without_end_is_cut() {
    let mut name = String::from("_Z1fI1aS_E");
    for i in 0..60_u32 {
        let number = |n: u32| if n == 0 { String::new() } else { format!("{:x}", n - 1).to_uppercase() };
        name += &format!("P1gIS{0}_S{0}_E", number(i));
    }
    let started = Instant::now();
    assert!(demangle(name.as_bytes()).len() <= MAX_NAME);
    assert!(demangle(format!("_ZN{}E", "1a".repeat(2000)).as_bytes()).len() <= MAX_NAME);
    assert_eq!(demangle(&[b'x'; 2 * MAX_NAME]).len(), MAX_NAME);
    assert!(started.elapsed() < Duration::from_secs(5));
}
