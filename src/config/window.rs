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
    /// End after so many events of all probes together.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub max_events: Option<u64>,
    /// End after so many bytes in all sinks together.
    pub max_bytes: Option<Bytes>,
    /// Start the window so long after every probe is attached; events until then are counted and not recorded.
    pub warmup: Option<Nanoseconds>,
    /// How long the end may take: what the sinks have not taken by then is given up. Default: as long as they need.
    pub drain: Option<Nanoseconds>,
    /// A file that a run holds while it runs, a template of `name`, `host` and `labels`; `${NAME}` stands for a variable
    /// of the environment.
    #[cfg_attr(test, schemars(extend("x-environment" = true)))]
    pub lock: Option<String>,
    /// What to do if another run holds the lock. Default: skip.
    pub on_locked: Option<OnLocked>,
    /// Start at a random moment within this time.
    pub splay: Option<Nanoseconds>,
    /// Start when the clock (UTC) shows a whole multiple of this: `1min` for full minutes.
    pub align: Option<Nanoseconds>,
}

/// What to do if another run holds the lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnLocked {
    /// Do without this window: exit code 6.
    #[default]
    Skip,
    /// Wait until the other run has ended.
    Wait,
    /// It is an error: exit code 1.
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

    /// What `over` says, and where it says nothing, what this says.
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
