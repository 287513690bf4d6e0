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
mod tests;
