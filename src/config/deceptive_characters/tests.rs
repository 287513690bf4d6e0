use super::super::yaml::parse;
use super::*;

#[track_caller]
fn refused(text: &str) -> Vec<(Code, usize, usize)> {
    check(text).into_iter().map(|problem| (problem.code, problem.place.line, problem.place.column)).collect()
}

#[test]
fn what_yaml_readers_end_a_line_at_is_refused_wherever_it_is() {
    for c in ['\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'] {
        for text in [
            format!("# harmless{c}max_loss: 100%\n"),
            format!("description: a{c}max_loss: 100%\n"),
            format!("description: 'a{c}b'\n"),
            format!("description: \"a{c}b\"\n"),
            format!("description: |\n  a{c}b\n"),
            format!("la{c}bels: {{}}\n"),
        ] {
            let problems = refused(&format!("version: 1\r\n{text}"));
            assert!(
                matches!(problems.as_slice(), [(Code::Character, 2 | 3, _)]),
                "U+{:04X}: {problems:?}",
                u32::from(c)
            );
        }
    }
    assert_eq!(refused("a: 1\r\nb: x\ry: 2\r\n"), [(Code::NotYaml, 2, 5)]);
    assert_eq!(refused("a: 1\r"), [(Code::NotYaml, 1, 5)], "at the end of the text");
    assert_eq!(refused("a: 1\r\r\n"), [(Code::NotYaml, 1, 5)]);
    assert_eq!(refused("a: 1\r\nb: 2\r\n"), []);
}

#[test]
fn what_is_invisible_or_changes_the_order_of_text_is_refused_in_quotes_and_comments_too() {
    let mut refused_count = 0;
    let ranges = [
        0..=8u32,
        0xe..=0x1f,
        0x7f..=0x9f,
        0xad..=0xad,
        0x34f..=0x34f,
        0x61c..=0x61c,
        0x200b..=0x200f,
        0x202a..=0x202e,
        0x2060..=0x206f,
        0x3164..=0x3164,
        0xfe00..=0xfe0f,
        0xfeff..=0xfeff,
        0xfff0..=0xfffb,
        0xfffe..=0xffff,
        0xfdd0..=0xfdef,
        0x1d173..=0x1d17a,
        0xe0000..=0xe0fff,
        0x10ffff..=0x10ffff,
    ];
    for number in ranges.into_iter().flatten() {
        let c = char::from_u32(number).expect("no surrogate");
        for text in
            [format!("# a{c}b"), format!("a: 'x{c}y'"), format!("a: \"{c}\""), format!("{c}a: b"), format!("{c}")]
        {
            assert_eq!(refused(&text).len(), 1, "U+{number:04X} in {text:?}");
        }
        refused_count += 1;
    }
    assert!(refused_count > 4000);
    for visible in ['é', '日', 'ü', 'א', 'ع', '→', '…', '\u{301}', '\u{e000}', '\u{efff}', '\u{1f600}', '\u{fffd}']
    {
        assert_eq!(refused(&format!("# {visible}\na: '{visible}'\n")), [], "{visible}");
    }
}

#[test]
fn spaces_that_yaml_does_not_know_are_text_in_quotes_and_comments_alone() {
    let refused = |text: &str| -> Vec<(Code, usize, usize)> {
        parse(text).1.into_iter().map(|problem| (problem.code, problem.place.line, problem.place.column)).collect()
    };
    for c in ['\u{a0}', '\u{1680}', '\u{2000}', '\u{2009}', '\u{200a}', '\u{202f}', '\u{205f}', '\u{2800}', '\u{3000}']
    {
        assert_eq!(refused(&format!("version:{c}1\n")), [(Code::Character, 1, 9)]);
        assert_eq!(refused(&format!("a: 1\nlab{c}els: 1\n")), [(Code::Character, 2, 4)]);
        assert_eq!(refused(&format!("a:\n{c}{c}b: 1\n")), [(Code::Character, 2, 1)], "as indentation");
        assert_eq!(refused(&format!("a: b{c}# no comment\n")), [(Code::Character, 1, 5)]);
        assert_eq!(refused(&format!("a: b#{c}\n")), [(Code::Character, 1, 6)], "no comment either");
        assert_eq!(refused(&format!("a: 'b{c}c'{c}# x\n")), [(Code::Character, 1, 9)], "behind the quotes");
        assert_eq!(refused(&format!("a: {{b: \"{c}\",{c}c: d}}\n")), [(Code::Character, 1, 12)]);
        assert_eq!(
            refused(&format!("{{a: \"x # y\", b: c{c}d}}\n")),
            [(Code::Character, 1, 18)],
            "no comment in quotes"
        );
        assert_eq!(refused(&format!("a: |\n  b\nc:{c}d\n")), [(Code::Character, 3, 3)], "behind the block");
        assert_eq!(refused(&format!("# a{c}b\na: b # c{c}\n #{c}\n")), []);
        for quoted in [
            format!("'é{c}b'"),
            format!("\"b\r\n  日本{c}{c}\""),
            format!("|\n  {c}b\n  é{c}"),
            format!(">-\n  a\n\n  {c}"),
        ] {
            assert_eq!(refused(&format!("x: é\na: {quoted}\nc: 'é{c}'\n")), [], "{quoted}");
        }
    }
}

#[test]
fn emoji_keep_what_joins_them_and_letters_do_not() {
    for good in
        ["⚠\u{fe0f} slow", "👨\u{200d}💻", "🏳\u{fe0f}\u{200d}🌈", "1\u{fe0f}\u{20e3}", "©\u{fe0e}", "👩🏽\u{200d}🚀"]
    {
        assert_eq!(refused(&format!("# {good}\ndescription: {good}\n")), [], "{good}");
    }
    for bad in [
        "fi\u{200d}o",
        "fio\u{fe0f}",
        "👨\u{200d}x",
        "x\u{200d}👨",
        "1\u{fe0f}",
        "⚠\u{fe0f}\u{fe0f}",
        "\u{200d}💻",
        "💻\u{200d}",
    ] {
        assert_eq!(refused(&format!("comm: '{bad}'\n")).len(), 1, "{bad:?}");
    }
}

#[test]
fn the_message_shows_the_character_and_what_to_write() {
    let message = |text: &str| check(text).remove(0).message;
    let shown = message("# a\u{2028}b");
    assert!(shown.starts_with("U+2028 LINE SEPARATOR: only some YAML readers end the line here"), "{shown}");
    assert!(shown.ends_with(r"write `\u2028` in double quotes"), "{shown}");
    assert!(message("\u{1b}[2J").contains(r"U+001B ESCAPE is a control character; remove it or write `\u001b`"));
    assert!(message("\u{e0041}").contains(r"write `\U000e0041`"));
    assert!(message("v\0e\0").contains("UTF-16"));
    assert!(message("a: \u{202e}").contains("changes the order"));
    assert!(parse("a: \u{a0}x").1[0].message.contains("U+00A0 NO-BREAK SPACE is not a space in YAML"));
}

#[test]
fn a_binary_file_has_a_bounded_number_of_problems() {
    assert_eq!(check(&"\0\n".repeat(1000)).len(), MAX_LINES);
    assert_eq!(check("\0\0\0\n\0").len(), 2, "one a line");
}

#[test]
fn values_from_elsewhere_may_have_any_space_and_nothing_invisible() {
    assert_eq!(of_value("a\u{a0}b\u{3000}c ⚠\u{fe0f}"), None);
    assert_eq!(of_value("a\u{202e}").as_deref(), Some("U+202E RIGHT-TO-LEFT OVERRIDE"));
    assert_eq!(of_value("a\nb").as_deref(), Some("U+000A"));
    assert_eq!(of_value("a\tb").as_deref(), Some("U+0009"));
    assert_eq!(of_value("fi\u{200d}o").as_deref(), Some("U+200D ZERO WIDTH JOINER"));
}
