//! The limit of open files. Where the kernel finds it too low while a program is loaded, its error is about something else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, Result};
use crate::plan::Plan;

/// What to do where the limit is too low.
pub const MORE_DESCRIPTORS: &str = "raise the limit of open files: `ulimit -n`, systemd: LimitNOFILE=";

/// Descriptors that every run has open: standard streams, signals, clocks, the queue's ends, the report and the lock.
const EVERY_RUN: u64 = 20;

/// Those of a probe besides its hooks: the maps that every program has.
const EVERY_PROBE: u64 = 4;

/// Raises the limit as far as this process may, because nothing here depends on a low one.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where that fails, the limit stays what it is
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// Whether the limit is high enough for `plan`. More may be needed: for perf buffers on many CPUs, and for maps.
///
/// # Errors
/// If it is certainly not.
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
