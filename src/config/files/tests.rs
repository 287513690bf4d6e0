use super::*;

#[test]
fn modes_are_octal_and_sensible() {
    assert_eq!(parse_mode("0640"), Ok(0o640));
    assert_eq!(parse_mode("600"), Ok(0o600));
    for (wrong, says) in
        [("0999", "octal"), ("rw", "octal"), ("0440", "the owner"), ("0666", "every user"), ("4755", "besides")]
    {
        let message = parse_mode(wrong).expect_err("it is wrong");
        assert!(message.contains(says), "{message}");
    }
}
