use super::*;

fn file(content: &str) -> Text {
    Text::new(TextKind::Config, "x.yaml", content)
}

#[test]
fn the_caret_stands_under_the_culprit() {
    let place = Place::new(2, 3, 5);
    let shown = render(&[file("a: 1\n  buffr: 2\n")], &[Diagnostic::new(Code::UnknownKey, place, "unknown key")]);
    assert_eq!(shown, "x.yaml:2:3: E010 unknown key\n     2 |   buffr: 2\n       |   ^^^^^");
}

#[test]
fn the_caret_stands_there_behind_wide_letters_too() {
    let place = Place::new(1, 5, 1);
    let shown = render(&[file("日本: x\n")], &[Diagnostic::new(Code::NotYaml, place, "no")]);
    assert_eq!(shown, "x.yaml:1:5: E002 no\n     1 | 日本: x\n       |       ^");
}

#[test]
fn the_caret_stands_under_what_is_shown_as_an_escape() {
    let text = file("a\u{202e}b\u{200b}: x\n");
    let shown = render(&[text], &[Diagnostic::new(Code::Character, Place::new(1, 4, 1), "no")]);
    let (line, caret) = (r"     1 | a\u{202e}b\u{200b}: x", "       |           ^^^^^^^^");
    assert_eq!(shown, format!("x.yaml:1:4: E100 no\n{line}\n{caret}"));
}

#[test]
fn near_names_are_suggested_and_far_ones_are_not() {
    assert_eq!(suggest("buffr", ["buffer", "maps"]), ", did you mean `buffer`? (known: buffer, maps)");
    assert_eq!(suggest("Comm", ["comm"]), ", did you mean `comm`? (known: comm)");
    assert_eq!(suggest("xyz", ["buffer"]), " (known: buffer)");
    assert_eq!(suggest("pdi", ["pid"]), ", did you mean `pid`? (known: pid)", "swapped letters");
}
