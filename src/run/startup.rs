//! The steps before a window: the lock, and the wait for the start time.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::CapabilitySet;

use super::lock::{self, Lock};
use super::signals::StopSignal;
use super::{clock, privileges};
use crate::config::quantity::Nanoseconds;
use crate::error::{Error, Result};
use crate::files::atomic::{AtomicFile, OpenDir};
use crate::files::path_safety::{ParentDir, PathPolicy};
use crate::files::small_file::small_file;
use crate::files::target::ReservedName;
use crate::kernel::Host;
use crate::output::Globals;
use crate::output::template::render_global;
use crate::plan::{Plan, WindowPlan};

/// Permissions of a report.
const REPORT_MODE: u32 = 0o640;

/// A run that holds the lock and has reached its start time.
#[derive(Debug)]
pub struct Session {
    pub(super) host: Host,
    pub(super) globals: Globals,
    pub(super) stop: StopSignal,
    /// Held until this is dropped.
    pub(super) lock: Option<Lock>,
    /// Empty until the end; prevents other runs from writing a report to the same path.
    pub(super) report: Option<AtomicFile>,
    pub(super) gives_up_privileges: bool,
}

impl Session {
    /// Sets the path of the report, which can be a template like a sink's path; returns the rendered path. A path that
    /// can't be written fails here, before anything is loaded.
    ///
    /// # Errors
    /// If the path can't be rendered, if the directory does not exist, if something other than a file has that name, or
    /// if other users could redirect the report.
    pub fn will_report_to(&mut self, path: &Path) -> Result<PathBuf> {
        let path = &match path.to_str().filter(|path| path.contains("{{")) {
            Some(template) => {
                let globals = Arc::new(Globals { start: clock::now(), ..self.globals.clone() });
                let rendered = render_global(template, &globals);
                PathBuf::from(rendered.map_err(|words| Error::failed(format!("the report's path: {words}")))?)
            }
            None => path.to_owned(),
        };
        let folder = ParentDir::of(path, PathPolicy::Checked).map_err(|problem| {
            let error =
                Error::failed(format!("the report can't be written to {}: {}", path.display(), problem.message));
            match problem.hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
        let dir = OpenDir { fd: Arc::new(folder.fd), path: folder.path };
        let file = small_file(&dir, &folder.name, REPORT_MODE).map_err(|(what, hint)| {
            Error::failed(format!("the report can't be written to {}: {what}", path.display())).hint(hint)
        })?;
        if self.lock.as_ref().is_some_and(|lock| lock.reserved_name().is_same(&file.reserved_name("report"))) {
            return Err(Error::failed("the report and the lock are the same file").hint("give the report its own path"));
        }
        self.report = Some(file);
        Ok(path.clone())
    }

    /// Writes the report to its path atomically.
    ///
    /// # Errors
    /// If a write fails.
    pub fn write_report(&mut self, text: &str) -> Result<()> {
        let Some(mut file) = self.report.take() else { return Ok(()) };
        let written =
            file.writer().and_then(|mut writer| writer.write_all(text.as_bytes())).and_then(|()| file.finish());
        written.map_err(|error| {
            Error::failed(format!("the report can't be written to {}: {error}", file.path().display()))
        })
    }

    /// Once everything is attached, the calling thread permanently drops every capability that it no longer requires.
    pub fn will_give_up_privileges(&mut self) {
        self.gives_up_privileges = true;
    }

    /// The names that no sink may use.
    pub(super) fn reserved_names(&self) -> Vec<ReservedName<'_>> {
        let report = self.report.as_ref().map(|file| file.reserved_name("report"));
        report.into_iter().chain(self.lock.as_ref().map(Lock::reserved_name)).collect()
    }

    pub(super) fn report_needs(&self) -> CapabilitySet {
        self.report.as_ref().map_or(CapabilitySet::empty(), |file| privileges::for_files(file.dir(), file.name()))
    }
}

/// Shorter waits are not reported.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Takes the lock and waits until the window starts. The lock is taken first: a run that waits for its start counts as
/// a run. `None` if a signal ended the wait.
///
/// # Errors
/// If the lock can't be taken; see [`lock::take`].
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

/// The time to wait at `now`, nanoseconds since 1970; `random` selects the splay.
fn delay(window: &WindowPlan, now: i64, random: u64) -> Duration {
    let aligned = window.align.map_or(0, |align| {
        let step = i128::try_from(align.as_nanos()).unwrap_or(i128::MAX);
        (step - i128::from(now).rem_euclid(step)).rem_euclid(step) as u64
    });
    let splay = window.splay.as_nanos() * u128::from(random) / (u128::from(u64::MAX) + 1);
    Duration::from_nanos(aligned) + Duration::from_nanos(splay as u64)
}

/// Random bits: the seed of hash tables is good enough to spread starts.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
