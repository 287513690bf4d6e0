//! The only module that calls bpf(2): loading, attaching, ring buffers, counters, and what to say when that fails.

mod buffer;
mod explain;
mod host;
mod log;
mod misses;
mod perf;
mod probe;

pub use buffer::Buffer;
pub use host::Host;
pub use probe::{Counters, Loaded};
