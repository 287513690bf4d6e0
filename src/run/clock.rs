//! From the kernel's monotonic timestamps to wall-clock time.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The clock may be set or slewed during a long capture, so the difference is measured again this often.
const REFRESH: Duration = Duration::from_secs(1);

/// The difference between wall-clock time and the clock of event timestamps (CLOCK_MONOTONIC).
#[derive(Debug)]
pub struct Clock {
    offset: i64,
    measured: Instant,
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The clock of event timestamps now, nanoseconds.
pub fn monotonic() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic)) as u64
}

/// Wall-clock time now, nanoseconds since 1970.
pub fn now() -> i64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

impl Clock {
    /// Measures the difference.
    pub fn measure() -> Self {
        // An interruption between the readings makes the pair of monotonic ones wide: the narrowest of some is right
        let offset = (0..5)
            .map(|_| {
                let before = nanoseconds(clock_gettime(ClockId::Monotonic));
                let wall = now();
                let after = nanoseconds(clock_gettime(ClockId::Monotonic));
                (after - before, wall - (before + (after - before) / 2))
            })
            .min()
            .map_or(0, |(_, offset)| offset);
        Clock { offset, measured: Instant::now() }
    }

    /// Measures again if the last time is a while ago.
    pub fn refresh(&mut self) {
        if self.measured.elapsed() >= REFRESH {
            *self = Clock::measure();
        }
    }

    /// The wall-clock time of a monotonic timestamp.
    #[inline]
    pub fn wall(&self, monotonic: u64) -> i64 {
        (monotonic as i64).wrapping_add(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_of_now_is_the_wall_clock_of_now() {
        let monotonic = nanoseconds(clock_gettime(ClockId::Monotonic)) as u64;
        let difference = (Clock::measure().wall(monotonic) - now()).abs();
        assert!(difference < 1_000_000_000, "{difference} ns apart");
    }
}
