//! The only module that calls bpf(2): loading, attaching, ring buffers, counters, and what to say when that fails.

mod aggregate;
mod buffer;
mod choice;
mod decide;
mod explain;
mod facts;
mod followed;
pub(crate) mod host;
mod in_flight;
mod log;
mod outlook;
mod perf;
mod perf_events;
mod places;
mod probe;
mod prog_info;

pub use aggregate::{AggregateMap, Entry};
pub use buffer::Buffer;
pub use choice::Verdict;
pub use facts::{Facts, Tracefs};
pub use followed::FollowedValues;
pub use host::Host;
pub use outlook::{HookState, Outlook, outlook};
pub use places::Kernel;
pub use probe::{Counters, Loaded};
