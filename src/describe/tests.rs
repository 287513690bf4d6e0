use super::*;
use crate::catalog::Catalog;

#[test]
fn a_long_list_is_cut_and_says_where_all_of_it_is() {
    let program = Catalog::embedded().program("syscount").unwrap().unwrap();
    let (whole, part) = (text(&program), one(&program, "syscall").unwrap());
    assert!(whole.contains(" read write open close ") && whole.contains("… (all: ebpf-run describe syscount.syscall)"));
    assert!(!whole.contains(" io_uring_setup") && part.contains(" io_uring_setup"), "{whole}");
}

#[test]
fn every_program_is_described_whole() {
    let catalog = Catalog::embedded();
    for name in catalog.names() {
        let program = catalog.program(name).expect("listed").expect("sound");
        let (text, json) = (text(&program), json(&program));
        assert!(since(&program).is_some(), "{name}: a kind of hook that SINCE does not know");
        for filter in &program.filters {
            assert!(text.contains(&format!("\n  {:<16} {}\n", filter.name, filter.doc)), "{name}: {text}");
        }
        for hook in &program.hooks {
            assert!(text.contains(&format!("\n  {}", hook.section)), "{name}: {text}");
        }
        assert_eq!(json["filters"].as_array().map(Vec::len), Some(program.filters.len()));
        assert!(text.contains("Example: ebpf-run "), "{name} has an example");
        assert!(text.contains("\nKernels (docs/reference/kernels.md)\n  "), "{name}: {text}");
        for aspect in program.accuracy.aspects() {
            let (label, phrases) = (aspect.label, aspect.phrases);
            assert!(text.contains(&format!("\n  {label:<16} {}\n", phrases[0])), "{name}: {text}");
            assert_eq!(json["accuracy"][aspect.name], serde_json::json!(phrases), "{name}: {label}");
        }
        assert_eq!(text.contains("\n  not measured\n"), json["cost"].is_null(), "{name}: {text}");
        for (part, _) in parts(&program) {
            assert!(one(&program, &part).is_some(), "{name}.{part}");
        }
        assert_eq!(one(&program, "no-such-part"), None);
    }
}

#[test]
fn optional_hooks_do_not_count() {
    let program = Catalog::embedded().program("biosnoop").expect("listed").expect("sound");
    assert_eq!(since(&program), Some("5.5"));
    let text = text(&program);
    assert!(text.starts_with("biosnoop: "), "{text}");
    assert!(text.contains("tp_btf/block_io_start            optional"), "{text}");
    let json = json(&program);
    assert_eq!(json["filters"][0]["takes"], "time (10ms)");
    assert_eq!((&json["since_linux"], &json["oldest_tested"]), (&"5.10".into(), &"5.10".into()));
    assert!(text.contains("\n  since 5.10, the oldest kernel tested\n  5.10 ok, 6.1 ok, "), "{text}");
}
