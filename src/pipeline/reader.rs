//! The loop between the kernel and the queue.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};

use super::aggregate_poller::AggregateCounter;
use super::batch::LossCause;
use super::loss_tracker::LossTracker;
use super::progress::Progress;
use super::queue::{BatchSender, WrittenCount};
use super::stale_entries::StaleEntries;
use crate::error::{Error, Result};
use crate::kernel::{Counters, EventBuffer, Loaded};
use crate::plan::Plan;
use crate::report::End;
use crate::run::CgroupFollower;
use crate::run::clock::{self, ClockMonitor};
use crate::run::signals::StopSignal;
use crate::run::{Options, notice};

/// How long the end of a window can wait for records that the kernel has counted but not yet delivered.
const SETTLE: Duration = Duration::from_secs(1);
/// The longest sleep of the loop.
const IDLE: Duration = Duration::from_secs(1);

/// Keys of the epoll set; smaller keys are indices of probes.
const KEY_STOP: u64 = u64::MAX;
const KEY_STDOUT: u64 = u64::MAX - 1;
const KEY_CLOCK: u64 = u64::MAX - 2;

/// The loop between the kernel's buffers and the queue. It never waits for a sink.
pub(crate) struct Reader<'a> {
    pub plan: &'a Plan,
    /// One entry per probe; `None` for an aggregate.
    pub buffers: Vec<Option<EventBuffer<'a>>>,
    /// One entry per probe; `None` for events.
    pub aggregate_counters: Vec<Option<AggregateCounter>>,
    pub losses: Vec<LossTracker>,
    pub stale: StaleEntries,
    pub batches: &'a RefCell<BatchSender>,
    pub written: &'a WrittenCount,
    pub progress: Progress,
    /// The cgroups in filters, if there are any.
    pub following: Option<&'a CgroupFollower>,
    pub options: &'a Options,
    pub clock: ClockMonitor,
    /// When the window began.
    pub started: Instant,
    /// Whether the window has begun.
    pub recording: bool,
    /// The writer's reason to end the window.
    pub end_reason: EndReason,
}

/// The reason that a window ends, if another thread finds it.
pub(crate) type EndReason = Arc<OnceLock<End>>;

impl Reader<'_> {
    /// All events that end the sleep: the rings, signals, the end of the writer, a closed standard output, a clock that
    /// is set.
    pub fn watch(&self, stop: &StopSignal, on_stdout: bool) -> Result<OwnedFd> {
        let failed = |error| Error::failed(format!("epoll: {error}"));
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let add =
            |fd: rustix::fd::BorrowedFd<'_>, key, flags| epoll::add(&set, fd, epoll::EventData::new_u64(key), flags);
        for (index, buffer) in self.buffers.iter().enumerate().filter_map(|(i, buffer)| Some((i, buffer.as_ref()?))) {
            // Edge-triggered: it wakes when the program sends a wakeup, not for as long as records are unread
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            add(buffer.wakeups(), index as u64, flags).map_err(failed)?;
        }
        add(stop.as_fd(), KEY_STOP, epoll::EventFlags::IN).map_err(failed)?;
        add(self.clock.as_fd(), KEY_CLOCK, epoll::EventFlags::IN).map_err(failed)?;
        if on_stdout {
            // Errors are always reported, so no event is requested. A regular file is rejected: it has no reader that
            // can close it.
            let _ = add(rustix::stdio::stdout(), KEY_STDOUT, epoll::EventFlags::empty());
        }
        Ok(set)
    }

    /// Reads until the window ends.
    pub fn read(&mut self, set: &OwnedFd, stop: &StopSignal, loaded: &[Loaded]) -> Result<End> {
        let deadline = self.plan.window.duration.map(|duration| self.started + duration);
        self.read_until(deadline, set, stop, loaded)
    }

    /// Reads and discards the events before the window. `None` when the window begins.
    pub fn warm_up(&mut self, set: &OwnedFd, stop: &StopSignal, loaded: &[Loaded]) -> Result<Option<End>> {
        let deadline = Instant::now() + self.plan.window.warmup;
        let end = self.read_until(Some(deadline), set, stop, loaded)?;
        Ok((end != End::Duration).then_some(end))
    }

    /// Begins the window at `at` of the clock of timestamps; without `recording` if it was ended before.
    pub fn begin(&mut self, at: u64, recording: bool) {
        self.started = Instant::now();
        self.recording = recording;
        if recording {
            self.batches.borrow_mut().begin(at);
        }
    }

    fn read_until(
        &mut self,
        deadline: Option<Instant>,
        set: &OwnedFd,
        stop: &StopSignal,
        loaded: &[Loaded],
    ) -> Result<End> {
        let events = self.plan.probes.iter().filter(|probe| probe.aggregate.is_none());
        let latency = events.map(|probe| probe.buffer.max_latency).min();
        let pause = latency.into_iter().chain(self.progress.interval()).min().unwrap_or(IDLE);
        let mut events = Vec::with_capacity(8);
        let mut more = false;
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let wait = if more { Duration::ZERO } else { left.map_or(pause, |left| pause.min(left)) };
            events.clear();
            let timeout = rustix::time::Timespec::try_from(wait).ok();
            match epoll::wait(set, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::failed(format!("epoll: {error}"))),
            }
            // The keys are in a packed struct, hence the copies
            let keys: Vec<u64> = events.iter().map(|event: &epoll::Event| event.data.u64()).collect();
            // First, so that records read from now on have the new time
            if keys.contains(&KEY_CLOCK) {
                self.clock.poll();
            }
            more = self.consume(loaded)?;
            self.stale.check(self.plan, loaded, clock::monotonic())?;
            self.print_notices();
            if self.batches.borrow().is_full() {
                return Ok(End::MaxEvents);
            }
            if keys.contains(&KEY_STOP) {
                let other = if stop.by_signal() { End::Interrupted } else { End::SinkFailed };
                return Ok(self.end_reason.get().copied().unwrap_or(other));
            }
            if keys.contains(&KEY_STDOUT) {
                return Ok(End::Closed);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(End::Duration);
            }
            let lost = || {
                loaded
                    .iter()
                    .filter_map(|loaded| loaded.counters().ok())
                    .fold(0, |sum, c| c.lost_buffer_full.saturating_add(sum))
            };
            let written = self.written.load(Ordering::Relaxed);
            self.progress.draw(self.started.elapsed(), self.plan.window.duration, written, lost);
        }
    }

    /// Prints the changes of cgroups in filters.
    fn print_notices(&mut self) {
        for words in self.following.map(CgroupFollower::notices).unwrap_or_default() {
            self.progress.clear();
            notice(words, self.options);
        }
    }

    /// Polls every buffer. Returns whether there may be more records.
    fn consume(&mut self, loaded: &[Loaded]) -> Result<bool> {
        let mut more = false;
        let mut stream = 0;
        for (index, probe) in self.plan.probes.iter().enumerate() {
            if let Some(buffer) = &mut self.buffers[index] {
                more |= buffer.consume()?;
            }
            let mut batches = self.batches.borrow_mut();
            if let Some(lost) = self.losses[index].update(loaded[index].counters()?.lost()).filter(|_| self.recording) {
                let cause = if probe.aggregate.is_some() { LossCause::Map } else { LossCause::Kernel };
                batches.push_gap(stream, lost, cause);
            }
            batches.flush();
            stream += probe.streams.len();
        }
        Ok(more)
    }

    /// Reads the remaining records after everything is detached. A program can still be running on another CPU for a
    /// moment: the kernel's count shows when all records have arrived.
    pub fn drain(&mut self, loaded: &[Loaded]) -> Result<Vec<Counters>> {
        let until = Instant::now() + self.plan.window.drain.unwrap_or(SETTLE);
        loop {
            let kernel: Vec<Counters> = loaded.iter().map(Loaded::counters).collect::<Result<_>>()?;
            self.clock.poll();
            while self.consume(loaded)? {}
            if self.is_complete(&kernel)? || Instant::now() >= until {
                return Ok(kernel);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether all records that the kernel has counted have arrived.
    fn is_complete(&self, kernel: &[Counters]) -> Result<bool> {
        let mut stream = 0;
        for (index, probe) in self.plan.probes.iter().enumerate() {
            let counted = match &self.aggregate_counters[index] {
                Some(counter) => counter.counted()?,
                None => {
                    let batches = self.batches.borrow();
                    let user = batches.counts()[stream];
                    Some(user.records.saturating_add(user.warmup).saturating_add(user.after_end))
                }
            };
            if counted.is_some_and(|counted| kernel[index].seen != counted.saturating_add(kernel[index].lost())) {
                return Ok(false);
            }
            stream += probe.streams.len();
        }
        Ok(true)
    }
}
