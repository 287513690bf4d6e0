//! The only module that calls bpf(2): loading, attaching, ring buffers, counters, and what to say when that fails.

mod explain;
mod host;
mod log;
mod probe;
mod ring;

pub use host::Host;
pub use probe::{Counters, Loaded};
pub use ring::Ring;
