//! The `schedule` block: when a timer that `ebpf-run emit` generates starts a capture.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::quantity::Nanoseconds;

/// When a timer or cron starts the capture, in the local time of the host. `ebpf-run emit` writes their files; a run
/// ignores it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Start at this interval, counted from midnight: `15min`, `6h`, `1d`. Minutes that divide an hour, or hours that
    /// divide a day.
    pub every: Option<Nanoseconds>,
    /// Start at this time of day, or at a list of times: `"02:30"`.
    pub at: Option<Times>,
    /// Start on these days of the week only. Default: every day.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub days: Option<Vec<Day>>,
}

/// A time of day or several.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Times {
    /// One time.
    One(TimeOfDay),
    /// Several times.
    Several(#[cfg_attr(test, schemars(length(min = 1)))] Vec<TimeOfDay>),
}

impl Times {
    /// Each of them, in the order in which they were written.
    pub fn all(&self) -> &[TimeOfDay] {
        match self {
            Times::One(one) => std::slice::from_ref(one),
            Times::Several(several) => several,
        }
    }
}

/// A time of the day, `02:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay {
    /// From 0 to 23.
    pub hour: u32,
    /// From 0 to 59.
    pub minute: u32,
}

impl TimeOfDay {
    /// Minutes since midnight.
    pub fn minutes(self) -> u32 {
        self.hour * 60 + self.minute
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

/// What validators and editors go by.
#[cfg(test)]
const TIME_PATTERN: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]$";

/// A time of the day out of `02:30`.
///
/// # Errors
/// One sentence that shows how to write it.
pub fn parse_time_of_day(text: &str) -> Result<TimeOfDay, String> {
    let number = |digits: &str| if digits.len() == 2 { digits.parse().ok() } else { None };
    let time = text.split_once(':').and_then(|(hour, minute)| {
        let all = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        all.then_some(TimeOfDay { hour: number(hour)?, minute: number(minute)? })
    });
    time.filter(|time| time.hour < 24 && time.minute < 60)
        .ok_or_else(|| format!("`{text}` is not a time of day: write for instance \"02:30\" (00:00 to 23:59)"))
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_time_of_day(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for TimeOfDay {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeOfDay".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "time-of-day", "pattern": TIME_PATTERN, "examples": ["02:30"] })
    }
}

/// Days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // they are what they are called
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// From Monday on.
    pub const ALL: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

    /// The word for it in a config.
    pub fn name(self) -> &'static str {
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][self as usize]
    }
}

#[cfg(test)]
mod tests;
