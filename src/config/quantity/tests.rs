use super::*;

#[test]
fn quantities_bring_their_unit() {
    assert_eq!(parse_duration("10ms"), Ok(10_000_000));
    assert_eq!(parse_duration("1.5s"), Ok(1_500_000_000));
    assert_eq!(parse_duration("2 µs"), Ok(2_000));
    assert_eq!(parse_duration("0ns"), Ok(0));
    assert_eq!(parse_duration("5min"), parse_duration("5m"));
    assert_eq!(parse_size("64KiB"), Ok(65_536));
    assert_eq!(parse_size("0.5MiB"), Ok(524_288));
    assert_eq!(parse_percent("0.1%"), Ok(0.001));
}

#[test]
fn what_is_wrong_says_how_to_write_it() {
    let says = |result: Result<u64, String>, what: &str| {
        let message = result.expect_err("it is wrong");
        assert!(message.contains(what), "{message}");
    };
    says(parse_duration("10"), "no unit: write for instance `10ms`");
    says(parse_duration("10 parsec"), "`parsec` is not a unit of time (known: ns, us, ms, s, min, m, h, d)");
    says(parse_duration("10MS"), "did you mean `10ms`?");
    says(parse_duration("-5ms"), "not a time");
    says(parse_duration("99999999999h"), "64 bits");
    says(parse_size("64K"), "did you mean `64KiB`?");
    says(parse_size("64kb"), "did you mean `64KiB`?");
    says(parse_size("a lot"), "write for instance `64KiB`");
    assert!(parse_percent("101%").is_err() && parse_percent("0.1").is_err());
}

#[test]
fn sizes_are_shown_in_the_largest_whole_unit() {
    assert_eq!(Bytes(1 << 20).to_string(), "1MiB");
    assert_eq!(Bytes(1536).to_string(), "1536B");
    assert_eq!(Share(0.001).to_string(), "0.1%");
}
