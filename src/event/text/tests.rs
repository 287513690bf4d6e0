use super::*;

fn with(f: fn(&[u8], &mut String), bytes: &[u8]) -> String {
    let mut out = String::new();
    f(bytes, &mut out);
    out
}

const HOSTILE: &[&[u8]] = &[
    b"plain",
    b"",
    b"two words",
    b"it's",
    b"line\nbreak\ttab\r",
    b"\x1b[31mred",
    b"\xff\xfe",
    b"caf\xc3\xa9",
    b"half \xc3",
    "\u{ef80}\u{efff}".as_bytes(),
    "abc\u{202e}cba".as_bytes(),
    b"\x7f\x01\xc2\x9b1m",
    b"back\\slash \\x41 $HOME `id` \"q\" ;&|",
    b"\x01\x31",
];

#[test]
fn lossless_text_is_utf8_and_comes_back() {
    for &bytes in HOSTILE {
        assert_eq!(restore(&with(push_lossless, bytes)), bytes);
    }
    assert_eq!(with(push_lossless, b"a\xffb"), "a\u{efff}b");
    assert_eq!(with(push_lossless, "é".as_bytes()), "é");
}

#[test]
fn shown_text_has_nothing_that_a_terminal_obeys() {
    for &bytes in HOSTILE {
        assert!(with(push_shown, bytes).chars().all(|c| !c.is_control() && !is_deceptive(c)), "{bytes:?}");
    }
    assert_eq!(with(push_shown, b"a\nb\x1b[0m\xff"), r"a\nb\x1b[0m\xff");
    assert_eq!(with(push_shown, "né\u{202e}".as_bytes()), r"né\u{202e}");
}

#[test]
fn json_with_deceptive_characters_is_the_same_json_without_them() {
    let value = serde_json::json!({"a\u{e0041}": "x\u{202e}y\u{85}\u{1f600}é"});
    let safe = safe_json(&value.to_string());
    assert_eq!(safe, r#"{"a\udb40\udc41":"x\u202ey\u0085😀é"}"#);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).expect("JSON"), value);
}

#[test]
fn copied_text_means_the_bytes_that_it_was_written_for() {
    for &bytes in HOSTILE {
        for form in [push_lossless, push_shown] {
            let text = with(form, bytes);
            assert!(meanings(&text).contains(&bytes.to_vec()), "{text:?} of {bytes:?}");
            assert!(meanings(&text).contains(&text.clone().into_bytes()), "{text:?} itself");
        }
    }
    let one = |text: &str| assert_eq!(meanings(text), [text.as_bytes()], "{text}");
    for text in
        ["plain", "caf\u{e9}", r"dev-disk\x2dby", r"a\x", r"\", r"\u{41}", r"\u{}", r"\xFF", r"a\b\", "'quoted'"]
    {
        one(text);
    }
    assert_eq!(meanings(r"a\xffb"), [&br"a\xffb"[..], b"a\xffb"]);
    assert_eq!(meanings("a\u{efff}"), ["a\u{efff}".as_bytes(), b"a\xff"]);
    assert_eq!(meanings("'=x"), [&b"'=x"[..], b"=x"]);
    assert_eq!(meanings("''x"), [&b"''x"[..], b"'x"]);
    assert_eq!(meanings(r"'\t@x"), [&br"'\t@x"[..], b"'\t@x", br"\t@x", b"\t@x"]);
}

#[test]
fn quoted_text_gives_a_shell_the_same_bytes() {
    for &bytes in HOSTILE {
        let script = format!("printf %s {}", with(push_quoted, bytes));
        assert!(script.chars().all(|c| !c.is_control() && !is_deceptive(c)), "{script:?}");
        let output = std::process::Command::new("bash").args(["-c", &script]).output().expect("bash runs");
        assert_eq!(output.stdout, bytes, "{script}");
    }
    assert_eq!(with(push_quoted, b"--a=b/c.d"), "--a=b/c.d");
    assert_eq!(with(push_quoted, b""), "''");
    assert_eq!(with(push_quoted, b"it's"), r"'it'\''s'");
    assert_eq!(with(push_quoted, b"a\nb"), r"$'a\nb'");
}
