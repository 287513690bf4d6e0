//! The only module that calls bpf(2): loads and attaches programs, reads buffers and counters, and explains errors.

mod aggregate;
mod buffer;
mod choice;
mod decide;
mod explain;
pub(crate) mod host;
mod host_capabilities;
mod in_flight;
mod kernel_info;
mod live_variables;
mod log;
mod perf;
mod perf_events;
mod preflight;
mod probe;
mod prog_info;

pub use aggregate::{AggregateMap, MapEntry};
pub use buffer::EventBuffer;
pub use choice::Verdict;
pub use host::Host;
pub use host_capabilities::{HostCapabilities, Tracefs};
pub use kernel_info::KernelInfo;
pub use live_variables::LiveVariables;
pub use preflight::{HookState, Preflight, preflight};
pub use probe::{Counters, Loaded};
