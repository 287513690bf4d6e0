//! Jumps of the wall clock within a window.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ClockInstant;
use crate::output::time::push_rfc3339;

/// Why the wall clock jumped, seen from the clock of event timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Jump {
    /// The clock was set, or had a leap second.
    Set,
    /// The host was suspended.
    Slept,
}

/// A jump of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// Why.
    pub jump: Jump,
    /// When it was noticed, with the wall clock as it was afterwards. Records from then on have times of this clock.
    pub noticed: ClockInstant,
    /// By how much, nanoseconds; negative if back.
    pub by: i64,
}

impl ClockStep {
    /// What the wall clock would have shown without it.
    pub fn before(&self) -> i64 {
        self.noticed.wall.saturating_sub(self.by)
    }
}

impl fmt::Display for ClockStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = Duration::from_nanos(self.by.unsigned_abs());
        let (mut from, mut to) = (String::new(), String::new());
        push_rfc3339(self.before(), &mut from);
        push_rfc3339(self.noticed.wall, &mut to);
        let what = match (self.jump, self.by < 0) {
            (Jump::Set, true) => "the clock was set back",
            (Jump::Set, false) => "the clock was set forward",
            (Jump::Slept, _) => "the host was suspended",
        };
        write!(f, "{what} by {by:.1?}, from {from} to {to}: records have the new time from then on")
    }
}

#[cfg(test)]
mod tests;
