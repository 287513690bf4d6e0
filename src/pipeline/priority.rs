//! Whose turn it is: the reader's before others'.

use std::sync::OnceLock;

use rustix::process::{getpriority_process, setpriority_process};

/// As `nice -n -15` would start it.
const READER: i32 = -15;

/// What this process was started with.
static USUAL: OnceLock<i32> = OnceLock::new();

/// This thread, from now on the reader, goes before others: it has little to do, but while it waits for a CPU the buffer
/// fills. Where this is not permitted, it goes without.
pub fn raise_reader_priority() {
    if let Ok(usual) = getpriority_process(None) {
        let _ = USUAL.set(usual);
        let _ = setpriority_process(None, READER);
    }
}

/// A thread that the reader has started takes its usual place; what it works on waits in a queue.
pub fn restore_priority() {
    if let Some(usual) = USUAL.get() {
        let _ = setpriority_process(None, *usual);
    }
}
