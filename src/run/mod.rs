//! A run: everything that the plan says, from loading to the report.

mod aggregate;
pub mod batch;
mod books;
pub mod clock;
mod files;
mod lookup;
mod losses;
mod order;
mod progress;
mod reader;
mod reading;
mod signals;
mod writer;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::console;
use crate::error::{Error, Result};
use crate::kernel::{Buffer, Host, Kernel, Loaded, Verdict};
use crate::output::sink::Source;
use crate::output::{Globals, Sink};
use crate::plan::{Plan, ProbePlan, SinkPlan};
use crate::report::{self, Report, Skipped};
use batch::{QUEUE_BYTES, Received, Written};
use books::{Books, Told};
use files::Opened;
pub(crate) use files::write_new;
use losses::Losses;
use progress::Progress;
use reader::Reader;
use reading::{Read, Readings, Tally};
use signals::Stop;
use writer::{Outcome, Routed};

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
    let (plan, mut loaded, skipped) = load(plan, &host)?;
    let plan = &plan;
    for probe in &skipped {
        say(format!("warning: goes on without {}: {}", probe.probe, probe.reason));
    }

    let streams = || plan.probes.iter().flat_map(|probe| probe.streams.iter().map(move |stream| (probe, stream)));
    let min_sizes = streams().map(|(_, stream)| stream.layout.min_size).collect();
    let sorts = plan.probes.iter().any(|probe| probe.sort);
    let (collector, queue) = batch::queue(min_sizes, QUEUE_BYTES, plan.max_events, sorts);
    let collector = RefCell::new(collector);
    let mut buffers = Vec::new();
    let mut first = 0;
    for (loaded, probe) in loaded.iter().zip(&plan.probes) {
        let (collector, stream) = (&collector, first);
        let take = move |record: &[u8]| collector.borrow_mut().take(stream, record);
        buffers.push(if probe.aggregate.is_none() { Some(Buffer::new(loaded, &probe.buffer, take)?) } else { None });
        first += probe.streams.len();
    }

    loaded.iter_mut().try_for_each(|loaded| loaded.attach(&host))?;
    let started = Instant::now();
    let start = report::Instant { wall: clock::now(), monotonic: clock::monotonic() };
    opened.iter().try_for_each(files::empty)?;
    say(attached(plan, &loaded));

    let written = Written::default();
    let on_stdout = opened.iter().any(|opened| opened.path.is_none());
    let writer = start_writer(plan, opened, &globals, queue, &written, &stop)?;
    let readings = Readings::start(plan, &loaded, &collector.borrow(), started, stop.bell()?)?;
    go_first(); // after the other threads have their start, or they would go first too
    let progress = Progress::new(!options.quiet, on_stdout);
    let losses = vec![Losses::default(); plan.probes.len()];
    let tallies = Tally::all(plan, &loaded)?;
    let collecting = &collector;
    let mut reader =
        Reader { plan, buffers, tallies, losses, collector: collecting, written: &written, progress, started };
    let waiting = reader.watch(&stop, on_stdout)?;
    let end = reader.read(&waiting, &stop, &loaded)?;
    let elapsed = started.elapsed();

    loaded.iter_mut().for_each(Loaded::detach);
    let kernel = reader.drain(&loaded)?;
    reader.progress.clear();
    let losses = std::mem::take(&mut reader.losses);
    let told = |buffer: &Buffer<'_>| Told { peak: buffer.peak(), lost: buffer.lost() };
    let told = reader.buffers.iter().map(|buffer| buffer.as_ref().map(told).unwrap_or_default()).collect();
    drop(reader);
    // The writer ends when nobody queues any more
    let read = readings.map(Readings::finish);
    let received = collector.into_inner().finish();
    let outcome = join(writer, say)?;
    let (received, counted) = added(received, read.transpose()?, plan.probes.len());
    let hooks = loaded.iter().map(|loaded| loaded.hooks().to_vec()).collect();
    let verdict = |loaded: &Loaded| (loaded.verdict().0, loaded.verdict().1.map(str::to_owned));
    let verdicts = loaded.iter().map(verdict).collect();
    let variants = loaded.iter().map(|loaded| loaded.variants().clone()).collect();
    let refused = loaded.iter().zip(&plan.probes).map(|(loaded, probe)| loaded.refusals(&probe.program.maps));
    let refused = refused.collect::<Result<_>>()?;
    let missed = loaded.iter().map(Loaded::missed).collect::<Result<_>>()?;
    let books = Books { kernel, received, losses, hooks, verdicts, variants, told, counted, refused, missed };
    let report = books::make_report(plan, &books, end, (start, elapsed), outcome);
    Ok(Report { skipped, ..report })
}

/// Loads every probe. Those that this kernel can't run, and that the config can do without, are left out of the plan.
///
/// # Errors
/// If a probe can't be loaded and is not to be skipped, or if none is left.
fn load(plan: &Plan, host: &Host) -> Result<(Plan, Vec<Loaded>, Vec<Skipped>)> {
    let (mut loaded, mut skipped, mut probes, mut last) = (Vec::new(), Vec::new(), Vec::new(), None);
    let kernel = Kernel::default();
    for probe in &plan.probes {
        match Loaded::load(probe, host, &kernel) {
            Ok(one) => {
                loaded.push(one);
                probes.push(probe.clone());
            }
            Err(error) => {
                let Some(verdict) = Verdict::of(&error).filter(|_| probe.skip_unsupported) else { return Err(error) };
                let (name, program) = (probe.name.clone(), probe.program.name.to_owned());
                skipped.push(Skipped { probe: name, program, verdict, reason: error.message.clone() });
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if loaded.is_empty() => Err(error),
        _ => Ok((Plan { probes, ..plan.clone() }, loaded, skipped)),
    }
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
    let probe = |(probe, loaded): (&ProbePlan, &Loaded)| {
        let (verdict, hooks) = (loaded.verdict().0, loaded.hooks().len());
        let hooks = if hooks == 1 { "1 hook".to_owned() } else { format!("{hooks} hooks") };
        let fallback = if verdict == Verdict::Fallback { ", fallback" } else { "" };
        format!("{} ({}, {hooks}{fallback})", probe.name, probe.program.name)
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
    let streams = || plan.probes.iter().flat_map(|probe| probe.streams.iter().map(move |stream| (probe, stream)));
    let mut sinks = Vec::new();
    for (index, (SinkPlan { name, shape, .. }, opened)) in plan.sinks.iter().zip(opened).enumerate() {
        let sources: Vec<Option<Source<'_>>> = streams()
            .map(|(probe, stream)| {
                let source = Source { layout: &stream.layout, name: &probe.name };
                stream.sinks.contains(&index).then_some(source)
            })
            .collect();
        let sink = Sink::new(shape, &sources, globals, opened.output);
        sinks.push(sink.map_err(|words| Error::failed(format!("sink `{name}`: {words}")))?);
    }
    let routed = streams().map(|(probe, stream)| Routed {
        name: probe.name.clone(),
        layout: Arc::clone(&stream.layout),
        sinks: stream.sinks.clone(),
        sort_within: probe.sort.then_some(probe.buffer.max_latency.as_nanos() as u64),
    });
    let bell = stop.bell()?;
    writer::start(queue, routed.collect(), sinks, Arc::clone(written), move || bell.ring())
        .map_err(|error| Error::failed(format!("the writer's thread can't be started: {error}")))
}

/// What was read from buffers and from maps, a stream each; and the events that are in the maps, a probe each.
fn added(received: Vec<Received>, read: Option<Read>, probes: usize) -> (Vec<Received>, Vec<Option<u64>>) {
    match read {
        None => (received, vec![None; probes]),
        Some(read) => (received.iter().zip(&read.received).map(|(one, other)| one.plus(other)).collect(), read.totals),
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
