//! CPU priority of the reader and the other threads.

use std::sync::OnceLock;

use rustix::process::{getpriority_process, setpriority_process};

/// As `nice -n -15` sets it.
const READER: i32 = -15;

/// The priority at the start of this process.
static USUAL: OnceLock<i32> = OnceLock::new();

/// Raises the priority of the calling thread, the reader: it uses little CPU time, but while it waits for a CPU the
/// buffer fills. Without the permission the priority is unchanged.
pub fn raise_reader_priority() {
    if let Ok(usual) = getpriority_process(None) {
        let _ = USUAL.set(usual);
        let _ = setpriority_process(None, READER);
    }
}

/// Restores the usual priority of a thread that the reader started; its input waits in a queue.
pub fn restore_priority() {
    if let Some(usual) = USUAL.get() {
        let _ = setpriority_process(None, *usual);
    }
}
