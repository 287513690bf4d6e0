//! Transfers records from the kernel's buffers and maps to the sinks: the reader, the queue, and the writer thread.

pub(crate) mod aggregate_poller;
pub(crate) mod batch;
pub(crate) mod delta;
pub(crate) mod loss_tracker;
pub(crate) mod priority;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod reader;
mod reorder;
pub(crate) mod stale_entries;
pub(crate) mod writer;
