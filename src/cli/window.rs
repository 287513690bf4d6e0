//! The options of the window: each overrides the config's key of the same name.

use clap::Args;

use crate::config::quantity::{Bytes, Nanoseconds, parse_duration, parse_size};
use crate::config::window::{OnLocked, Window};

#[derive(Debug, Clone, Default, Args)]
pub(super) struct WindowArgs {
    /// End after this time (10s, 5min)
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    duration: Option<Nanoseconds>,
    /// End after this number of events of all probes
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    max_events: Option<u64>,
    /// End after this size in all sinks (100MiB)
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    max_bytes: Option<Bytes>,
    /// Discard the events of this time after the probes are attached
    #[arg(long, value_name = "TIME", value_parser = time)]
    warmup: Option<Nanoseconds>,
    /// At the end, wait this long for the sinks; discard what they have not accepted by then
    #[arg(long, value_name = "TIME", value_parser = time)]
    drain: Option<Nanoseconds>,
    /// Run only if no other run holds this lock file
    #[arg(long, value_name = "FILE")]
    lock: Option<String>,
    /// What to do if another run holds the lock file
    #[arg(long, value_enum, value_name = "WHAT")]
    on_locked: Option<OnLocked>,
    /// Start at a random moment within this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    splay: Option<Nanoseconds>,
    /// Start at a multiple of this time on the clock (1min)
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    align: Option<Nanoseconds>,
}

impl WindowArgs {
    /// The options as keys of `window`.
    pub fn window(&self) -> Window {
        Window {
            duration: self.duration,
            max_events: self.max_events,
            max_bytes: self.max_bytes,
            warmup: self.warmup,
            drain: self.drain,
            lock: self.lock.clone(),
            on_locked: self.on_locked,
            splay: self.splay,
            align: self.align,
        }
    }
}

fn time(text: &str) -> Result<Nanoseconds, String> {
    parse_duration(text).map(Nanoseconds)
}

fn some_time(text: &str) -> Result<Nanoseconds, String> {
    match parse_duration(text)? {
        0 => Err("it must be greater than 0; remove the option for no limit".into()),
        nanoseconds => Ok(Nanoseconds(nanoseconds)),
    }
}

fn some_bytes(text: &str) -> Result<Bytes, String> {
    match parse_size(text)? {
        0 => Err("it must be greater than 0; remove the option for no limit".into()),
        bytes => Ok(Bytes(bytes)),
    }
}
