use super::*;

fn names(list: &[&str]) -> Vec<String> {
    let values = list.iter().enumerate().map(|(i, name)| (i as u64, name.to_string())).collect();
    ValueNames::from_c(values).iter().map(|(_, name)| name.to_owned()).collect()
}

#[test]
fn enumerators_lose_the_prefix_that_all_share() {
    assert_eq!(names(&["OP_READ", "OP_WRITE_ZEROES"]), ["read", "write_zeroes"]);
    assert_eq!(names(&["REQ_OP_READ", "REQ_OP_WRITE"]), ["read", "write"]);
    assert_eq!(names(&["A", "B"]), ["a", "b"]);
    assert_eq!(names(&["X_", "X_A"]), ["x_", "x_a"], "nothing may become empty");
}

#[test]
fn integers_of_all_sizes_keep_their_sign() {
    assert_eq!(unsigned(&u64::MAX.to_ne_bytes()), u64::MAX);
    assert_eq!(unsigned(&[255]), 255);
    assert_eq!(signed(&(-2i32).to_ne_bytes()), -2);
    assert_eq!(signed(&i64::MIN.to_ne_bytes()), i64::MIN);
    assert_eq!(signed(&(-1i16).to_ne_bytes()), -1);
    assert_eq!(signed(&[127]), 127);
}

#[test]
fn text_ends_at_a_nul_or_at_the_field() {
    assert_eq!(until_nul(b"dd\0junk"), b"dd");
    assert_eq!(until_nul(b"full"), b"full");
    assert_eq!(until_nul(b""), b"");
    assert_eq!(counted(&3u32.to_ne_bytes(), b"dd\0junk"), b"dd");
    assert_eq!(counted(&1u32.to_ne_bytes(), b"\0junk"), b"");
    assert_eq!(counted(&0u32.to_ne_bytes(), b"junk"), CUT, "could not be read");
    assert_eq!(counted(&u32::MAX.to_ne_bytes(), b"junk"), b"junk");
}
