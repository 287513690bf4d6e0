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
mod capture;
mod clock;
#[allow(dead_code)] // what the tests without root need
#[path = "../docs/commands.rs"]
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod disk;
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
mod load;
mod locks;
mod loss;
#[allow(dead_code)] // what the tests without root need
#[path = "../docs/markdown.rs"]
mod markdown;
mod names;
mod net;
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
mod sched;
mod set;
mod sigsnoop;
mod sinks;
mod soak;
mod stacks;
mod streams;
mod symbols;
mod syscount;
mod task_filters;
mod tcpconnect;
mod tcplife;
mod unattended;
mod variants;
mod windows;
mod words;

/// Whether a test can run; if not, it has said why.
fn root() -> bool {
    if common::is_root() {
        return true;
    }
    assert!(std::env::var_os("EBPF_RUN_REQUIRE_ROOT").is_none(), "EBPF_RUN_REQUIRE_ROOT is set, and this is not root");
    let thread = std::thread::current();
    eprintln!("SKIPPED {}: loading eBPF programs needs root", thread.name().unwrap_or_default());
    false
}
