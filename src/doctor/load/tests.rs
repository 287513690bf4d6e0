use super::*;
use crate::catalog::Catalog;

#[test]
fn every_load_causes_events() {
    for load in Load::ALL {
        let effect = effect(load);
        assert!(effect.events >= 10 && !effect.noun.is_empty(), "{load:?}: {effect:?}");
    }
}

#[test]
fn the_page_lists_loads_programs_and_events() {
    let page = include_str!("../../../docs/reference/doctor.md");
    let catalog = Catalog::embedded();
    let programs = catalog.names().map(|name| catalog.program(name).expect("it is there").expect("it is sound"));
    let programs: Vec<_> = programs.collect();
    for load in Load::ALL {
        let begin = format!("| `{}` | ", load.name());
        let line = page.lines().find(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("no line: {begin}"));
        let of: Vec<String> = programs
            .iter()
            .filter(|program| program.load == Some(load))
            .map(|program| format!("`{}`", program.name))
            .collect();
        let LoadEffect { events, exact, .. } = effect(load);
        let end = format!(" | {} | {}{events} |", of.join(" "), if exact { "" } else { "at least " });
        assert!(!of.is_empty() && line.ends_with(&end), "{line}\n{end}");
    }
}

#[test]
fn output_of_a_failed_process_is_the_reason() {
    let words = |program: &str| ReadyLoad::start(Load::Open, Path::new(program)).expect_err("it is no such program");
    assert!(words("/nonexistent").contains("No such file"));
    // It prints its arguments, and ends
    assert_eq!(words("/bin/echo"), format!("{REQUEST} open"));
    assert_eq!(words("/bin/true"), "its process ended too early");
}
