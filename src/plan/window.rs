//! The window: when it starts and ends, resolved from the config and the command line.

use std::time::Duration;

use super::Planner;
use super::sinks::no_file;
use crate::config::diagnostic::Code;
use crate::config::model;
use crate::config::quantity::{Bytes, Nanoseconds};
use crate::config::window::{OnLocked, Window};
use crate::config::yaml::TreeStep::Key;
use crate::output::{PathPattern, template};

/// The longest delay of a start. A timer or cron starts what is to start later.
const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// When a capture starts and ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WindowPlan {
    /// End after this time.
    pub duration: Option<Duration>,
    /// End after so many events.
    pub max_events: Option<u64>,
    /// End after so many bytes in all sinks together.
    pub max_bytes: Option<u64>,
    /// Record nothing for this time after the probes are attached.
    pub warmup: Duration,
    /// How long the end may take; `None`: as long as the sinks need.
    pub drain: Option<Duration>,
    /// The template of the lock's path.
    pub lock: Option<String>,
    /// What to do if another run holds the lock.
    pub on_locked: OnLocked,
    /// Start at a random moment within this time.
    pub splay: Duration,
    /// Start when the clock shows a whole multiple of this.
    pub align: Option<Duration>,
    /// The keys that options of the command line gave.
    pub options: Vec<&'static str>,
}

impl WindowPlan {
    /// What ends the window, for a person: `after 30s`, `after 5 events`.
    pub fn ends(&self) -> Vec<String> {
        self.ends_from(&|_| String::new())
    }

    /// The same, with what `from` has to say of each key behind it.
    pub(super) fn ends_from(&self, from: &dyn Fn(&str) -> String) -> Vec<String> {
        let mut ends = Vec::new();
        let mut push = |key, what: Option<String>| ends.extend(what.map(|what| what + &from(key)));
        push("duration", self.duration.map(|duration| format!("after {}", Nanoseconds::from(duration))));
        push("max_events", self.max_events.map(|events| format!("after {events} events")));
        push("max_bytes", self.max_bytes.map(|bytes| format!("after {} written", Bytes(bytes))));
        ends
    }

    /// What comes before the window, for a person, with what `from` has to say of each key; `None` if it starts at once.
    pub(super) fn start_from(&self, from: &dyn Fn(&str) -> String) -> Option<String> {
        let mut parts = Vec::new();
        let mut push = |key, what: Option<String>| parts.extend(what.map(|what| what + &from(key)));
        let shown = |span| Nanoseconds::from(span).to_string();
        push("align", self.align.map(|align| format!("at a multiple of {} of the clock", shown(align))));
        let some = |span: Duration| Some(span).filter(|span| !span.is_zero());
        push("splay", some(self.splay).map(|span| format!("a random time of up to {} later", shown(span))));
        push("warmup", some(self.warmup).map(|span| format!("{} after the probes are attached", shown(span))));
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl Planner<'_> {
    pub(super) fn window(&mut self, over: &Window) -> WindowPlan {
        let config = &self.source.config.window;
        if config.duration == Some(Nanoseconds(0)) {
            let what = "`duration` must be greater than 0; remove it to run until interrupted";
            self.say(Code::Window, &[Key("window"), Key("duration")], what);
        }
        if config.max_bytes == Some(Bytes(0)) {
            let what = "`max_bytes` must be greater than 0; remove it for no limit";
            self.say(Code::Window, &[Key("window"), Key("max_bytes")], what);
        }
        for (key, span) in [("splay", config.splay), ("align", config.align), ("warmup", config.warmup)] {
            if span.is_some_and(|span| Duration::from(span) > MAX_DELAY) {
                self.say(Code::Window, &[Key("window"), Key(key)], format!("`{key}` must be at most 24h"));
            }
        }
        if config.align == Some(Nanoseconds(0)) {
            let what = "`align` must be greater than 0; remove it to start at once";
            self.say(Code::Window, &[Key("window"), Key("align")], what);
        }
        let lost = self.source.is_lost(&[Key("window")], "lock");
        let lock = config.lock.is_some() || over.lock.is_some() || lost || self.source.is_partial();
        if config.on_locked.is_some() && !lock {
            let what = "`on_locked` needs a `lock`: add one, or remove `on_locked`";
            self.say_key(Code::Lock, &[Key("window"), Key("on_locked")], what);
        }
        if let Some(lock) = &config.lock {
            let path = [Key("window"), Key("lock")];
            self.check_labels(&path, lock);
            for problem in template::check_global(lock) {
                self.say_template(&path, lock, problem);
            }
            if let Some(why) = no_file(lock) {
                self.say(Code::NoFile, &path, why);
            }
            if PathPattern::uses_start(lock) {
                let what = "with `start` in its path each run has a lock of its own: remove `start`";
                self.say(Code::Lock, &path, what);
            }
        }
        let window: model::Window = config.overridden_by(over);
        WindowPlan {
            duration: window.duration.map(Duration::from),
            max_events: window.max_events,
            max_bytes: window.max_bytes.map(|bytes| bytes.0),
            warmup: window.warmup.map(Duration::from).unwrap_or_default(),
            drain: window.drain.map(Duration::from),
            lock: window.lock,
            on_locked: window.on_locked.unwrap_or_default(),
            splay: window.splay.map(Duration::from).unwrap_or_default(),
            align: window.align.map(Duration::from),
            options: over.keys(),
        }
    }
}
