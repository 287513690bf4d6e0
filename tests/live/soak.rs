//! Seven windows of `scripts/soak`, each with another fault. `make soak` goes on for twenty minutes.

use std::process::{Command, Stdio};

use crate::common::{BINARY, run};
use crate::root;

/// The first seven windows of this seed have all seven faults.
const SEED: &str = "72";

#[test]
fn windows_with_faults_leave_what_can_be_trusted_and_nothing_else() {
    if !root() {
        return;
    }
    for tool in ["python3", "bpftool"] {
        let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            eprintln!("SKIPPED: the soak needs the program `{tool}`");
            return;
        }
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/soak");
    let mut soak = Command::new(script);
    soak.args(["--windows", "7", "--window", "2", "--seed", SEED, "--opens", "3000", "--binary", BINARY]);
    let ended = run(&mut soak);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    for fault in ["none", "kill", "term", "full disk", "slow sink", "closed pipe", "locked"] {
        assert!(ended.stdout.contains(&format!(": {fault}: exit code ")), "{fault}: {}", ended.stdout);
    }
}
