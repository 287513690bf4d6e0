use super::*;

fn with(name: &str, args: &[Arg<'_>], input: Operand<'_>) -> String {
    let formatter = Formatter::new(name, args).expect("it exists").expect("the arguments are right");
    let mut out = String::new();
    formatter.apply(input, &mut out).expect("the operand is right");
    out
}

#[test]
fn durations_have_three_digits_and_never_four() {
    let shown = |ns: u64| with("duration", &[], Operand::Uint(ns));
    assert_eq!(shown(0), "0ns");
    assert_eq!(shown(999), "999ns");
    assert_eq!(shown(1_000), "1.00us");
    assert_eq!(shown(9_996), "10.0us");
    assert_eq!(shown(99_960), "100us");
    assert_eq!(shown(999_600), "1.00ms");
    assert_eq!(shown(12_345_678), "12.3ms");
    assert_eq!(shown(59_900_000_000), "59.9s");
    assert_eq!(shown(61_000_000_000), "1m01s");
    assert_eq!(shown(3_720_000_000_000), "1h02m");
    assert_eq!(with("duration", &[], Operand::Int(-1_500)), "-1.50us");
    assert_eq!(with("duration", &[], Operand::Float(1500.5)), "1.50us");
    assert_eq!(with("duration", &[], Operand::Uint(u64::MAX)), "5124095h34m");
}

#[test]
fn bytes_use_powers_of_1024() {
    let shown = |n: u64| with("bytes", &[], Operand::Uint(n));
    assert_eq!(shown(512), "512B");
    assert_eq!(shown(4096), "4KiB");
    assert_eq!(shown(1_536), "1.5KiB");
    assert_eq!(shown(131_072), "128KiB");
    assert_eq!(shown(4095), "4KiB");
    assert_eq!(shown((1 << 20) - 1), "1MiB");
    assert_eq!(shown(1 << 30), "1GiB");
    assert_eq!(shown(u64::MAX), "16EiB");
}

#[test]
fn errors_go_by_name_and_results_stay_numbers() {
    assert_eq!(with("errno", &[], Operand::Int(-2)), "ENOENT");
    assert_eq!(with("errno", &[], Operand::Int(-110)), "ETIMEDOUT");
    assert_eq!(with("errno", &[], Operand::Int(-121)), "EREMOTEIO");
    assert_eq!(with("errno", &[], Operand::Int(-133)), "EHWPOISON");
    assert_eq!(with("errno", &[], Operand::Int(3)), "3");
    assert_eq!(with("errno", &[], Operand::Int(-100_000)), "-100000");
    assert_eq!(with("errno", &[], Operand::Int(i64::MIN)), i64::MIN.to_string());
}

#[test]
fn padding_cuts_text_visibly_and_numbers_never() {
    let left = |text: &str, n| with("left", &[Arg::Int(n)], Operand::Text(text));
    let right = |text: &str, n| with("right", &[Arg::Int(n)], Operand::Text(text));
    assert_eq!(left("dd", 5), "dd   ");
    assert_eq!(right("dd", 5), "   dd");
    assert_eq!(left("postgres", 5), "post…");
    assert_eq!(right("/var/lib/x", 6), "…lib/x");
    assert_eq!(left("postgres", 8), "postgres");
    assert_eq!(left("x", 0), "");
    assert_eq!(left("日本語", 5), "日本…");
    assert_eq!(left("日本語", 4), "日… ");
    assert_eq!(left("é", 3), "é  ");
    assert_eq!(with("right", &[Arg::Int(3)], Operand::Uint(123_456)), "123456");
    assert_eq!(with("left", &[Arg::Int(4)], Operand::Int(-1)), "-1  ");
}

#[test]
fn folded_brings_its_separator_only_where_there_is_a_stack() {
    let folded = |stack: &str| with("folded", &[Arg::Text(";")], Operand::Text(stack));
    assert_eq!((folded("main;read").as_str(), folded("").as_str()), (";main;read", ""));
    assert_eq!(with("folded", &[], Operand::Text("main")), "main");
}

#[test]
fn wrong_uses_are_errors_that_say_what_is_right() {
    assert!(Formatter::new("nosuch", &[]).is_none());
    for name in NAMES {
        assert!(Formatter::new(name, &[Arg::Text("%"), Arg::Int(1)]).expect("it exists").is_err(), "{name}");
    }
    let clock = Formatter::new("clock", &[]).unwrap().unwrap();
    assert!(clock.apply(Operand::Uint(1), &mut String::new()).unwrap_err().contains("`ts` is a monotonic counter"));
    assert!(Formatter::new("date", &[Arg::Text("%!")]).unwrap().is_err());
}
