//! The binary at work: real programs in this kernel, loads that the tests make, and what must be in the output after it.
//!
//! Needs root, and says so where it isn't; with EBPF_RUN_REQUIRE_ROOT set, it fails instead. Whatever else the machine
//! does is filtered out, by commands and processes that only a test can have.

mod accounting;
mod aggregates;
mod alternatives;
mod biolatency;
mod biopattern;
mod biosnoop;
mod biostacks;
mod buffers;
mod cachestat;
pub mod capture;
mod clock;
mod cpus;
pub mod disk;
mod disk_faults;
mod doctor;
mod ends;
mod execsnoop;
mod execsnoop_filters;
mod exitsnoop;
mod files;
mod floods;
mod host_data;
mod limits;
mod llcstat;
pub mod load;
mod locks;
mod loss;
mod names;
pub mod net;
mod nullblk;
mod offcputime;
mod oomkill;
mod opensnoop;
mod pages;
mod peers;
mod privileges;
mod profile;
mod rights;
mod runqlat;
mod runqslower;
mod same_path;
pub mod sched;
mod set;
mod sigsnoop;
mod sinks;
mod soak;
mod stacks;
mod streams;
mod symbols;
mod syscount;
pub mod task_filters;
mod tcpconnect;
mod tcplife;
mod unattended;
pub mod variants;
pub mod windows;
pub mod words;

use crate::common::is_root;

/// Whether a test can run; if not, it has said why.
pub fn root() -> bool {
    if is_root() {
        return true;
    }
    assert!(std::env::var_os("EBPF_RUN_REQUIRE_ROOT").is_none(), "EBPF_RUN_REQUIRE_ROOT is set, and this is not root");
    let thread = std::thread::current();
    eprintln!("SKIPPED {}: loading eBPF programs needs root", thread.name().unwrap_or_default());
    false
}
