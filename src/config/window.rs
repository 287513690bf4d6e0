//! The `window` block: when a capture starts, when it ends, and what keeps two runs apart.

use serde::Deserialize;

use super::quantity::{Bytes, Nanoseconds};

/// When a capture starts and ends. Without a limit it runs until it is interrupted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// End after this time, counted from the start of the window. Default: none.
    pub duration: Option<Nanoseconds>,
    /// End after this number of events of all probes together. Default: none.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub max_events: Option<u64>,
    /// End with the record that reaches this size in all sinks together (64 KiB more in a `csv` sink, which is
    /// measured when it is flushed). Default: none.
    pub max_bytes: Option<Bytes>,
    /// Start the window this long after all probes are attached. Events before are counted (`warmup` in the report)
    /// and not written; their losses do not count. Default: none.
    pub warmup: Option<Nanoseconds>,
    /// At the end, wait this long for buffers and sinks. The rest is discarded: files are incomplete, and the exit
    /// code is 1. Compression comes later and is not limited. Default: no limit.
    pub drain: Option<Nanoseconds>,
    /// Path of a file that a run locks (flock) from before it waits for its start until its report is written. A
    /// template of `name`, `host` and `labels`; `${NAME}` is a variable of the environment. Default: none.
    #[cfg_attr(test, schemars(extend("x-environment" = true)))]
    pub lock: Option<String>,
    /// What to do when another run holds the lock. Default: skip.
    pub on_locked: Option<OnLocked>,
    /// Start at a random moment within this time, after `align`. Default: at once.
    pub splay: Option<Nanoseconds>,
    /// Start at a multiple of this time on the clock (UTC): `1min` is the full minute. Default: at once.
    pub align: Option<Nanoseconds>,
}

/// What to do when another run holds the lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnLocked {
    /// Skip this window: exit code 6.
    #[default]
    Skip,
    /// Wait until the other run has ended.
    Wait,
    /// Exit code 1.
    Fail,
}

impl OnLocked {
    /// The word for it in a config.
    pub fn name(self) -> &'static str {
        match self {
            OnLocked::Skip => "skip",
            OnLocked::Wait => "wait",
            OnLocked::Fail => "fail",
        }
    }
}

impl Window {
    /// The keys that have a value.
    pub fn keys(&self) -> Vec<&'static str> {
        let all = [
            ("duration", self.duration.is_some()),
            ("max_events", self.max_events.is_some()),
            ("max_bytes", self.max_bytes.is_some()),
            ("warmup", self.warmup.is_some()),
            ("drain", self.drain.is_some()),
            ("lock", self.lock.is_some()),
            ("on_locked", self.on_locked.is_some()),
            ("splay", self.splay.is_some()),
            ("align", self.align.is_some()),
        ];
        all.into_iter().filter(|(_, there)| *there).map(|(key, _)| key).collect()
    }

    /// The keys of `over`, and of this window where `over` has none.
    pub fn overridden_by(&self, over: &Window) -> Window {
        Window {
            duration: over.duration.or(self.duration),
            max_events: over.max_events.or(self.max_events),
            max_bytes: over.max_bytes.or(self.max_bytes),
            warmup: over.warmup.or(self.warmup),
            drain: over.drain.or(self.drain),
            lock: over.lock.clone().or_else(|| self.lock.clone()),
            on_locked: over.on_locked.or(self.on_locked),
            splay: over.splay.or(self.splay),
            align: over.align.or(self.align),
        }
    }
}
