//! A run: from loading the plan's programs to the report.

mod accounting;
mod cgroup_follower;
pub mod clock;
mod disk_check;
pub(crate) mod limits;
mod load;
mod lock;
pub(crate) mod privileges;
pub(crate) mod resolve;
pub(crate) mod signals;
mod startup;
mod warmup;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::catalog::{MapSpec, StackKind};
use crate::config::quantity::Nanoseconds;
use crate::console;
use crate::error::{Error, Result};
use crate::files::rotate::RotatingFile;
use crate::files::target::{self, OpenTarget};
use crate::kernel::{EventBuffer, Host, Loaded};
use crate::output::time;
use crate::output::{Globals, OpenSink};
use crate::pipeline::aggregate_poller::{AggregateCounter, AggregatePoller, PollResult, PollerInputs};
use crate::pipeline::loss_tracker::LossTracker;
use crate::pipeline::progress::Progress;
use crate::pipeline::queue::{self, BatchReceiver, QUEUE_BYTES, Received, WrittenCount};
use crate::pipeline::reader::{EndReason, Reader};
use crate::pipeline::writer::{self, StreamRoute, WriterInputs, WriterOutcome, WriterThread};
use crate::pipeline::{priority, stale_entries};
use crate::plan::{Plan, SinkPlan};
use crate::report::{self, Report};
use crate::symbols::{Symbols, UnresolvedCause};
use accounting::{PerfBufferCounts, RunCounts};
pub(crate) use cgroup_follower::CgroupFollower;
use cgroup_follower::Notice;
pub(crate) use disk_check::missing_disks;
use load::attached;
pub(crate) use load::{cgroups, resolved};
pub(crate) use signals::StopSignal;
pub use startup::Session;
use warmup::Baseline;

/// Options of the command line that are not in the plan.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Print errors and warnings only.
    pub quiet: bool,
}

impl Options {
    fn say(&self, words: &str) {
        if !self.quiet {
            console::say(&format!("ebpf-run: {words}"));
        }
    }
}

/// Prints a warning, with `quiet` too.
fn warn(words: String) {
    console::say(&format!("ebpf-run: warning: {words}"));
}

/// Prints the messages of the thread that follows cgroups.
pub(crate) fn notice(notice: Notice, options: &Options) {
    match notice {
        Notice::Warning(words) => warn(words),
        Notice::Plain(words) => options.say(&words),
    }
}

/// How long the writer can drain before a message is printed.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes the lock and waits until the window is to start. `None` if a signal ended the wait.
///
/// # Errors
/// [`Kind::Skipped`](crate::error::Kind::Skipped) if another run holds the lock; an error if no program can be loaded.
pub fn begin(plan: &Plan, options: &Options) -> Result<Option<Session>> {
    let say = |words: String| options.say(&words);
    limits::check_open_files(Some(plan))?;
    let host = Host::read();
    host.check()?;
    missing_disks(plan).into_iter().for_each(warn);
    if !host.initial_pid_namespace {
        say("this process runs in a pid namespace: pids in filters and events are the host's, and the runner's own events \
             are not excluded"
            .into());
    }
    resolved(plan)?; // missing names are reported before the wait
    let stop = StopSignal::install()?;
    let globals = Globals {
        name: plan.name.clone(),
        host: Host::name(),
        start: clock::now(),
        labels: plan.labels.clone(),
        probe: None,
    };
    let lock = startup::begin(plan, &Arc::new(globals.clone()), &stop, &say)?;
    Ok(lock.map(|lock| Session { host, globals, stop, lock, report: None, gives_up_privileges: false }))
}

/// Runs `plan` to its end: [`begin`], then [`window`].
///
/// # Errors
/// See [`begin`] and [`window`].
pub fn run(plan: &Plan, options: &Options) -> Result<Report> {
    let session = begin(plan, options)?.ok_or_else(|| Error::failed("interrupted before the window began"))?;
    window(plan, options, &session)
}

/// Runs the window of `plan`.
///
/// # Errors
/// If it can't start: [`Kind`](crate::error::Kind) has the reason. The report has everything that happens after all
/// probes are attached.
pub fn window(plan: &Plan, options: &Options, session: &Session) -> Result<Report> {
    window_around(plan, options, session, || ())
}

/// Like [`window`]; calls `load` once the window is open, and waits for it.
///
/// # Errors
/// See [`window`].
pub(crate) fn window_around(plan: &Plan, options: &Options, session: &Session, load: impl FnOnce()) -> Result<Report> {
    let say = |words: String| options.say(&words);
    let plan = &resolved(plan)?;
    let mut symbols = start_symbols(plan, &session.host);
    let host = &Host { symbol_helper: symbols.helper(), ..session.host.clone() };
    let globals = Arc::new(Globals { start: clock::now(), ..session.globals.clone() });
    let stop = &session.stop;
    let mut opened = target::open_all(&plan.sinks, &globals, &session.reserved_names(), &warn)?;
    let (plan, mut loaded, skipped) = load::load(plan, host)?;
    let plan = &plan;
    symbols.leave_out(loaded.iter().flat_map(Loaded::code).collect());
    for probe in &skipped {
        warn(format!("continuing without {}: {}", probe.probe, probe.reason));
    }

    let min_sizes = plan.streams().map(|(_, stream)| stream.layout.min_size).collect();
    let sorts = plan.probes.iter().any(|probe| probe.sort);
    let (mut sender, queue) = queue::queue(min_sizes, QUEUE_BYTES, plan.window.max_events, sorts);
    if !plan.window.warmup.is_zero() {
        sender.warm_up(plan.streams().map(|(_, stream)| Arc::clone(&stream.layout)).collect());
    }
    let sender = RefCell::new(sender);
    let mut buffers = Vec::new();
    let mut first = 0;
    for (loaded, probe) in loaded.iter().zip(&plan.probes) {
        let (sender, stream) = (&sender, first);
        let take = move |record: &[u8]| sender.borrow_mut().push(stream, record);
        buffers.push(if probe.aggregate.is_none() {
            Some(EventBuffer::new(loaded, &probe.buffer, take)?)
        } else {
            None
        });
        first += probe.streams.len();
    }

    loaded.iter_mut().try_for_each(|loaded| loaded.attach(host))?;
    let started = Instant::now();
    opened.iter_mut().filter_map(|opened| opened.files.as_mut()).for_each(RotatingFile::begin);
    say(attached(plan, &loaded));

    priority::raise_reader_priority();
    let mut needed = session.report_needs();
    for store in opened.iter().filter_map(|opened| opened.files.as_ref()) {
        needed |= store.needs();
    }
    let kept = if session.gives_up_privileges { Some(privileges::drop(needed, &loaded)?) } else { None };

    let following = CgroupFollower::start(plan, &loaded)?;
    let (shared, monitor) = (SharedState::default(), clock::ClockMonitor::start()?);
    let on_stdout = opened.iter().any(OpenTarget::is_stdout);
    let writer = start_writer(plan, opened, &globals, queue, &shared, stop, monitor.clock())?;
    let mut reader = Reader {
        plan,
        buffers,
        aggregate_counters: AggregateCounter::all(plan, &loaded)?,
        losses: vec![LossTracker::default(); plan.probes.len()],
        stale: stale_entries::StaleEntries::default(),
        batches: &sender,
        written: &shared.written,
        progress: Progress::new(!options.quiet, on_stdout),
        following: following.as_ref(),
        options,
        clock: monitor,
        started,
        recording: plan.window.warmup.is_zero(),
        end_reason: Arc::clone(&shared.why),
    };
    let waiting = reader.watch(stop, on_stdout)?;
    let early = if reader.recording { None } else { reader.warm_up(&waiting, stop, &loaded)? };
    let start = report::ClockInstant { wall: clock::now(), monotonic: clock::monotonic() };
    let baseline = if reader.recording {
        Baseline::nothing(plan)
    } else {
        reader.begin(start.monotonic, early.is_none());
        Baseline::now(plan, &mut reader, &loaded)?
    };
    let (end, readings) = match early {
        Some(end) => (end, None),
        None => {
            let (started, stop_handle) = (reader.started, stop.handle()?);
            let given = PollerInputs { baseline: &baseline.entries, counters: &reader.aggregate_counters, symbols };
            let readings = AggregatePoller::start(plan, &loaded, &sender.borrow(), started, stop_handle, given)?;
            load();
            (reader.read(&waiting, stop, &loaded)?, readings)
        }
    };
    let elapsed = reader.started.elapsed();
    if end == report::End::MinFree {
        // The window is shorter than configured, and a user has to free disk space
        warn(format!("stopped after {}: free disk space fell below `min_free`", Nanoseconds::from(elapsed)));
    }

    let cpus_not_sampled = loaded.iter().map(Loaded::cpus_not_sampled).collect();
    loaded.iter_mut().for_each(Loaded::detach);
    let kernel = reader.drain(&loaded)?;
    reader.progress.clear();
    let losses = std::mem::take(&mut reader.losses);
    let stale = std::mem::take(&mut reader.stale);
    let clock_steps = reader.clock.steps_since(start.monotonic);
    let counts_of = |buffer: &EventBuffer<'_>| PerfBufferCounts { peak: buffer.peak(), lost: buffer.lost() };
    let perf_buffers = reader.buffers.iter().map(|buffer| buffer.as_ref().map(counts_of).unwrap_or_default()).collect();
    drop(reader);
    let cgroups = following.map(CgroupFollower::finish).transpose()?.unwrap_or_default();
    // The writer ends when all senders are dropped
    let read = readings.map(AggregatePoller::finish);
    let received = sender.into_inner().finish();
    let (outcome, gave_up) = join(writer, plan.window.drain, say)?;
    let read = read.transpose()?.unwrap_or_else(|| PollResult::nothing(plan.probes.len()));
    let received = added(received, &read.received);
    let hooks = loaded.iter().map(|loaded| loaded.hooks().to_vec()).collect();
    let verdict = |loaded: &Loaded| (loaded.verdict().0, loaded.verdict().1.map(str::to_owned));
    let verdicts = loaded.iter().map(verdict).collect();
    let variants = loaded.iter().map(|loaded| loaded.variants().clone()).collect();
    let refused = loaded.iter().zip(&plan.probes).map(|(loaded, probe)| loaded.insert_failures(&probe.program.maps));
    let refused = refused.collect::<Result<_>>()?;
    let missed = loaded.iter().map(Loaded::missed).collect::<Result<_>>()?;
    let PollResult { totals: counted, names, helpers_replaced, .. } = read;
    let under_way = of_maps(plan, &loaded, Loaded::under_way)?;
    let mut unseen = of_maps(plan, &loaded, Loaded::unseen)?;
    stale.add_to(&mut unseen);
    let counts = RunCounts {
        kernel,
        received,
        losses,
        hooks,
        verdicts,
        variants,
        perf_buffers,
        counted,
        names,
        cpus_not_sampled,
        refused,
        unseen,
        under_way,
        missed,
        baseline,
    };
    let mut report = accounting::make_report(plan, &counts, end, (start, elapsed), outcome);
    report.skipped = skipped;
    report.clock_steps = clock_steps;
    report.cgroups = cgroups;
    report.unknown_time_zone = time::unknown_zone();
    report.symbol_helpers_replaced = helpers_replaced;
    report.capabilities = kept.map(privileges::names);
    report.failure = gave_up.or(report.failure);
    Ok(report)
}

/// Called before the first thread starts and before capabilities are dropped.
fn start_symbols(plan: &Plan, host: &Host) -> Symbols {
    let needed = privileges::for_symbol_helper(plan);
    let mut symbols = Symbols::start(match needed {
        // The pids of events are those of the initial namespace: in this namespace they would be other processes
        Some(_) if !host.initial_pid_namespace => Err(UnresolvedCause::PidNamespace),
        Some(needed) => Ok(needed),
        None => Err(UnresolvedCause::NoHelper),
    });
    match symbols.trouble() {
        Some(cause) if needed.is_some() => {
            warn(format!("names of user frames will be `[unknown]`: {}", cause.words()));
        }
        _ => {
            let missing = needed.map(privileges::missing_for_symbols).filter(|missing| !missing.is_empty());
            if let Some(missing) = missing {
                let missing = missing.join(", ");
                warn(format!("names of user frames may be `[unknown]`: the process lacks {missing}"));
            }
        }
    }
    if privileges::has_stacks(plan, StackKind::Kernel) && !symbols.has_kernel_addresses() {
        let why = "the kernel hides its symbols; the process lacks CAP_SYSLOG, or kernel.kptr_restrict is 2";
        warn(format!("names of kernel frames will be `[unknown]`: {why}"));
    }
    symbols
}

/// The result of `of` for the maps of each probe.
fn of_maps<T>(plan: &Plan, loaded: &[Loaded], of: fn(&Loaded, &[MapSpec]) -> Result<Vec<T>>) -> Result<Vec<Vec<T>>> {
    loaded.iter().zip(&plan.probes).map(|(loaded, probe)| of(loaded, &probe.program.maps)).collect()
}

/// The state that reader and writer share.
#[derive(Debug, Default)]
struct SharedState {
    /// Records written so far.
    written: WrittenCount,
    /// The writer's reason to end the window.
    why: EndReason,
}

fn start_writer(
    plan: &Plan,
    opened: Vec<OpenTarget>,
    globals: &Arc<Globals>,
    queue: BatchReceiver,
    shared: &SharedState,
    stop: &StopSignal,
    clock: clock::Clock,
) -> Result<WriterThread> {
    let (mut sinks, mut files) = (Vec::new(), Vec::new());
    for (index, (SinkPlan { name, shape, .. }, opened)) in plan.sinks.iter().zip(opened).enumerate() {
        let sink = OpenSink::new(shape, &plan.sources(index), globals, opened.output);
        sinks.push(sink.map_err(|words| Error::failed(format!("sink `{name}`: {words}")))?);
        files.push(opened.files);
    }
    let routed = plan.streams().map(|(probe, stream)| StreamRoute {
        name: probe.name.clone(),
        layout: Arc::clone(&stream.layout),
        sinks: stream.sinks.clone(),
        sort_within: probe.sort.then_some(probe.buffer.max_latency.as_nanos() as u64),
    });
    let work = WriterInputs {
        queue,
        streams: routed.collect(),
        sinks,
        files,
        clock,
        max_bytes: plan.window.max_bytes,
        progress: Arc::clone(&shared.written),
        stop: stop.handle()?,
        end_reason: Arc::clone(&shared.why),
    };
    writer::start(work).map_err(|error| Error::failed(format!("the writer's thread can't be started: {error}")))
}

/// The records received from buffers and from maps, one entry per stream.
fn added(received: Vec<Received>, from_maps: &[Received]) -> Vec<Received> {
    if from_maps.is_empty() {
        return received;
    }
    received.iter().zip(from_maps).map(|(one, other)| one.plus(other)).collect()
}

/// Waits for the writer, with a message if that takes long, so that a user who pressed Ctrl-C knows the reason. Stops
/// waiting after `drain` and returns an error.
fn join(writer: WriterThread, drain: Option<Duration>, say: impl Fn(String)) -> Result<(WriterOutcome, Option<Error>)> {
    let began = Instant::now();
    let mut said = false;
    while !writer.is_done() {
        let flushed = writer.is_flushed();
        if let Some(drain) = drain.filter(|drain| !flushed && began.elapsed() >= *drain) {
            let what = format!("a sink did not drain within {} (`drain`)", Nanoseconds::from(drain));
            let error = Error::failed(what).hint("the records that it accepted are in incomplete files (`.partial`)");
            return Ok((writer.abandon(), Some(error)));
        }
        if began.elapsed() >= PATIENCE && !said {
            let what = if flushed { "completing files" } else { "draining sinks" };
            say(format!("{what}; send the signal again to abort"));
            said = true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let outcome = writer.join();
    let outcome =
        outcome.map_err(|_| Error::failed("the writer's thread died; this is a bug of ebpf-run, please report it"))?;
    Ok((outcome, None))
}
