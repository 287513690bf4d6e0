//! The `window` block: when a capture starts, when it ends, and what keeps two runs apart.

use serde::Deserialize;

use super::quantity::{Bytes, Nanoseconds};

/// When a capture starts and ends. Without a limit it runs until it is interrupted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// End after this time, counted from the start of the window.
    pub duration: Option<Nanoseconds>,
    /// End after this many events of all probes together.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub max_events: Option<u64>,
    /// End after this many bytes in all sinks together.
    pub max_bytes: Option<Bytes>,
    /// Start the window this long after all probes are attached. Events before that are counted and not recorded.
    pub warmup: Option<Nanoseconds>,
    /// Longest time to drain the sinks at the end; records left then are discarded and counted. Default: no limit.
    pub drain: Option<Nanoseconds>,
    /// Path of a lock file that a run holds, a template of `name`, `host` and `labels`. `${NAME}` is replaced by an environment
    /// variable.
    #[cfg_attr(test, schemars(extend("x-environment" = true)))]
    pub lock: Option<String>,
    /// What to do when another run holds the lock. Default: skip.
    pub on_locked: Option<OnLocked>,
    /// Start after a random delay of up to this time.
    pub splay: Option<Nanoseconds>,
    /// Start at the next whole multiple of this time (UTC): `1min` starts at a full minute.
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
    /// Fail: exit code 1.
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
