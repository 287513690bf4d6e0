//! A run: everything that the plan says, from loading to the report.

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
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::catalog::{MapSpec, StackKind};
use crate::config::quantity::Nanoseconds;
use crate::console;
use crate::error::{Error, Result};
use crate::files::atomic::{AtomicFile, CreateError, FileAttributes, OpenDir, check_replaceable};
use crate::files::path_safety::{ParentDir, PathPolicy};
use crate::files::rotate::RotatingFile;
use crate::files::target::{self, OpenTarget, ReservedName};
use crate::kernel::{EventBuffer, Host, Loaded};
use crate::output::template::render_global;
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
use lock::Lock;
pub(crate) use signals::StopSignal;
use warmup::Baseline;

/// What the command line says about a run besides the plan.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Nothing on standard error unless something is wrong.
    pub quiet: bool,
}

impl Options {
    fn say(&self, words: &str) {
        if !self.quiet {
            console::say(&format!("ebpf-run: {words}"));
        }
    }
}

/// Said with `quiet` too: something is not as the config wants it.
fn warn(words: String) {
    console::say(&format!("ebpf-run: warning: {words}"));
}

/// What the thread that follows cgroups has to say.
pub(crate) fn notice(notice: Notice, options: &Options) {
    match notice {
        Notice::Warning(words) => warn(words),
        Notice::Plain(words) => options.say(&words),
    }
}

/// Permissions of a report.
pub(crate) const REPORT_MODE: u32 = 0o640;

/// How long the writer may take for the rest without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// A run that has the lock, and whose moment has come.
#[derive(Debug)]
pub struct Session {
    host: Host,
    globals: Globals,
    stop: StopSignal,
    /// Held until this is dropped.
    lock: Option<Lock>,
    /// Empty until the end; it keeps other runs from reporting to the same path.
    report: Option<AtomicFile>,
    gives_up_privileges: bool,
}

impl Session {
    /// The report will go to `path`, which may be a template like that of a sink's; returns what became of it. That this is
    /// possible is known before anything is loaded.
    ///
    /// # Errors
    /// If it can't be rendered, if there is no such folder, if something else than a file
    /// has that name, or if others could lead the report elsewhere.
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
            return Err(Error::failed("the report and the lock would be the same file")
                .hint("give the report a path of its own"));
        }
        self.report = Some(file);
        Ok(path.clone())
    }

    /// Writes the report to where it was said to go, whole or not at all.
    ///
    /// # Errors
    /// If the disk or the directory refuses.
    pub fn write_report(&mut self, text: &str) -> Result<()> {
        let Some(mut file) = self.report.take() else { return Ok(()) };
        let written =
            file.writer().and_then(|mut writer| writer.write_all(text.as_bytes())).and_then(|()| file.finish());
        written.map_err(|error| {
            Error::failed(format!("the report can't be written to {}: {error}", file.path().display()))
        })
    }

    /// Once everything is attached, the calling thread gives up every capability that it does not need any more, for good.
    pub fn will_give_up_privileges(&mut self) {
        self.gives_up_privileges = true;
    }

    /// The names that no sink may have.
    fn reserved_names(&self) -> Vec<ReservedName<'_>> {
        let report = self.report.as_ref().map(|file| file.reserved_name("report"));
        report.into_iter().chain(self.lock.as_ref().map(Lock::reserved_name)).collect()
    }

    fn report_needs(&self) -> CapabilitySet {
        self.report.as_ref().map_or(CapabilitySet::empty(), |file| privileges::for_files(file.dir(), file.name()))
    }
}

/// Makes a small file that will be `name`. If that can't be, why, and what to do.
fn small_file(folder: &OpenDir, name: &OsStr, mode: u32) -> std::result::Result<AtomicFile, (String, &'static str)> {
    let no_file = check_replaceable(folder, name).err().map(|errno| match errno {
        Errno::ISDIR => "it is a directory".into(),
        Errno::LOOP => "it is a symbolic link".into(),
        // The new file would take its place
        Errno::EXIST => target::NO_FILE.into(),
        errno => errno.to_string(),
    });
    if let Some(what) = no_file {
        return Err((what, "name a file, which is replaced, or one that is not there yet"));
    }
    let attributes = FileAttributes { mode, owner: None, group: None };
    AtomicFile::reserve(folder, name, attributes).map_err(|refused| match refused {
        CreateError::InUse => ("another run is writing to it".into(), "give each run a path of its own with `start`"),
        CreateError::System(Errno::MFILE) => (std::io::Error::from(Errno::MFILE).to_string(), limits::MORE_DESCRIPTORS),
        CreateError::System(error) | CreateError::Owner(error) => {
            (std::io::Error::from(error).to_string(), "check the directory's owner and mode")
        }
    })
}

/// Takes the lock and waits until the window is to start. `None` if a signal ended the wait.
///
/// # Errors
/// [`Kind::Skipped`](crate::error::Kind::Skipped) if another run holds the lock; or if nothing could be loaded anyway.
pub fn begin(plan: &Plan, options: &Options) -> Result<Option<Session>> {
    let say = |words: String| options.say(&words);
    limits::check_open_files(Some(plan))?;
    let host = Host::read();
    host.check()?;
    missing_disks(plan).into_iter().for_each(warn);
    if !host.initial_pid_namespace {
        say("this process runs in a pid namespace: pids in filters and events are the host's, and the runner's own events \
             are not left out"
            .into());
    }
    resolved(plan)?; // what is not there is told before the wait
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

/// Runs `plan` to its end: [`begin`] and [`window`].
///
/// # Errors
/// See there.
pub fn run(plan: &Plan, options: &Options) -> Result<Report> {
    let session = begin(plan, options)?.ok_or_else(|| Error::failed("interrupted before the window began"))?;
    window(plan, options, &session)
}

/// Runs the window of `plan`.
///
/// # Errors
/// If it can't start: [`Kind`](crate::error::Kind) says why. What happens once every probe is attached is in the
/// report.
pub fn window(plan: &Plan, options: &Options, session: &Session) -> Result<Report> {
    window_around(plan, options, session, || ())
}

/// The same; once the window is open, `load` is called, and waited for.
///
/// # Errors
/// See there.
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
        warn(format!("goes on without {}: {}", probe.probe, probe.reason));
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
        // The window is shorter than it was meant to be, and somebody has to make room
        warn(format!("ended after {}: the disk has no more room than `min_free` leaves", Nanoseconds::from(elapsed)));
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
    // The writer ends when nobody queues any more
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

/// To come before the first thread, and before rights are given up.
fn start_symbols(plan: &Plan, host: &Host) -> Symbols {
    let needed = privileges::for_symbol_helper(plan);
    let mut symbols = Symbols::start(match needed {
        // The pids of events are those of the initial namespace: here they would be other processes
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

/// What `of` says of each probe's maps.
fn of_maps<T>(plan: &Plan, loaded: &[Loaded], of: fn(&Loaded, &[MapSpec]) -> Result<Vec<T>>) -> Result<Vec<Vec<T>>> {
    loaded.iter().zip(&plan.probes).map(|(loaded, probe)| of(loaded, &probe.program.maps)).collect()
}

/// Writes a small file of its own, whole or not at all, with the permissions `mode`.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let folder = ParentDir::of(path, PathPolicy::Named).map_err(|problem| std::io::Error::other(problem.message))?;
    let dir = OpenDir { fd: Arc::new(folder.fd), path: folder.path };
    let mut file = small_file(&dir, &folder.name, mode).map_err(|(what, _)| std::io::Error::other(what))?;
    file.writer()?.write_all(bytes)?;
    file.finish()
}

/// What reader and writer both know.
#[derive(Debug, Default)]
struct SharedState {
    /// Records written so far.
    written: WrittenCount,
    /// Why the writer wants the window to end.
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

/// What was received from buffers and from maps, a stream each.
fn added(received: Vec<Received>, from_maps: &[Received]) -> Vec<Received> {
    if from_maps.is_empty() {
        return received;
    }
    received.iter().zip(from_maps).map(|(one, other)| one.plus(other)).collect()
}

/// Waits for the writer, and says so if that takes a while: whoever pressed Ctrl-C wants to know why nothing happens. After
/// `drain` it is waited for no longer, which is an error.
fn join(writer: WriterThread, drain: Option<Duration>, say: impl Fn(String)) -> Result<(WriterOutcome, Option<Error>)> {
    let began = Instant::now();
    let mut said = false;
    while !writer.is_done() {
        let flushed = writer.is_flushed();
        if let Some(drain) = drain.filter(|drain| !flushed && began.elapsed() >= *drain) {
            let what = format!("a sink did not take the rest within {} (`drain`)", Nanoseconds::from(drain));
            let error = Error::failed(what).hint("what it took is there, in files that are not whole");
            return Ok((writer.abandon(), Some(error)));
        }
        if began.elapsed() >= PATIENCE && !said {
            let what = if flushed { "files to be whole" } else { "a sink to take the rest" };
            say(format!("waiting for {what}; another signal gives it up"));
            said = true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let outcome = writer.join();
    let outcome =
        outcome.map_err(|_| Error::failed("the writer's thread died; this is a bug of ebpf-run, please report it"))?;
    Ok((outcome, None))
}
