//! The limit of open files. If it is too low for the load of a program, the kernel's error has another text.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, Result};
use crate::plan::Plan;

/// The hint for a limit that is too low.
pub const MORE_DESCRIPTORS: &str = "raise the limit of open files: `ulimit -n`, systemd: LimitNOFILE=";

/// Descriptors that every run opens: standard streams, signals, clocks, the queue's ends, the report and the lock.
const EVERY_RUN: u64 = 20;

/// Descriptors of a probe besides its hooks: the maps that every program has.
const EVERY_PROBE: u64 = 4;

/// Raises the soft limit to the hard limit.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // If this fails, the limit is unchanged
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// Checks that the limit is high enough for `plan`. A run can require more: for perf buffers on many CPUs, and for
/// maps.
///
/// # Errors
/// If the limit is certainly too low.
pub fn check_open_files(plan: Option<&Plan>) -> Result<()> {
    let probe = |hooks: usize| EVERY_PROBE + 2 * hooks as u64; // a program and its link
    let probes = plan.map_or_else(|| probe(1), |plan| plan.probes.iter().map(|one| probe(one.hooks.len())).sum());
    let least = EVERY_RUN + probes + plan.map_or(0, |plan| plan.sinks.len() as u64);
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < least => {
            let what = format!("the limit of open files is {limit}, and this run needs at least {least}");
            Err(Error::failed(what).hint(MORE_DESCRIPTORS))
        }
        _ => Ok(()),
    }
}
