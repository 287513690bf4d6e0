//! When a capture is to be started, resolved from the config; and the same in the notations of cron and systemd.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::Planner;
use crate::config::diagnostic::Code;
use crate::config::quantity::Nanoseconds;
use crate::config::schedule::{Day, Schedule, TimeOfDay};
use crate::config::yaml::TreeStep::{Index, Key};

const MINUTES_A_DAY: u32 = 24 * 60;

/// When a capture is to be started, in the local time of the machine that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulePlan {
    /// When on a day.
    pub starts: Starts,
    /// On which days: at least one.
    pub days: BTreeSet<Day>,
}

/// Moments of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Starts {
    /// Every so many minutes, from midnight on: they go evenly into an hour, or are hours that go evenly into a day.
    Every(u32),
    /// At these times, at least one.
    At(BTreeSet<TimeOfDay>),
}

impl SchedulePlan {
    /// For each line of a crontab, its five fields.
    pub fn cron(&self) -> Vec<String> {
        // Cron's Sunday is 0
        let days = match self.days.len() {
            7 => "*".to_owned(),
            _ => ranges(self.days.iter().map(|day| (*day as u32 + 1) % 7).collect()),
        };
        match &self.starts {
            Starts::Every(1) => vec![format!("* * * * {days}")],
            Starts::Every(minutes) if *minutes < 60 => vec![format!("*/{minutes} * * * {days}")],
            Starts::Every(60) => vec![format!("0 * * * {days}")],
            Starts::Every(MINUTES_A_DAY) => vec![format!("0 0 * * {days}")],
            Starts::Every(minutes) => vec![format!("0 */{} * * {days}", minutes / 60)],
            Starts::At(times) => {
                let mut lines = BTreeMap::<u32, BTreeSet<u32>>::new();
                for time in times {
                    lines.entry(time.minute).or_default().insert(time.hour);
                }
                lines.into_iter().map(|(minute, hours)| format!("{minute} {} * * {days}", list(&hours))).collect()
            }
        }
    }

    /// The calendar expressions of systemd, of which each is an `OnCalendar=`.
    pub fn calendar(&self) -> Vec<String> {
        let name = |day: &Day| {
            let name = day.name();
            name[..1].to_uppercase() + &name[1..]
        };
        let days = match self.days.len() {
            7 => String::new(),
            _ => self.days.iter().map(name).collect::<Vec<_>>().join(",") + " ",
        };
        match &self.starts {
            Starts::Every(1) => vec![format!("{days}*-*-* *:*:00")],
            Starts::Every(minutes) if *minutes < 60 => vec![format!("{days}*-*-* *:00/{minutes}:00")],
            Starts::Every(60) => vec![format!("{days}*-*-* *:00:00")],
            Starts::Every(MINUTES_A_DAY) => vec![format!("{days}*-*-* 00:00:00")],
            Starts::Every(minutes) => vec![format!("{days}*-*-* 00/{}:00:00", minutes / 60)],
            Starts::At(times) => times.iter().map(|time| format!("{days}*-*-* {time}:00")).collect(),
        }
    }

    /// The moments of a day at which it starts, minutes since midnight.
    fn moments(&self) -> Vec<u32> {
        match &self.starts {
            Starts::Every(minutes) => (0..MINUTES_A_DAY).step_by(*minutes as usize).collect(),
            Starts::At(times) => times.iter().map(|time| time.minutes()).collect(),
        }
    }

    /// The shortest time from one start to the next.
    pub fn shortest(&self) -> Duration {
        let moments = self.moments();
        let within = moments.windows(2).map(|pair| pair[1] - pair[0]);
        let days: Vec<u32> = self.days.iter().map(|day| *day as u32).collect();
        let next = days.iter().cycle().skip(1);
        let to_next = days.iter().zip(next).map(|(day, next)| if next > day { next - day } else { next + 7 - day });
        let (first, last) = (moments.first().unwrap_or(&0), moments.last().unwrap_or(&0));
        let over_night = to_next.map(|days| days * MINUTES_A_DAY + first - last);
        let shortest = within.chain(over_night).min().unwrap_or(MINUTES_A_DAY);
        Duration::from_secs(u64::from(shortest) * 60)
    }
}

impl fmt::Display for SchedulePlan {
    /// `every 15min on mon, fri`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.starts {
            Starts::Every(minutes) => {
                write!(f, "every {}", Nanoseconds::from(Duration::from_secs(u64::from(*minutes) * 60)))?;
            }
            Starts::At(times) => {
                let times: Vec<String> = times.iter().map(TimeOfDay::to_string).collect();
                write!(f, "at {}", times.join(", "))?;
            }
        }
        if self.days.len() < 7 {
            let days: Vec<&str> = self.days.iter().map(|day| day.name()).collect();
            write!(f, " on {}", days.join(", "))?;
        }
        Ok(())
    }
}

fn list(numbers: &BTreeSet<u32>) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// `1-5`, `0,6`
fn ranges(numbers: BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |(first, last): (u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

/// Minutes, if cron and systemd can both be told to start so often.
fn minutes(every: Nanoseconds) -> Option<u32> {
    let minute = 60_000_000_000;
    let minutes = every.0.is_multiple_of(minute).then(|| u32::try_from(every.0 / minute).ok())??;
    let fits = match minutes {
        0 => false,
        1..60 => 60u32.is_multiple_of(minutes),
        _ => minutes.is_multiple_of(60) && MINUTES_A_DAY.is_multiple_of(minutes),
    };
    fits.then_some(minutes)
}

impl Planner<'_> {
    /// Of the options of a run, which is not by the schedule, it knows nothing.
    pub(super) fn schedule(&mut self) -> Option<SchedulePlan> {
        let Schedule { every, at, days } = self.source.config.schedule.as_ref()?;
        let here = [Key("schedule")];
        let days = match days {
            None => BTreeSet::from(Day::ALL),
            Some(days) => {
                self.each_once(days.iter().map(|day| day.name()), "days");
                days.iter().copied().collect()
            }
        };
        let lost = |key| self.source.is_lost(&here, key);
        let (lost_every, lost_at, lost_days) = (lost("every"), lost("at"), lost("days"));
        let every = every.map(|every| {
            let minutes = minutes(every);
            if minutes.is_none() {
                let what = format!(
                    "cron and systemd can't start a capture every {every}: use minutes that divide an hour (1min, 5min, \
                     15min, 30min), or hours that divide a day (1h, 6h, 12h, 1d)"
                );
                self.say(Code::Schedule, &[here[0], Key("every")], what);
            }
            minutes.map(Starts::Every)
        });
        let at = at.as_ref().map(|at| {
            if let crate::config::schedule::Times::Several(times) = at {
                let times: Vec<String> = times.iter().map(TimeOfDay::to_string).collect();
                self.each_once(times.iter().map(String::as_str), "at");
            }
            Starts::At(at.all().iter().copied().collect())
        });
        let starts = match (every, at) {
            (Some(starts), None) => starts,
            (None, Some(starts)) => Some(starts),
            (None, None) => {
                if !lost_every && !lost_at {
                    let what = "a schedule needs `every` or `at`: write for instance `every: 15min` or `at: \"02:30\"`";
                    self.say_key(Code::Schedule, &here, what);
                }
                None
            }
            (Some(_), Some(_)) => {
                let what = "`every` and `at` exclude each other: remove one of them";
                self.say_key(Code::Schedule, &[here[0], Key("at")], what);
                None
            }
        };
        let schedule = starts.map(|starts| SchedulePlan { starts, days });
        if !self.source.is_partial() && !self.source.is_lost(&[Key("window")], "duration") {
            self.check_fits(schedule.as_ref().filter(|_| !lost_days && !lost_every && !lost_at));
        }
        schedule
    }

    /// Windows must end, and before the next one starts unless something keeps them apart. When they start may not be known.
    fn check_fits(&mut self, schedule: Option<&SchedulePlan>) {
        let here = [Key("schedule")];
        let window = &self.source.config.window;
        let Some(duration) = window.duration else {
            let what = "a scheduled capture needs an end: add `duration` to `window`";
            return self.say_key(Code::Schedule, &here, what);
        };
        let before = [window.align, window.splay, window.warmup].into_iter().flatten().map(Duration::from);
        let longest = before.fold(Duration::from(duration), Duration::saturating_add);
        let Some(shortest) = schedule.map(SchedulePlan::shortest) else { return };
        if longest >= shortest && window.lock.is_none() && !self.source.is_lost(&[Key("window")], "lock") {
            let what = format!(
                "a window may last {}, and the next one starts after {}: shorten it, or keep the runs apart with \
                 `window.lock`",
                Nanoseconds::from(longest),
                Nanoseconds::from(shortest)
            );
            self.say_key(Code::Schedule, &here, what);
        }
    }

    fn each_once<'s>(&mut self, names: impl Iterator<Item = &'s str>, key: &'static str) {
        let mut told = BTreeSet::new();
        for (index, name) in names.enumerate() {
            if !told.insert(name) {
                let what = format!("`{name}` is here twice: remove one of them");
                self.say(Code::Schedule, &[Key("schedule"), Key(key), Index(index)], what);
            }
        }
    }
}

#[cfg(test)]
mod tests;
