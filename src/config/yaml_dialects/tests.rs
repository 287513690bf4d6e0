use super::super::yaml::parse;
use super::*;

#[track_caller]
fn codes(text: &str) -> Vec<Code> {
    parse(text).1.into_iter().map(|problem| problem.code).collect()
}

#[test]
fn what_yaml_1_1_and_1_2_read_differently_needs_quotes() {
    for text in [
        "017",
        "00",
        "08",
        "09",
        "-012",
        "0o17",
        "0O17",
        "-0o7",
        "1_000",
        "0_1",
        "1_0.5",
        "1__0",
        "12:30",
        "02:30",
        "1:2",
        "190:20:30",
        "190:20:30.15",
        "-1:30",
        "0b101",
        "0B11",
        "-0b1",
        "0X1F",
        "0x_1",
        "0x1_F",
        "+0x1",
        "1e3",
        "1E3",
        "1e+3",
        "1.5e3",
        "1.e3",
        ".5e3",
        "1e400",
        "1.5e+400",
        "2026-01-01",
        "2026-1-1",
        "2026-01-01T00:00:00Z",
        "2026-01-01 10:00:00",
        "2026-01-01  9:00",
        "=",
        "<<",
    ] {
        assert_eq!(codes(&format!("a: {text}\n")), [Code::Ambiguous], "{text}");
        assert_eq!(codes(&format!("a: [x, {text}]\n")), [Code::Ambiguous], "{text}");
        for quoted in [format!("'{text}'"), format!("\"{text}\""), format!("|\n  {text}"), format!("x {text}")] {
            assert_eq!(codes(&format!("a: {quoted}\n")), [], "{quoted}");
        }
        if text != "<<" {
            assert_eq!(codes(&format!("{text}: a\n")), [Code::Ambiguous], "{text}");
            assert_eq!(codes(&format!("'{text}': a\n")), [], "{text}");
        }
    }
}

#[test]
fn what_all_readers_agree_on_needs_none() {
    for text in [
        "0",
        "1",
        "-1",
        "+1",
        "10",
        "0.1",
        "01.5",
        "1.",
        ".5",
        "-.5",
        "1.5e+3",
        "0x1F",
        "0xab",
        ".inf",
        ".nan",
        "true",
        "False",
        "null",
        "~",
        "y",
        "n",
        "nan",
        "inf",
        "oN",
        "tRue",
        "1:60",
        "12:345",
        "a:b",
        "1:",
        "10ms",
        "1KiB",
        "0.1%",
        "1e3x",
        "0o8",
        "0b2",
        "0xg",
        "x_1",
        "_1",
        "._1",
        "e3",
        "1,000",
        "1.2.3",
        "2026-01",
        "2026-01-01x",
        "2026-01-01 first",
        "--",
        "-1-",
        "opensnoop",
        "io-latency",
        "/x/y",
        "12:30:x",
        "a 12:30",
    ] {
        if text != "1:" {
            assert_eq!(codes(&format!("a: {text}\n")), [], "{text}");
        }
    }
}

#[test]
fn keys_are_text() {
    for key in ["1", "1.0", "true", "~", "null", "? ~\n", "yes", "0x1"] {
        assert_eq!(codes(&format!("{key}: a\n")), [Code::Ambiguous], "{key}");
    }
    assert_eq!(codes("'1': a\n\"true\": b\n"), []);
    assert_eq!(codes("x: {a: b, : c}\n"), [Code::Ambiguous], "no key");
}

#[test]
fn words_need_quotes_where_they_could_be_true_or_false() {
    use super::super::structure::check;
    let with = |name: &str, filter: &str| {
        let yaml = format!(
            "version: 1\nprobes: [{{program: x, name: {name}, filters: {{f: {filter}}}}}]\nsinks: {{s: {{type: jsonl}}}}\n"
        );
        let (root, problems) = parse(&yaml);
        assert_eq!(problems, []);
        check(root.expect("YAML")).0.into_iter().map(|problem| problem.code).collect::<Vec<_>>()
    };
    for word in WORDS {
        assert_eq!(with(word, "x"), [], "a name is text");
        assert_eq!(with("x", word), [Code::Ambiguous], "{word}");
        assert_eq!(with("x", &format!("[a, {word}]")), [Code::Ambiguous], "{word}");
        assert_eq!(with("x", &format!("{{not: {word}}}")), [Code::Ambiguous], "{word}");
        assert_eq!(with("x", &format!("'{word}'")), []);
        assert_eq!(codes(&format!("{word}: a\n")), [Code::Ambiguous], "{word}");
        assert_eq!(codes(&format!("'{word}': a\n")), []);
    }
}

#[test]
fn directives_are_refused() {
    for text in
        ["%YAML 1.1\n---\na: b\n", "%YAML 1.2\n---\na: b\n", "# x\n\n%TAG ! x:\n---\na: b\n", "%FOO\n---\na: b\n"]
    {
        let problems = parse(text).1;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((problems[0].code, problems[0].place.column), (Code::Ambiguous, 1));
    }
    assert_eq!(codes("---\na: b%c\n"), []);
    assert_eq!(codes("a: |\n  x\n%b\n"), [Code::NotYaml]);
}

#[test]
fn two_parsers_have_to_read_the_same() {
    // libyaml has the key `b`
    assert_eq!(codes("a: {?b: c}\n"), [Code::Ambiguous]);
    // … and no line feed that is not in the file
    for end in ["a: |\n  b", "a: >\n  b", "a: |+2\n   b", "a: | # c\n  b"] {
        let (_, problems) = parse(end);
        assert!(problems[0].message.ends_with("end the file with a line feed"), "{problems:?}");
        assert_eq!(codes(&format!("{end}\n")), []);
    }
    assert_eq!(codes("a: |-\n  b"), []);
    // What one of the two refuses
    for text in
        ["a: {:b: c}\n", "a: {b\n: c}\n", "a: &x:y b\nc: *x:y\n", "a:\n  -\tb\n", "\ta: b\n", "...\na: b\n", ": a\n"]
    {
        assert_eq!(codes(text).len(), 1, "{text:?}");
    }
    // What both read, and the same
    for text in
        ["a: b\t# c\n", "a: {\"b\":c}\n", "a: [b: 1]\n", "? a\n: b\n", "a: &x b\nc: *x\n", "a: b #c\n", "a: b#c\n"]
    {
        assert_eq!(codes(text), [], "{text:?}");
    }
}
