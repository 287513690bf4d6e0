//! All tests that use the crate or its binary from outside, as one program: what they share is compiled and linked once.
//!
//! The tests in `live` need root and a kernel; all others need neither. scripts/test-runner runs the two parts accordingly.

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
mod rehearsal;
mod streams;
mod together;

// What the live tests share with each other goes by `crate::`, as what all share does
use live::{capture, disk, load, net, root, sched, task_filters, variants, windows, words};
