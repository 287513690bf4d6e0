//! The dependencies, from cargo's metadata.

use std::collections::BTreeSet;
use std::process::Command;

use crate::common::run;

/// Each package with the features that `edges` requests.
fn packages(edges: &str) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p} {f}", "--edges", edges]);
    let tree = run(command.current_dir(env!("CARGO_MANIFEST_DIR"))).expect(0).stdout;
    let packages: BTreeSet<_> = tree.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect();
    assert!(packages.len() > 20, "{tree}");
    packages
}

/// Otherwise `make test` would build again what `make run` has built.
#[test]
fn the_tests_ask_for_no_other_features_than_the_binary() {
    let with_tests = packages("normal,dev");
    let built_twice: Vec<_> = packages("normal").into_iter().filter(|package| !with_tests.contains(package)).collect();
    assert!(
        built_twice.is_empty(),
        "the [dev-dependencies] add features to {built_twice:#?}: add them to [dependencies]"
    );
}
