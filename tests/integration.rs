//! All integration tests, as one program: shared code is compiled and linked once.
//!
//! The tests in `live` require root and a kernel; all others require neither. scripts/test-runner runs the two parts
//! accordingly.

mod architecture;
mod bad;
mod cli;
mod common;
mod dependencies;
mod docs;
mod doctor;
mod emit;
mod fuzz;
mod golden;
mod live;
mod offline;
mod pairs;
mod rehearsal;
mod reports;
mod streams;
mod together;

// The shared modules of the live tests are used by `crate::`, like those of all tests
use live::{capture, disk, load, net, root, sched, task_filters, variants, windows, words};
