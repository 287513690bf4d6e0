//! From the kernel's monotonic timestamps to wall-clock time, also where the wall clock is set in between.
//!
//! Daemons that keep the clock right slew both clocks alike, so the difference between them stays what it is until the
//! wall clock is set (or has a leap second), or the machine sleeps, when only the wall clock goes on. The kernel tells of
//! these at once, by a timer that is cancelled (TFD_TIMER_CANCEL_ON_SET), and only then the difference is measured again.
//! Measuring it every second instead would give up to a second of records the time of before, and would not see a
//! clock that is set and set back in between.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

use crate::error::{Error, Result};
use crate::report::{ClockInstant, ClockStep, Jump};

/// Jumps that are kept apart. Of more than that, which no clock has that is worth looking at, the last one has the sum.
const MAX_STEPS: usize = 100;
/// When the timer would fire, seconds since 1970: not in anybody's time, but in the kernel's.
const NEVER: i64 = 9_000_000_000;

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The clock of event timestamps (CLOCK_MONOTONIC) now, nanoseconds.
pub fn monotonic() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic)) as u64
}

/// Wall-clock time now, nanoseconds since 1970.
pub fn now() -> i64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// How far the clocks are apart, all in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct ClockSample {
    /// When, on the clock of event timestamps.
    at: u64,
    /// From the clock of event timestamps to the wall clock.
    wall: i64,
    /// From the clock of event timestamps to the one that goes on while the machine sleeps.
    slept: i64,
    /// How far these may be from the truth.
    error: i64,
}

impl ClockSample {
    fn now() -> Self {
        // An interruption between the readings puts the monotonic ones far apart: the nearest of some are right
        let measure = || {
            let before = nanoseconds(clock_gettime(ClockId::Monotonic));
            let (wall, awake) = (now(), nanoseconds(clock_gettime(ClockId::Boottime)));
            let after = nanoseconds(clock_gettime(ClockId::Monotonic));
            let error = (after - before) / 2;
            let at = before + error;
            ClockSample { at: at as u64, wall: wall - at, slept: awake - at, error: error + 1 }
        };
        let tries = [(); 5].map(|()| measure());
        tries.into_iter().min_by_key(|measured| measured.error).expect("there are five")
    }
}

/// A difference between the clocks, and since when it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ClockOffset {
    /// On the clock of event timestamps.
    from: u64,
    wall: i64,
}

/// The differences, in the order of time.
type ClockOffsets = Arc<Mutex<Vec<ClockOffset>>>;

fn lock(differences: &ClockOffsets) -> MutexGuard<'_, Vec<ClockOffset>> {
    differences.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees when the wall clock jumps.
#[derive(Debug)]
pub struct ClockMonitor {
    timer: OwnedFd,
    last: ClockSample,
    differences: ClockOffsets,
    steps: Vec<ClockStep>,
}

impl ClockMonitor {
    /// Watches from now on.
    ///
    /// # Errors
    /// If there is no file descriptor left.
    pub fn start() -> Result<Self> {
        let failed = |error: Errno| Error::failed(format!("the clock can't be watched: {error}"));
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags).map_err(failed)?;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let never = Itimerspec { it_interval: zero, it_value: Timespec { tv_sec: NEVER, ..zero } };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &never)
            .map_err(failed)?;
        // After that, so that no jump is in between
        let last = ClockSample::now();
        let differences = Arc::new(Mutex::new(vec![ClockOffset { from: 0, wall: last.wall }]));
        Ok(ClockMonitor { timer, last, differences, steps: Vec::new() })
    }

    /// A clock that follows.
    pub fn clock(&self) -> Clock {
        let known = lock(&self.differences).clone();
        Clock { known, differences: Arc::clone(&self.differences) }
    }

    /// Notes a jump, if there was one since the last look.
    pub fn poll(&mut self) {
        if rustix::io::read(&self.timer, &mut [0; 8]) != Err(Errno::CANCELED) {
            return;
        }
        // Measured under the lock: who writes what happens later waits for the difference that it has by then
        let differences = Arc::clone(&self.differences);
        let mut differences = lock(&differences);
        let measured = ClockSample::now();
        self.note(measured, &mut differences);
    }

    fn note(&mut self, now: ClockSample, differences: &mut Vec<ClockOffset>) {
        let error = now.error + self.last.error;
        let (whole, slept) = (now.wall - self.last.wall, now.slept - self.last.slept);
        // What is no more than the error belongs to the other one: the jumps add up to the whole difference
        let (slept, set) = match (slept.abs() > error, (whole - slept).abs() > error) {
            (true, true) => (slept, whole - slept),
            (true, false) => (whole, 0),
            (false, _) => (0, if whole.abs() > error { whole } else { 0 }),
        };
        let noticed = ClockInstant { wall: (now.at as i64).saturating_add(now.wall), monotonic: now.at };
        let jumps = [(Jump::Slept, slept), (Jump::Set, set)].into_iter().filter(|(_, by)| *by != 0);
        let steps = self.steps.len();
        for (jump, by) in jumps {
            match self.steps.last_mut() {
                Some(last) if steps >= MAX_STEPS => *last = ClockStep { noticed, by: last.by + by, ..*last },
                _ => self.steps.push(ClockStep { jump, noticed, by }),
            }
        }
        if set != 0 || slept != 0 {
            if differences.len() > MAX_STEPS {
                differences.remove(0);
            }
            differences.push(ClockOffset { from: now.at, wall: now.wall });
            self.last = now;
        }
    }

    /// The jumps since `from`, on the clock of event timestamps.
    pub fn steps_since(&self, from: u64) -> Vec<ClockStep> {
        self.steps.iter().filter(|step| step.noticed.monotonic >= from).copied().collect()
    }
}

impl AsFd for ClockMonitor {
    /// Readable when there is something to look at.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// The wall-clock time of timestamps: what the wall clock showed then.
#[derive(Debug)]
pub struct Clock {
    known: Vec<ClockOffset>,
    differences: ClockOffsets,
}

impl Clock {
    /// Learns what the watch has noticed in the meantime.
    pub fn refresh(&mut self) {
        let differences = lock(&self.differences);
        if differences.last() != self.known.last() {
            self.known.clone_from(&differences);
        }
    }

    /// The wall-clock time of a monotonic timestamp, nanoseconds since 1970.
    #[inline]
    pub fn wall(&self, monotonic: u64) -> i64 {
        let since = self.known.iter().rev().find(|since| since.from <= monotonic).or(self.known.first());
        (monotonic as i64).wrapping_add(since.map_or(0, |since| since.wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_timestamp_of_now_is_the_wall_clock_of_now() {
        let difference = (ClockMonitor::start().expect("a timer").clock().wall(monotonic()) - now()).abs();
        assert!(difference < SECOND, "{difference} ns apart");
    }

    /// A watch whose clocks were so many seconds apart at the start, and what it notes later.
    fn noted(later: &[(u64, i64, i64)]) -> (ClockMonitor, Clock) {
        let mut watch = ClockMonitor::start().expect("a timer");
        let measured = |(at, wall, slept): (u64, i64, i64)| ClockSample {
            at: at * SECOND as u64,
            wall: wall * SECOND,
            slept: slept * SECOND,
            error: 50,
        };
        watch.last = measured((0, 1000, 0));
        let mut differences = vec![ClockOffset { from: 0, wall: 1000 * SECOND }];
        for one in later {
            watch.note(measured(*one), &mut differences);
        }
        let clock = Clock { known: differences, differences: Arc::default() };
        (watch, clock)
    }

    #[test]
    fn each_timestamp_has_the_time_that_the_clock_showed_then() {
        let (watch, clock) = noted(&[(10, 400, 0), (20, 1000, 0), (30, 1005, 5)]);
        let wall = |seconds: u64| clock.wall(seconds * SECOND as u64) / SECOND;
        assert_eq!([0, 9, 10, 19, 20, 29, 30].map(wall), [1000, 1009, 410, 419, 1020, 1029, 1035]);
        let steps: Vec<_> = watch.steps_since(0).iter().map(|step| (step.jump, step.by / SECOND)).collect();
        assert_eq!(steps, [(Jump::Set, -600), (Jump::Set, 600), (Jump::Slept, 5)]);
        assert_eq!(watch.steps_since(20 * SECOND as u64).len(), 2);
        let first = watch.steps_since(0)[0];
        assert_eq!((first.before() / SECOND, first.noticed.wall / SECOND), (1010, 410));
    }

    #[test]
    fn what_may_be_a_measurement_s_error_is_no_jump() {
        let mut watch = ClockMonitor::start().expect("a timer");
        let (mut differences, last) = (Vec::new(), watch.last);
        watch.note(ClockSample { wall: last.wall + last.error, ..last }, &mut differences);
        assert_eq!((watch.steps.len(), differences.len()), (0, 0));
        // Set while it slept: both are told
        let both = ClockSample { wall: last.wall + 7 * SECOND, slept: last.slept + 5 * SECOND, ..last };
        watch.note(both, &mut differences);
        let steps: Vec<_> = watch.steps.iter().map(|step| (step.jump, step.by / SECOND)).collect();
        assert_eq!(steps, [(Jump::Slept, 5), (Jump::Set, 2)]);
    }

    #[test]
    fn a_clock_that_is_set_all_the_time_takes_no_more_memory_and_keeps_its_sum() {
        let later: Vec<_> = (1..=1000).map(|at| (at, 1000 + at as i64, 0)).collect();
        let (watch, clock) = noted(&later);
        assert!(watch.steps.len() == MAX_STEPS && clock.known.len() <= MAX_STEPS + 1);
        assert_eq!(watch.steps.iter().map(|step| step.by).sum::<i64>(), 1000 * SECOND);
        assert_eq!(clock.wall(1000 * SECOND as u64), 3000 * SECOND);
    }
}
