//! libbpf's own words: kept back, and looked at when something fails. Printed as they come they would bury our message
//! under a verifier log.

use std::sync::Mutex;

use libbpf_rs::{PrintLevel, set_print};

static LINES: Mutex<String> = Mutex::new(String::new());
/// A verifier log can be megabytes long; its end is what matters.
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

/// From now on libbpf's messages are kept.
pub(super) fn start() {
    take();
    set_print(Some((PrintLevel::Info, keep)));
}

/// What has been kept since the last time.
pub(super) fn take() -> String {
    std::mem::take(&mut LINES.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}
