//! The built-in programs, as their embedded objects describe themselves. Reads bytes, never the kernel.

mod aggregate;
mod btf;
#[cfg(test)]
pub(crate) mod c_api;
mod load;
mod tags;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::error::Result;
use crate::event::{Layout, ValueNames};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

pub use aggregate::{Aggregate, AggregateShape, HIST_TRAILER, ImageAt, KeyField, SECOND, StackKind};
pub use load::Load;

/// All programs by name.
pub struct Catalog {
    objects: BTreeMap<&'static str, CatalogEntry>,
}

/// An object, and what was read from it when it was first asked for.
struct CatalogEntry {
    object: &'static [u8],
    program: OnceLock<Result<Arc<Program>>>,
}

impl Catalog {
    /// The programs that are built in.
    pub fn embedded() -> Self {
        Catalog::from_objects(embedded::OBJECTS.iter().copied())
    }

    /// A catalogue of other objects.
    pub fn from_objects(objects: impl IntoIterator<Item = (&'static str, &'static [u8])>) -> Self {
        let entry = |object| CatalogEntry { object, program: OnceLock::new() };
        Catalog { objects: objects.into_iter().map(|(name, object)| (name, entry(object))).collect() }
    }

    /// The names of all programs, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.objects.keys().copied()
    }

    /// The program called `name`, read when it is first asked for; `None` if there is none.
    ///
    /// # Errors
    /// If the object breaks the contract of `docs/reference/program-api.md`; the tests open every embedded one.
    pub fn program(&self, name: &str) -> Option<Result<Arc<Program>>> {
        let (name, CatalogEntry { object, program }) = self.objects.get_key_value(name)?;
        Some(program.get_or_init(|| btf::read(name, object).map(Arc::new)).clone())
    }
}

/// The configs of `probes.d/`, as (name, YAML).
pub fn configs() -> &'static [(&'static str, &'static str)] {
    embedded::CONFIGS
}

/// The configs of `probes.d/` that use the program called `program`, as (name, YAML); the one of its own name is the first.
pub fn configs_of(program: &str) -> Vec<(&'static str, &'static str)> {
    let uses = |yaml: &str| programs(yaml).any(|one| one == program);
    let mut found: Vec<_> = configs().iter().copied().filter(|(_, yaml)| uses(yaml)).collect();
    found.sort_by_key(|(name, _)| *name != program);
    found
}

/// The program of the first probe of the config of `probes.d/` called `config`.
pub fn program_of(config: &str) -> Option<&'static str> {
    let (_, yaml) = configs().iter().find(|(name, _)| *name == config)?;
    programs(yaml).next()
}

/// What a config of `probes.d/` is for.
pub fn description(yaml: &str) -> &str {
    yaml.lines().find_map(|line| line.strip_prefix("description:")).unwrap_or_default().trim()
}

/// The programs of the probes of a config of `probes.d/`.
fn programs(yaml: &str) -> impl Iterator<Item = &str> {
    let keys = yaml.lines().map(|line| line.trim_start().trim_start_matches("- "));
    keys.filter_map(|line| line.strip_prefix("program:")?.split_whitespace().next())
}

/// One built-in program.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name in a config: the C file's.
    pub name: &'static str,
    /// The compiled object.
    pub object: &'static [u8],
    /// What it hands out.
    pub output: ProgramOutput,
    /// What a probe may set before load.
    pub filters: Vec<Variable>,
    /// What the runner sets before load, by its C name.
    pub internals: Vec<Variable>,
    /// Maps whose size a probe may set.
    pub maps: Vec<MapSpec>,
    /// Its BPF functions.
    pub hooks: Vec<Hook>,
    /// What it sees and what it does not.
    pub accuracy: Accuracy,
    /// The load that it can be tried with; `None` if no harmless one makes its events.
    pub load: Option<Load>,
    /// Where its counters are.
    pub counters: CounterOffsets,
}

/// Where the members of `struct runner_counters` are that the runner reads, bytes. Each is a u64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterOffsets {
    /// Events that passed every filter.
    pub seen: usize,
    /// Records lost because the buffer was full.
    pub lost_buffer_full: usize,
    /// Events lost because a map was full.
    pub lost_map_full: usize,
    /// Records lost for lack of scratch space.
    pub lost_other: usize,
    /// The most unread bytes of a ring.
    pub peak_unread: usize,
}

/// What a program sees and what it does not: the phrases of its `ACCURACY()`, by aspect.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Accuracy([Vec<String>; ASPECTS.len()]);

/// One aspect of [`Accuracy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aspect<'a> {
    /// Its name in tags and JSON.
    pub name: &'static str,
    /// Its label for people.
    pub label: &'static str,
    /// What there is to say about it.
    pub phrases: &'a [String],
}

/// The aspects of [`Accuracy`]: the name in tags and JSON, and the label for people.
const ASPECTS: [(&str, &str); 6] = [
    ("sees", "sees"),
    ("not_seen", "does not see"),
    ("owner", "owner"),
    ("time", "time"),
    ("exact", "exact or bound"),
    ("variants", "variants"),
];

impl Accuracy {
    /// Whether `aspect` is the name of one.
    fn knows(aspect: &str) -> bool {
        ASPECTS.iter().any(|(name, _)| *name == aspect)
    }

    /// Adds a phrase; an unknown aspect has no place for it.
    fn add(&mut self, aspect: &str, phrase: &str) {
        if let Some(at) = ASPECTS.iter().position(|(name, _)| *name == aspect) {
            self.0[at].push(phrase.to_owned());
        }
    }

    /// Every aspect, always in the same order.
    pub fn aspects(&self) -> impl Iterator<Item = Aspect<'_>> {
        ASPECTS.iter().zip(&self.0).map(|(&(name, label), phrases)| Aspect { name, label, phrases })
    }

    /// The phrases of the aspect called `name`; none if there is no such aspect.
    pub fn phrases(&self, name: &str) -> &[String] {
        self.aspects().find(|aspect| aspect.name == name).map(|aspect| aspect.phrases).unwrap_or_default()
    }
}

/// What a program hands out: one or the other.
#[derive(Debug, Clone)]
pub enum ProgramOutput {
    /// Events through a buffer, in this shape.
    Events(Arc<Layout>),
    /// What it keeps in a map, read at an interval and at the end.
    Aggregate(Arc<Aggregate>),
}

impl Program {
    /// The shape of its events, if it has any.
    pub fn event(&self) -> Option<&Arc<Layout>> {
        match &self.output {
            ProgramOutput::Events(layout) => Some(layout),
            ProgramOutput::Aggregate(_) => None,
        }
    }

    /// Its aggregate, if it has one.
    pub fn aggregate(&self) -> Option<&Arc<Aggregate>> {
        match &self.output {
            ProgramOutput::Events(_) => None,
            ProgramOutput::Aggregate(aggregate) => Some(aggregate),
        }
    }

    /// What one event, or the aggregate, is: a sentence.
    pub fn doc(&self) -> &str {
        match &self.output {
            ProgramOutput::Events(layout) => &layout.doc,
            ProgramOutput::Aggregate(aggregate) => &aggregate.doc,
        }
    }

    /// The filter called `name` in a config.
    pub fn filter(&self, name: &str) -> Option<&Variable> {
        self.filters.iter().find(|filter| filter.name == name)
    }
}

/// A `const volatile` variable of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name in a config: the C name without the unit.
    pub name: String,
    /// Its name in C.
    pub symbol: String,
    /// What it does, one sentence.
    pub doc: String,
    /// Bytes from the start of `.rodata`.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    /// Set where the variable takes several values.
    pub list: Option<ListShape>,
    /// One value.
    pub element: Element,
    /// Where in `.bss` the values lie that the runner changes while the program runs: bytes from the start. Filters of
    /// cgroups have such values in place of those in `.rodata`.
    pub followed: Option<usize>,
}

/// Where in a list variable its parts lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListShape {
    /// Bytes from the variable's start to the first value; the count and whether it is negated, a u32 each, are at
    /// its start.
    pub values: usize,
    /// How many values there is room for.
    pub max: usize,
}

/// The type of one value of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Bytes.
    pub size: usize,
    /// What may be written there.
    pub kind: ElementKind,
}

/// What a config may write for a value, and how it is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementKind {
    /// A whole number, not negative.
    Uint,
    /// A whole number.
    Int,
    /// A time with its unit, encoded in nanoseconds.
    Duration,
    /// A size with its unit, encoded in bytes.
    Bytes,
    /// A frequency with its unit, encoded in Hz.
    Frequency,
    /// true or false.
    Bool,
    /// Text with a NUL behind it.
    Text,
    /// A command, or its beginning and a `*`: `struct runner_comm`.
    Comm,
    /// A disk by name or `major:minor`: `struct runner_disk`.
    Disk,
    /// A user's number, or a name that is looked up where the capture runs.
    User,
    /// The path of a cgroup, looked up where the capture runs: `struct runner_cgroup`.
    Cgroup,
    /// The name of a systemd unit, looked up where the capture runs: `struct runner_cgroup`.
    Unit,
    /// A name of an enum.
    Enum(Arc<ValueNames>),
}

/// A map of a program whose size a probe may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapSpec {
    /// Its name in C and in a config.
    pub name: String,
    /// What it holds.
    pub doc: String,
    /// How many entries, unless the probe says otherwise.
    pub max_entries: u32,
    /// Bytes of a key.
    pub key_bytes: u64,
    /// Bytes of a value, on each CPU if there is one for each.
    pub value_bytes: u64,
    /// There is a second one like it, for probes with an `interval`.
    pub twice: bool,
    /// Whether each CPU has a value of its own.
    pub per_cpu: bool,
    /// Where in `.bss` the program counts the inserts that it refused, a u64: bytes from the start.
    pub refusals: usize,
    /// What its entries are while they are under way; `None` if the map is about something else.
    pub in_flight: Option<String>,
    /// Where in `.bss` the program counts the entries whose end no hook saw, if it does.
    pub unseen: Option<usize>,
}

/// One BPF function and the place it attaches to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The function's name.
    pub name: String,
    /// Its ELF section: how and where it attaches, `tp_btf/block_rq_issue`.
    pub section: String,
    /// Go on without it where the kernel lacks the tracepoint.
    pub optional: bool,
    /// A filter and the one value that makes the hook superfluous.
    pub skip_if: Option<(String, String)>,
    /// The group of alternatives that it is a part of, and the variant.
    pub alternative: Option<(String, String)>,
    /// What runs it, if its section is `perf_event`.
    pub perf_event: Option<PerfEvent>,
}

/// The perf event that runs a hook. Sources are values of `enum perf_source` in `bpf/include/perf.h`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerfEvent {
    /// The sources' names.
    pub names: Arc<ValueNames>,
    /// In the order of preference.
    pub sources: Vec<u32>,
    /// Bytes from the start of `.rodata` to the source that a probe chooses, a u32; 0 there leaves the choice open.
    pub chosen_at: usize,
    /// Bytes from the start of `.rodata` to how often, a u32.
    pub rate_at: usize,
    /// Whether that is a number of times a second; else it is a period.
    pub frequency: bool,
}

impl PerfEvent {
    /// The shortest period of a clock, nanoseconds: shorter ones leave a machine no time for anything else.
    pub const LEAST_PERIOD: u64 = 100_000;

    /// Whether `source` counts nanoseconds: PERF_CPU_CLOCK or PERF_TASK_CLOCK of bpf/include/perf.h.
    pub fn is_clock(source: u32) -> bool {
        matches!(PerfEvent::kind_and_config(source), (1, 0 | 1))
    }

    /// The `type` and `config` of `struct perf_event_attr` that `source` stands for, an enumerator of `bpf/include/perf.h`
    /// but not PERF_AUTO.
    pub fn kind_and_config(source: u32) -> (u32, u64) {
        let code = source.wrapping_sub(1);
        (code >> 8, u64::from(code & 0xff))
    }
}

#[cfg(test)]
mod tests;
