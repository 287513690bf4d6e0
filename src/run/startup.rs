//! What comes before a window: the lock, and the moment at which it is to start.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::lock::{self, Lock};
use super::signals::StopSignal;
use crate::config::quantity::Nanoseconds;
use crate::error::Result;
use crate::output::Globals;
use crate::plan::{Plan, WindowPlan};

/// Waits of less than this are not worth a line.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Takes the lock and waits until the window is to start. The lock is taken first: a run that waits for its moment is one
/// already. `None` if a signal ended the wait.
///
/// # Errors
/// If the lock can't be had; see [`lock::take`].
pub fn begin(
    plan: &Plan,
    globals: &Arc<Globals>,
    stop: &StopSignal,
    say: &dyn Fn(String),
) -> Result<Option<Option<Lock>>> {
    let window = &plan.window;
    let lock = match &window.lock {
        None => None,
        Some(template) => {
            let path = lock::path(template, globals)?;
            match lock::take(&path, window.on_locked, stop, say)? {
                Some(lock) => Some(lock),
                None => return Ok(None),
            }
        }
    };
    let delay = delay(window, clock::now(), random());
    if delay >= WORTH_A_LINE {
        let shown = Duration::from_secs(delay.as_secs());
        say(format!("starts in {}", Nanoseconds::from(shown)));
    }
    if !delay.is_zero() && stop.within(delay)? {
        return Ok(None);
    }
    Ok(Some(lock))
}

/// How long to wait at `now`, nanoseconds since 1970, with `random` bits for the splay.
fn delay(window: &WindowPlan, now: i64, random: u64) -> Duration {
    let aligned = window.align.map_or(0, |align| {
        let step = i128::try_from(align.as_nanos()).unwrap_or(i128::MAX);
        (step - i128::from(now).rem_euclid(step)).rem_euclid(step) as u64
    });
    let splay = window.splay.as_nanos() * u128::from(random) / (u128::from(u64::MAX) + 1);
    Duration::from_nanos(aligned) + Duration::from_nanos(splay as u64)
}

/// Random bits: what keeps hash tables from being predictable is good enough to spread starts.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn an_aligned_start_is_on_the_full_minute() {
        let window = WindowPlan { align: Some(Duration::from_secs(60)), ..WindowPlan::default() };
        assert_eq!(delay(&window, 60 * SECOND, 7), Duration::ZERO);
        assert_eq!(delay(&window, 61 * SECOND, 7), Duration::from_secs(59));
        assert_eq!(delay(&window, 120 * SECOND - 1, 7), Duration::from_nanos(1));
        assert_eq!(delay(&window, -SECOND, 7), Duration::from_secs(1), "before 1970 too");
    }

    #[test]
    fn a_splay_is_within_its_bounds_and_on_top_of_the_alignment() {
        let window = WindowPlan { splay: Duration::from_secs(10), ..WindowPlan::default() };
        assert_eq!(delay(&window, 0, 0), Duration::ZERO);
        assert_eq!(delay(&window, 0, 1 << 63), Duration::from_secs(5));
        assert!(delay(&window, 0, u64::MAX) < Duration::from_secs(10));
        let both = WindowPlan { align: Some(Duration::from_secs(60)), ..window };
        assert_eq!(delay(&both, 59 * SECOND, 1 << 63), Duration::from_secs(6));
        assert_ne!(random(), random());
    }
}
