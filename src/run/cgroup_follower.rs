//! Follows the cgroups in filters while a capture runs: a unit that is restarted gets a cgroup of the same name with
//! another id, and programs compare ids.
//!
//! inotify watches the directories above a cgroup. It does not report changes through another mount of the hierarchy,
//! such as a container's, so each cgroup is also looked up periodically.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify;

use super::resolve::{Cgroup, directory, hierarchy};
use crate::config::quantity::Nanoseconds;
use crate::error::{Error, Result};
use crate::kernel::{LiveVariables, Loaded};
use crate::pipeline::priority;
use crate::plan::{LookupName, Plan};
use crate::report::CgroupAccount;

/// How often a cgroup is looked up without a notification.
const RECHECK: Duration = Duration::from_millis(500);
/// How often the hierarchy is searched for a unit that no longer exists: it can be created again in another slice.
const SEARCH: Duration = Duration::from_secs(5);
/// A cgroup that is absent for less than this counts as restarted.
const RESTART: Duration = Duration::from_secs(5);
/// Limit of messages for each cgroup. The report has all changes.
const MESSAGES: u32 = 20;

/// A message for standard error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Printed with `quiet` too.
    Warning(String),
    Plain(String),
}

type NoticeQueue = Arc<Mutex<Vec<Notice>>>;

/// The thread that follows the cgroups of a plan.
#[derive(Debug)]
pub(crate) struct CgroupFollower {
    thread: JoinHandle<Vec<CgroupAccount>>,
    /// Dropped to end the thread.
    end: UnixStream,
    notices: NoticeQueue,
}

impl CgroupFollower {
    /// Starts the thread; `None` if no filter has a cgroup.
    ///
    /// # Errors
    /// If no thread or file descriptor is available.
    pub fn start(plan: &Plan, loaded: &[Loaded]) -> Result<Option<Self>> {
        let mut values = Vec::new();
        let mut cgroups = BTreeMap::<String, FollowedCgroup>::new();
        for (probe, loaded) in plan.probes.iter().zip(loaded) {
            let followed = probe.lookups.iter().filter(|lookup| lookup.followed);
            for (i, lookup) in followed.enumerate() {
                if i == 0 {
                    values.push(loaded.followed_values()?);
                }
                let cgroup = cgroups.entry(lookup.name.to_string());
                let cgroup = cgroup.or_insert_with(|| FollowedCgroup::new(&lookup.filter, &lookup.name));
                cgroup.slots.push((values.len() - 1, lookup.offset));
                if cgroup.account.probes.last() != Some(&probe.name) {
                    cgroup.account.probes.push(probe.name.clone());
                }
                let known = probe.bss.iter().find(|setting| setting.offset == lookup.offset);
                cgroup.id =
                    known.map_or(0, |setting| u64::from_ne_bytes(setting.bytes[..8].try_into().expect("an id")));
            }
        }
        if cgroups.is_empty() {
            return Ok(None);
        }
        let failed = |error: std::io::Error| Error::failed(format!("cgroups can't be followed: {error}"));
        let root = hierarchy()?;
        let (end, ended) = UnixStream::pair().map_err(failed)?;
        let notices = NoticeQueue::default();
        let mut work = FollowerWorker {
            root,
            values,
            cgroups: cgroups.into_values().collect(),
            // Without inotify, for example at a user's limit, periodic look-ups are enough
            inotify: inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok(),
            notices: Arc::clone(&notices),
        };
        let work = move || {
            priority::restore_priority();
            work.until(&ended);
            work.cgroups.into_iter().map(FollowedCgroup::account).collect()
        };
        let thread = thread::Builder::new().name("ebpf-run-cgroups".into()).spawn(work).map_err(failed)?;
        Ok(Some(CgroupFollower { thread, end, notices }))
    }

    /// The messages since the last call.
    pub fn notices(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the thread. Returns the account of each cgroup.
    ///
    /// # Errors
    /// If the thread panicked.
    pub fn finish(self) -> Result<Vec<CgroupAccount>> {
        drop(self.end);
        self.thread.join().map_err(|_| {
            Error::failed("the thread that follows cgroups died; this is a bug of ebpf-run, please report it")
        })
    }
}

/// One cgroup, for all filters that name it.
#[derive(Debug)]
struct FollowedCgroup {
    name: LookupName,
    /// Its last path; `None` before the first look-up.
    path: Option<PathBuf>,
    /// Its id; 0 while it does not exist.
    id: u64,
    gone_since: Option<Instant>,
    /// Whether its absence was reported.
    said: bool,
    searched: Option<Instant>,
    messages: u32,
    /// Indices of the values, and offsets in them.
    slots: Vec<(usize, usize)>,
    account: CgroupAccount,
}

impl FollowedCgroup {
    fn new(filter: &str, name: &LookupName) -> Self {
        let value = match name {
            LookupName::User(value) | LookupName::Cgroup(value) | LookupName::Unit(value) => value.clone(),
        };
        let account = CgroupAccount {
            filter: filter.to_owned(),
            value,
            probes: Vec::new(),
            restarts: 0,
            absent: Duration::ZERO,
            present: true,
        };
        FollowedCgroup {
            name: name.clone(),
            path: None,
            id: 0,
            gone_since: None,
            said: false,
            searched: None,
            messages: 0,
            slots: Vec::new(),
            account,
        }
    }

    /// Looks the cgroup up at `now`.
    fn look(&mut self, root: &Path, now: Instant) -> Option<Cgroup> {
        let known = self.path.as_deref().and_then(|path| Cgroup::at(root, path));
        let searches = matches!(self.name, LookupName::Unit(_)) || self.path.is_none();
        if known.is_some() || !searches || self.searched.is_some_and(|last| now - last < SEARCH) {
            return known;
        }
        self.searched = Some(now);
        let path = directory(root, &self.name).ok()?;
        let found = Cgroup::at(root, &path);
        self.path = Some(path);
        found
    }

    /// Records the result of `look`; returns the message for it, if there is one.
    fn note(&mut self, found: Option<Cgroup>, now: Instant) -> Option<Notice> {
        let id = found.map_or(0, |cgroup| cgroup.id);
        let changed = id != self.id;
        self.id = id;
        let notice = match (found, self.gone_since) {
            (None, None) => {
                self.gone_since = Some(now);
                None
            }
            (None, Some(since)) if now - since >= RESTART && !self.said => {
                self.said = true;
                Some(Notice::Warning(format!(
                    "{} no longer exists: this filter matches no task until it is created again",
                    self.name
                )))
            }
            (Some(_), since) if changed => {
                self.account.restarts += 1;
                let away = since.map_or(Duration::ZERO, |since| now - since);
                self.account.absent += away;
                self.gone_since = None;
                let away = if away.is_zero() { String::new() } else { format!(" after {}", Nanoseconds::from(away)) };
                let words = format!("{} was created again{away}; the filter follows it", self.name);
                Some(if std::mem::take(&mut self.said) { Notice::Warning(words) } else { Notice::Plain(words) })
            }
            _ => None,
        }?;
        self.messages += 1;
        match self.messages.cmp(&MESSAGES) {
            std::cmp::Ordering::Less => Some(notice),
            std::cmp::Ordering::Equal => {
                Some(Notice::Plain(format!("further changes of {} are only in the report", self.name)))
            }
            std::cmp::Ordering::Greater => None,
        }
    }

    fn account(mut self) -> CgroupAccount {
        self.account.present = self.gone_since.is_none();
        self.account.absent += self.gone_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.account
    }
}

/// The state of the thread.
struct FollowerWorker {
    root: PathBuf,
    values: Vec<LiveVariables>,
    cgroups: Vec<FollowedCgroup>,
    inotify: Option<OwnedFd>,
    notices: NoticeQueue,
}

impl FollowerWorker {
    /// Follows the cgroups until the other end of `ended` is closed.
    fn until(&mut self, ended: &UnixStream) {
        loop {
            self.watch();
            self.check();
            let timeout = rustix::time::Timespec::try_from(RECHECK).ok();
            let mut fds = vec![PollFd::new(ended, PollFlags::IN)];
            fds.extend(self.inotify.as_ref().map(|inotify| PollFd::new(inotify, PollFlags::IN)));
            let _ = poll(&mut fds, timeout.as_ref());
            if !fds[0].revents().is_empty() {
                // Changes since the last look-up belong to the account
                return self.check();
            }
            self.take_events();
        }
    }

    /// Watches the existing directories above each cgroup. Called before the cgroups are looked up, so that no change
    /// is missed.
    fn watch(&self) {
        let Some(inotify) = &self.inotify else { return };
        use inotify::WatchFlags as Flags;
        let changes = Flags::CREATE | Flags::DELETE | Flags::MOVED_TO | Flags::MOVED_FROM | Flags::ONLYDIR;
        for path in self.cgroups.iter().filter_map(|cgroup| cgroup.path.as_deref()) {
            for above in path.ancestors().skip(1).take_while(|above| above.starts_with(&self.root)) {
                // The directory does not exist, or the limit of watches is reached: look-ups are enough
                let _ = inotify::add_watch(inotify, above, changes);
            }
        }
    }

    fn check(&mut self) {
        let now = Instant::now();
        for cgroup in &mut self.cgroups {
            let found = cgroup.look(&self.root, now);
            if found.map_or(0, |found| found.id) != cgroup.id {
                let (id, level) = found.map_or((0, 0), |found| (found.id, found.level));
                for (values, offset) in &cgroup.slots {
                    self.values[*values].set_cgroup(*offset, id, level);
                }
            }
            if let Some(notice) = cgroup.note(found, now) {
                self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
            }
        }
    }

    /// Discards the events: only their existence matters.
    fn take_events(&self) {
        let mut bytes = [0; 4096];
        while self.inotify.as_ref().is_some_and(|inotify| rustix::io::read(inotify, &mut bytes).is_ok()) {}
    }
}

#[cfg(test)]
mod tests;
