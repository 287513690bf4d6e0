//! The options of the window: each goes over the config's key of the same name.

use clap::Args;

use crate::config::quantity::{Bytes, Nanoseconds, parse_duration, parse_size};
use crate::config::window::{OnLocked, Window};

#[derive(Debug, Clone, Default, Args)]
pub(super) struct WindowArgs {
    /// End after this time (10s, 5min), whatever the config says
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    duration: Option<Nanoseconds>,
    /// End after so many events of all probes together
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    max_events: Option<u64>,
    /// End after so many bytes in all sinks together (100MiB)
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    max_bytes: Option<Bytes>,
    /// Record nothing for this time after the probes are attached
    #[arg(long, value_name = "TIME", value_parser = time)]
    warmup: Option<Nanoseconds>,
    /// Give up what the sinks have not taken this long after the end
    #[arg(long, value_name = "TIME", value_parser = time)]
    drain: Option<Nanoseconds>,
    /// Run only if no other run holds this file
    #[arg(long, value_name = "FILE")]
    lock: Option<String>,
    /// What to do if another run does
    #[arg(long, value_enum, value_name = "WHAT")]
    on_locked: Option<OnLocked>,
    /// Start at a random moment within this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    splay: Option<Nanoseconds>,
    /// Start at a full multiple of this on the clock (1min)
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    align: Option<Nanoseconds>,
}

impl WindowArgs {
    /// What the command line says of the window.
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
        0 => Err("a window of no time catches nothing".into()),
        nanoseconds => Ok(Nanoseconds(nanoseconds)),
    }
}

fn some_bytes(text: &str) -> Result<Bytes, String> {
    match parse_size(text)? {
        0 => Err("a window of no bytes catches nothing".into()),
        bytes => Ok(Bytes(bytes)),
    }
}
