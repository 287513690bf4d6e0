//! How long a check of a thousand configs takes, from exec to exit: `cargo bench --bench check`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

fn main() {
    let folder = tempfile::tempdir().expect("a directory");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = ["probes.d", "examples"].iter().flat_map(|name| fs::read_dir(root.join(name)).expect("it exists"));
    let shipped: Vec<_> = shipped.map(|entry| entry.expect("an entry").path()).collect();
    for i in 0..1000 {
        let from = &shipped[i % shipped.len()];
        fs::copy(from, folder.path().join(format!("{i}.yaml"))).expect("copied");
    }
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            let start = Instant::now();
            let done = Command::new(env!("CARGO_BIN_EXE_ebpf-run")).arg("check").arg(folder.path()).status();
            assert!(done.expect("it runs").success());
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("1000 configs: {:.0?} (median of 5; {:.0?} to {:.0?})", times[2], times[0], times[4]);
}
