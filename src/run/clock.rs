//! Converts the kernel's monotonic timestamps to wall-clock time, also if the wall clock is set in between.
//!
//! Time daemons slew both clocks alike, so the difference between them is constant until the wall clock is set (or has
//! a leap second), or until the machine sleeps, when only the wall clock advances. A timer that the kernel cancels at
//! once (TFD_TIMER_CANCEL_ON_SET) reports these events, and only then is the difference measured again. A measurement
//! every second would give up to a second of records the old time, and would miss a clock that is set and set back in
//! between.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

use crate::error::{Error, Result};
use crate::report::{ClockInstant, ClockStep, Jump};

/// Limit of separate jumps. The last one sums up all jumps beyond it.
const MAX_STEPS: usize = 100;
/// When the timer would expire, seconds since 1970: never reached, but valid for the kernel.
const NEVER: i64 = 9_000_000_000;

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The current time of the event timestamps' clock (CLOCK_MONOTONIC), nanoseconds.
pub fn monotonic() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic)) as u64
}

/// The current wall-clock time, nanoseconds since 1970.
pub fn now() -> i64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// The differences between the clocks, nanoseconds.
#[derive(Debug, Clone, Copy)]
struct ClockSample {
    /// When they were measured, on the clock of event timestamps.
    at: u64,
    /// Wall clock minus the clock of event timestamps.
    wall: i64,
    /// The clock that advances while the machine sleeps minus the clock of event timestamps.
    slept: i64,
    /// The largest possible error of these.
    error: i64,
}

impl ClockSample {
    fn now() -> Self {
        // A preemption between the two monotonic readings increases their distance: take the closest pair
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

/// A difference between the clocks, valid since `since`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ClockOffset {
    /// On the clock of event timestamps.
    from: u64,
    wall: i64,
}

/// The differences in time order.
type ClockOffsets = Arc<Mutex<Vec<ClockOffset>>>;

fn lock(differences: &ClockOffsets) -> MutexGuard<'_, Vec<ClockOffset>> {
    differences.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Detects jumps of the wall clock.
#[derive(Debug)]
pub struct ClockMonitor {
    timer: OwnedFd,
    last: ClockSample,
    differences: ClockOffsets,
    steps: Vec<ClockStep>,
}

impl ClockMonitor {
    /// Starts to watch the clock.
    ///
    /// # Errors
    /// If no file descriptor is available.
    pub fn start() -> Result<Self> {
        let failed = |error: Errno| Error::failed(format!("the clock can't be watched: {error}"));
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags).map_err(failed)?;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let never = Itimerspec { it_interval: zero, it_value: Timespec { tv_sec: NEVER, ..zero } };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &never)
            .map_err(failed)?;
        // After the timer is armed, so that no jump is missed
        let last = ClockSample::now();
        let differences = Arc::new(Mutex::new(vec![ClockOffset { from: 0, wall: last.wall }]));
        Ok(ClockMonitor { timer, last, differences, steps: Vec::new() })
    }

    /// A clock that uses the jumps found by this monitor.
    pub fn clock(&self) -> Clock {
        let known = lock(&self.differences).clone();
        Clock { known, differences: Arc::clone(&self.differences) }
    }

    /// Records a jump, if there was one since the last call.
    pub fn poll(&mut self) {
        if rustix::io::read(&self.timer, &mut [0; 8]) != Err(Errno::CANCELED) {
            return;
        }
        // Measured under the lock: a writer of later records waits for the new difference
        let differences = Arc::clone(&self.differences);
        let mut differences = lock(&differences);
        let measured = ClockSample::now();
        self.note(measured, &mut differences);
    }

    fn note(&mut self, now: ClockSample, differences: &mut Vec<ClockOffset>) {
        let error = now.error + self.last.error;
        let (whole, slept) = (now.wall - self.last.wall, now.slept - self.last.slept);
        // A change within the error belongs to the other clock: the jumps add up to the whole difference
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
    /// Readable after a jump.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// Converts timestamps to the wall-clock time at that moment.
#[derive(Debug)]
pub struct Clock {
    known: Vec<ClockOffset>,
    differences: ClockOffsets,
}

impl Clock {
    /// Adopts the jumps that the monitor has recorded since the last call.
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
