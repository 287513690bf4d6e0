//! A run: everything that the plan says, from loading to the report.

pub mod batch;
pub mod clock;
mod files;
mod lookup;
mod losses;
mod order;
mod progress;
mod signals;
mod writer;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};

use crate::catalog::MapSpec;
use crate::console;
use crate::error::{Error, Result};
use crate::kernel::{Buffer, Counters, Host, Loaded};
use crate::output::sink::Source;
use crate::output::{Globals, Sink};
use crate::plan::{Plan, ProbePlan, SinkPlan};
use crate::report::{self, Account, End, MapAccount, Report};
use batch::{Collector, QUEUE_BYTES, Written};
use files::Opened;
pub(crate) use files::write_new;
use losses::Losses;
use progress::Progress;
use signals::Stop;
use writer::{Outcome, Routed};

/// How long the end of a window may wait for records that the kernel has counted and not yet handed out.
const SETTLE: Duration = Duration::from_millis(200);

/// What the command line says about a run besides the plan.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Nothing on standard error unless something is wrong.
    pub quiet: bool,
}

/// As `nice -n -15` would start it.
const READER_PRIORITY: i32 = -15;

/// How long the writer may take for the rest without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keys of the epoll set; smaller ones are probes.
const KEY_STOP: u64 = u64::MAX;
const KEY_STDOUT: u64 = u64::MAX - 1;

/// Runs `plan` to its end.
///
/// # Errors
/// If it can't start: [`Kind`](crate::error::Kind) says why. What happens once every probe is attached is in the
/// report.
pub fn run(plan: &Plan, options: &Options) -> Result<Report> {
    let say = |words: String| {
        if !options.quiet {
            console::say(&format!("ebpf-run: {words}"));
        }
    };
    let host = Host::read();
    host.check()?;
    for warning in warnings(plan, &host) {
        say(format!("warning: {warning}"));
    }
    let plan = &resolved(plan)?;
    let stop = Stop::install()?;
    let globals = Arc::new(Globals {
        name: plan.name.clone(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        start: clock::now(),
        labels: plan.labels.clone(),
    });
    let opened: Vec<Opened> = plan.sinks.iter().map(|sink| files::open(sink, &globals)).collect::<Result<_>>()?;
    files::check_apart(&plan.sinks, &opened)?;
    let mut loaded: Vec<Loaded> = plan.probes.iter().map(|probe| Loaded::load(probe, &host)).collect::<Result<_>>()?;

    let min_sizes = plan.probes.iter().map(|probe| probe.program.event.min_size).collect();
    let sorts = plan.probes.iter().any(|probe| probe.sort);
    let (collector, queue) = batch::queue(min_sizes, QUEUE_BYTES, plan.max_events, sorts);
    let collector = RefCell::new(collector);
    let buffers: Vec<Buffer<'_>> = loaded
        .iter()
        .zip(&plan.probes)
        .enumerate()
        .map(|(index, (loaded, probe))| {
            let collector = &collector;
            Buffer::new(loaded, &probe.buffer, move |record| collector.borrow_mut().take(index, record))
        })
        .collect::<Result<_>>()?;

    loaded.iter_mut().try_for_each(|loaded| loaded.attach(&host))?;
    let started = Instant::now();
    let start = report::Instant { wall: clock::now(), monotonic: clock::monotonic() };
    opened.iter().try_for_each(files::empty)?;
    say(attached(plan, &loaded));

    let written = Written::default();
    let on_stdout = opened.iter().any(|opened| opened.path.is_none());
    let writer = start_writer(plan, opened, &globals, queue, &written, &stop)?;
    go_first();
    let progress = Progress::new(!options.quiet, on_stdout);
    let losses = vec![Losses::default(); plan.probes.len()];
    let mut reader = Reader { plan, buffers, losses, collector: &collector, written: &written, progress, started };
    let waiting = reader.watch(&stop, on_stdout)?;
    let end = reader.read(&waiting, &stop, &loaded)?;
    let elapsed = started.elapsed();

    loaded.iter_mut().for_each(Loaded::detach);
    let kernel = reader.drain(&loaded)?;
    reader.progress.clear();
    let losses = std::mem::take(&mut reader.losses);
    let told = reader.buffers.iter().map(|buffer| Told { peak: buffer.peak(), lost: buffer.lost() }).collect();
    drop(reader);
    let received = collector.into_inner().finish(); // the writer ends when nobody queues any more
    let outcome = join(writer, say)?;
    let hooks = loaded.iter().map(|loaded| loaded.hooks().to_vec()).collect();
    let refused = loaded.iter().zip(&plan.probes).map(|(loaded, probe)| loaded.refusals(&probe.program.maps));
    let refused = refused.collect::<Result<_>>()?;
    let missed = loaded.iter().map(Loaded::missed).collect::<Result<_>>()?;
    let books = Books { kernel, received, losses, hooks, told, refused, missed };
    Ok(make_report(plan, &books, end, (start, elapsed), outcome))
}

/// The plan with the names that only this machine knows in place.
fn resolved(plan: &Plan) -> Result<Plan> {
    let mut plan = plan.clone();
    for probe in &mut plan.probes {
        let found = lookup::resolve(probe)?;
        probe.rodata.extend(found);
    }
    Ok(plan)
}

/// What is suspicious, but may be meant.
fn warnings(plan: &Plan, host: &Host) -> Vec<String> {
    let mut warnings = Vec::new();
    let disks: BTreeSet<&str> = plan.probes.iter().flat_map(|probe| &probe.disks).map(String::as_str).collect();
    for disk in disks.into_iter().filter(|disk| !Path::new("/sys/block").join(disk).exists()) {
        let found = Path::new("/sys/class/block").join(disk);
        let whole = std::fs::canonicalize(found).ok();
        let whole = whole.as_deref().and_then(Path::parent).and_then(Path::file_name);
        warnings.push(match whole {
            Some(whole) => format!(
                "`{disk}` is a partition, and requests are counted by disk: nothing will match; write `{}`",
                whole.to_string_lossy()
            ),
            None => format!("there is no disk `{disk}` here now (see lsblk)"),
        });
    }
    if !host.initial_pid_namespace {
        warnings.push(
            "this process runs in a pid namespace: pids in filters and events are the host's, and the runner's own \
             events are not left out"
                .into(),
        );
    }
    warnings
}

fn attached(plan: &Plan, loaded: &[Loaded]) -> String {
    let probe = |(probe, loaded): (&ProbePlan, &Loaded)| match loaded.hooks().len() {
        1 => format!("{} ({}, 1 hook)", probe.name, probe.program.name),
        hooks => format!("{} ({}, {hooks} hooks)", probe.name, probe.program.name),
    };
    let probes: Vec<String> = plan.probes.iter().zip(loaded).map(probe).collect();
    let mut ends = Vec::new();
    ends.extend(plan.duration.map(|duration| format!("after {duration:?}")));
    ends.extend(plan.max_events.map(|events| format!("after {events} events")));
    ends.push("with Ctrl-C".into());
    format!("attached {}; ends {}", probes.join(", "), ends.join(" or "))
}

/// This thread, from now on the reader, goes before others: it has little to do, but while it waits for a CPU the buffer
/// fills. The writer, which has a queue of its own, keeps its place. Where this is not permitted, it goes without.
fn go_first() {
    let _ = rustix::process::setpriority_process(None, READER_PRIORITY);
}

fn start_writer(
    plan: &Plan,
    opened: Vec<Opened>,
    globals: &Arc<Globals>,
    queue: batch::Queue,
    written: &Written,
    stop: &Stop,
) -> Result<JoinHandle<Outcome>> {
    let mut sinks = Vec::new();
    for (index, (SinkPlan { name, shape, .. }, opened)) in plan.sinks.iter().zip(opened).enumerate() {
        let source = |probe: &ProbePlan| probe.sinks.contains(&index);
        let sources: Vec<Option<Source<'_>>> = plan
            .probes
            .iter()
            .map(|probe| source(probe).then_some(Source { layout: &probe.program.event, name: &probe.name }))
            .collect();
        let sink = Sink::new(shape, &sources, globals, opened.output);
        sinks.push(sink.map_err(|words| Error::failed(format!("sink `{name}`: {words}")))?);
    }
    let routed = plan.probes.iter().map(|probe| Routed {
        name: probe.name.clone(),
        layout: Arc::clone(&probe.program.event),
        sinks: probe.sinks.clone(),
        sort_within: probe.sort.then_some(probe.buffer.max_latency.as_nanos() as u64),
    });
    let bell = stop.bell()?;
    writer::start(queue, routed.collect(), sinks, Arc::clone(written), move || bell.ring())
        .map_err(|error| Error::failed(format!("the writer's thread can't be started: {error}")))
}

/// The loop between the kernel's buffers and the queue. It never waits for a sink.
struct Reader<'a> {
    plan: &'a Plan,
    buffers: Vec<Buffer<'a>>,
    losses: Vec<Losses>,
    collector: &'a RefCell<Collector>,
    written: &'a Written,
    progress: Progress,
    started: Instant,
}

impl Reader<'_> {
    /// Everything that can end the sleep: the rings, signals, the writer's end, a reader of stdout that goes away.
    fn watch(&self, stop: &Stop, on_stdout: bool) -> Result<OwnedFd> {
        let failed = |error| Error::failed(format!("epoll: {error}"));
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let add =
            |fd: rustix::fd::BorrowedFd<'_>, key, flags| epoll::add(&set, fd, epoll::EventData::new_u64(key), flags);
        for (index, buffer) in self.buffers.iter().enumerate() {
            // Edge-triggered: woken when the program says so, not for as long as anything is unread
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            add(buffer.wakeups(), index as u64, flags).map_err(failed)?;
        }
        add(stop.as_fd(), KEY_STOP, epoll::EventFlags::IN).map_err(failed)?;
        if on_stdout {
            // Errors are always reported, so nothing is asked for. A regular file refuses: nobody can close it.
            let _ = add(rustix::stdio::stdout(), KEY_STDOUT, epoll::EventFlags::empty());
        }
        Ok(set)
    }

    fn read(&mut self, set: &OwnedFd, stop: &Stop, loaded: &[Loaded]) -> Result<End> {
        let deadline = self.plan.duration.map(|duration| self.started + duration);
        let latency = self.plan.probes.iter().map(|probe| probe.buffer.max_latency).min();
        let pause = latency.into_iter().chain(self.progress.interval()).min().unwrap_or(SETTLE);
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
            more = self.consume(loaded)?;
            if self.collector.borrow().is_full() {
                return Ok(End::MaxEvents);
            }
            // The keys are in a packed struct, hence the copies
            let keys: Vec<u64> = events.iter().map(|event: &epoll::Event| event.data.u64()).collect();
            if keys.contains(&KEY_STOP) {
                return Ok(if stop.by_signal() { End::Interrupted } else { End::SinkFailed });
            }
            if keys.contains(&KEY_STDOUT) {
                return Ok(End::Closed);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(End::Duration);
            }
            let lost = || loaded.iter().filter_map(|loaded| loaded.counters().ok()).map(|c| c.lost_buffer_full).sum();
            let written = self.written.load(Ordering::Relaxed);
            self.progress.draw(self.started.elapsed(), self.plan.duration, written, lost);
        }
    }

    /// A look into every buffer. Returns whether there may be more.
    fn consume(&mut self, loaded: &[Loaded]) -> Result<bool> {
        let mut more = false;
        for (index, buffer) in self.buffers.iter_mut().enumerate() {
            more |= buffer.consume()?;
            let mut collector = self.collector.borrow_mut();
            if let Some(lost) = self.losses[index].look(loaded[index].counters()?.lost()) {
                collector.gap(index, lost);
            }
            collector.hand_over();
        }
        Ok(more)
    }

    /// Takes what is left once everything is detached. A program may still be at work on another CPU for a moment:
    /// the kernel's count says when all is there.
    fn drain(&mut self, loaded: &[Loaded]) -> Result<Vec<Counters>> {
        let until = Instant::now() + SETTLE;
        loop {
            let kernel: Vec<Counters> = loaded.iter().map(Loaded::counters).collect::<Result<_>>()?;
            while self.consume(loaded)? {}
            let complete = kernel
                .iter()
                .zip(self.collector.borrow().counts())
                .all(|(kernel, user)| kernel.seen == user.records + user.after_end + kernel.lost());
            if complete || Instant::now() >= until {
                return Ok(kernel);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits for the writer, and says so if that takes a while: whoever pressed Ctrl-C wants to know why nothing happens.
fn join(writer: JoinHandle<Outcome>, say: impl Fn(String)) -> Result<Outcome> {
    let patience = Instant::now() + PATIENCE;
    while !writer.is_finished() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    if !writer.is_finished() {
        say("waiting for a sink to take the rest; another signal gives it up".into());
    }
    writer.join().map_err(|_| Error::failed("the writer's thread died; this is a bug of ebpf-run, please report it"))
}

/// What the two sides counted, a probe each.
struct Books {
    kernel: Vec<Counters>,
    received: Vec<batch::Received>,
    losses: Vec<Losses>,
    hooks: Vec<Vec<String>>,
    told: Vec<Told>,
    /// Inserts that each map of the program refused.
    refused: Vec<Vec<u64>>,
    missed: Vec<u64>,
}

/// What a perf buffer tells of itself.
struct Told {
    peak: Option<u64>,
    lost: Option<u64>,
}

fn make_report(
    plan: &Plan,
    books: &Books,
    end: End,
    (start, elapsed): (report::Instant, Duration),
    outcome: Outcome,
) -> Report {
    let sink = |index: usize| plan.sinks[index].name.as_str();
    let end = if outcome.is_closed() { End::Closed } else { end };
    let mut accounts = Vec::new();
    for (index, probe) in plan.probes.iter().enumerate() {
        let (user, kernel) = (books.received[index], books.kernel[index]);
        let written = outcome.written[index];
        let lost_other = outcome.failed[index] + user.malformed;
        accounts.push(Account {
            probe: probe.name.clone(),
            program: probe.program.name.to_owned(),
            hooks: books.hooks[index].clone(),
            kernel,
            received: user.records,
            written,
            after_end: user.after_end,
            lost_queue_full: user.lost_queue_full,
            lost_other,
            late: outcome.late[index],
            peak_unread: books.told[index].peak.unwrap_or(kernel.peak_unread),
            lost_told: books.told[index].lost,
            unwritten: user.records.saturating_sub(written + lost_other + user.lost_queue_full),
            missed: books.missed[index],
            maps: maps(probe, &books.refused[index]),
            memory: probe.buffer.memory(Host::possible_cpus()),
            buffer: probe.buffer.clone(),
            would_have_held: books.losses[index].would_have_held(&probe.buffer, user, kernel),
        });
    }
    let template_failure =
        outcome.first_failure.as_ref().map(|(index, words)| format!("sink `{}`: {words}", sink(*index)));
    let failure = outcome.broken.filter(|(_, error)| error.kind() != std::io::ErrorKind::BrokenPipe);
    let failure = failure.map(|(index, error)| sink_failed(&plan.sinks[index], &error));
    Report { end, start, elapsed, accounts, max_loss: plan.max_loss, template_failure, failure }
}

fn maps(probe: &ProbePlan, refused: &[u64]) -> Vec<MapAccount> {
    let account = |(map, refused): (&MapSpec, &u64)| MapAccount {
        name: map.name.clone(),
        max_entries: probe.entries(map),
        refused: *refused,
    };
    probe.program.maps.iter().zip(refused).map(account).collect()
}

fn sink_failed(sink: &SinkPlan, error: &std::io::Error) -> Error {
    let path = if sink.path == "-" { "standard output" } else { sink.path.as_str() };
    let words = Error::failed(format!("sink `{}` can't write to {path}: {error}", sink.name));
    match error.kind() {
        std::io::ErrorKind::StorageFull => words.hint("what was written until then is there; make room and run again"),
        _ => words.hint("what was written until then is there"),
    }
}
