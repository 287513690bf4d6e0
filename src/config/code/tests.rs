use super::*;

#[test]
fn codes_are_three_digits_each_once_and_in_order() {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let mut sorted = codes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(codes, sorted);
    assert!(codes.iter().all(|code| code.len() == 4 && code[1..].parse::<u16>().is_ok()));
}
