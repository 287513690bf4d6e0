//! `ebpf-run` runs eBPF captures that a YAML file describes.
//!
//! ```text
//! config ─► plan ─► load ─► attach ─► poll ─► decode ─► format ─► sink ─► report
//! YAML      pure    └────── kernel ───────┘   event     └─── output ────┘
//! ```
//!
//! `config`, `catalog` and `plan` are pure: they read files and bytes and make no BPF calls. Only `kernel` calls
//! bpf(2).
//! See `docs/explanation/architecture.md`.

pub mod catalog;
pub mod check;
pub mod cli;
pub mod config;
mod console;
pub mod describe;
pub mod doctor;
pub mod emit;
pub mod error;
pub mod event;
mod files;
pub mod fixture;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod kernel;
pub mod output;
mod pipeline;
pub mod plan;
#[cfg(test)]
mod reference;
pub mod report;
pub mod run;
#[cfg(test)]
mod schema;
mod stdio;
pub mod symbols;
