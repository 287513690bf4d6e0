use std::collections::BTreeSet;

use super::*;
use crate::catalog::{Catalog, configs, program_of};

#[test]
fn kernels_have_verdicts_and_reasons() {
    let known = ["ok", "fallback", "unsupported", "broken", "tests fail"];
    for config in all_tested() {
        assert_eq!(program_of(&config.config), Some(config.program.as_str()), "{}", config.config);
        let kernels: Vec<&str> = config.kernels.iter().map(|tested| tested.kernel.as_str()).collect();
        assert_eq!(kernels, ["5.10", "6.1", "6.12", "newest"], "{}", config.config);
        for tested in &config.kernels {
            assert!(known.contains(&tested.verdict.as_str()), "{}: {tested:?}", config.config);
            let needs_none = matches!(tested.verdict.as_str(), "ok" | "tests fail");
            assert_eq!(tested.reason.is_none(), needs_none, "{}: {tested:?}", config.config);
        }
    }
    let tried: BTreeSet<String> = all_tested().into_iter().map(|config| config.config).collect();
    // A new config is not in the data before `make test-kernels` has run
    assert!(tried.iter().all(|name| configs().iter().any(|(known, _)| known == name)), "{tried:?}");
    assert_eq!(tested("biosnoop").len(), 4);
    assert_eq!(tested("none"), []);
}

#[test]
fn a_program_that_did_not_run_is_known_as_such() {
    let verdicts = ["ok", "fallback", "unsupported", "broken", "tests fail"];
    let ran = verdicts.map(|verdict| Tested { kernel: "5.10".into(), verdict: verdict.into(), reason: None }.ran());
    assert_eq!(ran, [true, true, false, false, false]);
}

#[test]
fn costs_are_of_programs() {
    let catalog = Catalog::embedded();
    let measured = costs("opensnoop").expect("it was measured");
    assert!(measured.how.contains("kernel 6.") && measured.how.contains("20"), "{}", measured.how);
    assert!(measured.command.starts_with("sudo -E cargo bench"), "{}", measured.command);
    assert!(all_costs().costs.iter().all(|cost| catalog.names().any(|name| name == cost.program)));
    assert_eq!(costs("none"), None);
}
