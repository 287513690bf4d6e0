//! Texts as trees with places, and texts that are refused.

use super::*;

#[track_caller]
fn problem(text: &str, code: Code) -> (usize, usize, String) {
    let (_, problems) = parse(text);
    let [Diagnostic { code: found, place, message }] = problems.as_slice() else { panic!("one: {problems:?}") };
    assert_eq!(*found, code, "{message}");
    (place.line, place.column, message.clone())
}

fn good(text: &str) -> Node {
    let (root, problems) = parse(text);
    assert_eq!(problems, []);
    root.expect("it is YAML")
}

#[test]
fn keys_and_values_know_their_places() {
    let root = good("a: 1\nb:\n  - x\n  - {c: 'd'}\n");
    let path = [TreeStep::Key("b"), TreeStep::Index(1), TreeStep::Key("c")];
    assert_eq!(root.at(&path).place, Place::new(4, 9, 3));
    assert_eq!(root.key_at(&path), Place::new(4, 6, 1));
    assert_eq!(root.at(&[TreeStep::Key("b"), TreeStep::Index(7)]).place.line, 3, "what is not there: its parent");
}

#[test]
fn what_the_two_parsers_could_read_differently_is_refused() {
    let twice = problem("a: 1\nb: 2\na: 3\n", Code::KeyTwice);
    assert_eq!((twice.0, twice.1), (3, 1));
    assert!(twice.2.starts_with("`a` is here twice, first on line 1"), "{}", twice.2);
    assert!(problem("a: 1\n---\nb: 2\n", Code::Documents).2.contains("second document"));
    assert!(problem("x: &x {a: 1}\ny:\n  <<: *x\n", Code::MergeKey).2.contains("merge keys"));
    assert_eq!(problem("t: {{ ts }}\n", Code::Unquoted).1, 4);
    assert_eq!(problem("t: {{ ts }} x\n", Code::Unquoted).1, 4);
    assert_eq!(problem("a: [{{ ts }} x]\n", Code::Unquoted).1, 5);
    assert_eq!(problem("a: !!str 1\n", Code::Tag).0, 1);
    assert_eq!(problem("[a]: 1\n", Code::WrongType).0, 1);
    assert!(problem("", Code::Empty).2.contains("empty"));
    assert!(problem("---\n", Code::Empty).2.contains("empty"));
}

#[test]
fn anchors_work_and_bombs_do_not() {
    let root = good("x: &x [1, 2]\ny: *x\n");
    assert!(matches!(&root.get("y").unwrap().value, Value::List(items) if items.len() == 2));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb += &format!("a{i}: &a{i} [{list}]\n");
    }
    assert!(problem(&bomb, Code::Alias).2.contains("expand to more than"));
    assert_eq!(problem("a: &a [*a]\n", Code::Alias).1, 8);
}

#[test]
fn what_is_nested_without_end_is_refused_at_once() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", "")] {
        let text = open.repeat(100_000) + &close.repeat(100_000);
        problem(&text, Code::TooDeep);
    }
    let mut chain = format!("a0: &a0 {}x{}\n", "[".repeat(40), "]".repeat(40));
    chain += "a1: [[[[[[[[[[[[[[[[[[[[[[[[[[*a0]]]]]]]]]]]]]]]]]]]]]]]]]]\n";
    problem(&chain, Code::Alias);
}

#[test]
fn all_that_can_be_told_at_once_is_told() {
    let (root, problems) = parse("a: 1\na: 2\nb: {<<: x}\nc: {{ x }}\nd: !x y\n");
    let codes: Vec<Code> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, [Code::KeyTwice, Code::MergeKey, Code::Unquoted, Code::Tag]);
    assert!(root.is_some());
}
