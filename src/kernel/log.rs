//! libbpf's messages: kept, and used when a step fails. If they were printed directly, the error message would be lost
//! in a verifier log.

use std::sync::Mutex;

use libbpf_rs::{PrintLevel, set_print};

static LINES: Mutex<String> = Mutex::new(String::new());
/// A verifier log can be megabytes long; the reason is at its end.
const KEEP: usize = 64 << 10;

fn keep(_: PrintLevel, text: String) {
    let mut lines = LINES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    lines.push_str(&text);
    if lines.len() > 2 * KEEP {
        let from = lines.len() - KEEP;
        let from = (from..).find(|&at| lines.is_char_boundary(at)).unwrap_or(from);
        lines.drain(..from);
    }
}

/// Keeps libbpf's messages from now on.
pub(super) fn start() {
    take();
    set_print(Some((PrintLevel::Info, keep)));
}

/// The messages since the last call.
pub(super) fn take() -> String {
    std::mem::take(&mut LINES.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}
