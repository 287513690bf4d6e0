//! A program in the kernel: opened, configured, loaded, attached, and its counters read.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{ErrorKind, Read as _};
use std::ops::Range;
use std::os::fd::AsFd as _;

use libbpf_rs::{Iter, Link, MapCore, MapFlags, MapType, Object, ObjectBuilder, OpenMapMut, OpenObject};

use super::aggregate::NOW;
use super::choice::{HookChoice, Verdict, reasons};
use super::decide::{KernelRejection, TargetCheck, decide};
use super::explain::Stage;
use super::kernel_info::KernelInfo;
use super::live_variables::LiveVariables;
use super::perf_events::{self, Rate};
use super::{Host, log, prog_info};
use crate::catalog::{CounterOffsets, MapSpec, PerfEvent, SECOND};
use crate::error::{Error, Result};
use crate::plan::{AggregatePlan, ProbePlan, Setting, Transport, internal};

/// A probe in the kernel. Dropping it detaches and unloads everything.
pub struct Loaded {
    object: Object,
    links: Vec<Link>,
    program: &'static str,
    counter_offsets: CounterOffsets,
    /// The hooks in use, in the order of the C file.
    hooks: Vec<String>,
    /// Group and variant of the alternatives in use.
    variants: BTreeMap<String, String>,
    /// The links of hooks that perf events run.
    perf_events: PerfEvents,
    /// Those events, on each CPU.
    on_cpus: Vec<perf_events::OnCpu>,
    /// Hooks that run once for each thread of the machine, after everything else is detached.
    iterators: Vec<Iter>,
    /// Why they failed, if they did.
    not_iterated: Option<String>,
    /// Why it does not use its first variant, if it does not.
    not_first: Option<String>,
}

/// By hook: its event, the source that the probe chose, and the rate.
type PerfEvents = Vec<(String, PerfEvent, u32, Rate)>;

/// The kernel's counters, summed over all possible CPUs. See `struct runner_counters`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that passed every filter.
    pub seen: u64,
    /// Of these, not sent because the buffer was full.
    pub lost_buffer_full: u64,
    /// Of these, not followed because a map was full.
    pub lost_map_full: u64,
    /// Of these, not sent because no scratch space was free, or because the CPU has no perf buffer.
    pub lost_other: u64,
    /// The peak of unread bytes in a ring buffer, over all CPUs' observations.
    pub peak_unread: u64,
}

impl Counters {
    /// Events that did not reach userspace.
    pub fn lost(&self) -> u64 {
        self.lost_buffer_full.saturating_add(self.lost_map_full).saturating_add(self.lost_other)
    }

    /// The events seen and lost since `before`. A count that decreased, which is a fault, makes the counts not
    /// reconcile.
    pub fn since(&self, before: &Counters) -> Counters {
        Counters {
            lost_buffer_full: self.lost_buffer_full.saturating_sub(before.lost_buffer_full),
            lost_map_full: self.lost_map_full.saturating_sub(before.lost_map_full),
            lost_other: self.lost_other.saturating_sub(before.lost_other),
            ..*self
        }
    }
}

impl Loaded {
    /// Loads the program of `plan`, with all of its settings.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::error::Kind::Unsupported) if this kernel lacks something that the program requires,
    /// [`Kind::Broken`](crate::error::Kind::Broken) if it has all of it and rejects the program nevertheless,
    /// [`Kind::NotPermitted`](crate::error::Kind::NotPermitted).
    pub fn load(plan: &ProbePlan, host: &Host, kernel: &KernelInfo) -> Result<Self> {
        log::start();
        let mut attempt = |choice: &HookChoice| Loaded::try_chosen(plan, host, choice);
        let (loaded, refused) = decide(plan, host, kernel, TargetCheck::OnDemand, &mut attempt)?;
        Ok(Loaded { not_first: (!refused.is_empty()).then(|| reasons(refused.iter())), ..loaded })
    }

    /// Loads the program, and if required tests whether it can be attached, by attaching it. Events that its hooks have
    /// seen in the test do not belong to the window, so the tested copy is replaced by a new one.
    fn try_chosen(plan: &ProbePlan, host: &Host, choice: &HookChoice) -> Result<Self, Box<KernelRejection>> {
        let mut loaded = Loaded::load_chosen(plan, host, choice)?;
        if choice.variants.is_empty() && !plan.skip_unsupported {
            return Ok(loaded);
        }
        loaded.attach_all(host)?;
        drop(loaded);
        Loaded::load_chosen(plan, host, choice)
    }

    pub(super) fn load_chosen(
        plan: &ProbePlan,
        host: &Host,
        choice: &HookChoice,
    ) -> Result<Self, Box<KernelRejection>> {
        log::take();
        let program = &plan.program;
        let broken = |error: libbpf_rs::Error| {
            let error = Error::failed(format!("program {} can't be set up: {error:#}", program.name));
            Box::new(KernelRejection { error, hook: None, words: String::new(), kind: None })
        };
        let mut open = ObjectBuilder::default()
            .name(program.name)
            .and_then(|builder| builder.open_memory(program.object))
            .map_err(broken)?;
        let own = host.own_process().unwrap_or(0);
        let helper = host.symbol_helper.unwrap_or(0);
        // The random seed of hash tables is good enough for the hashes of stacks
        let seed = RandomState::new().build_hasher().finish().to_ne_bytes();
        let own: Vec<Setting> = [
            ("runner_self", &own.to_ne_bytes()[..]),
            ("runner_helper", &helper.to_ne_bytes()),
            ("runner_seed", &seed),
            ("runner_swap", &[u8::from(plan.aggregate.as_ref().is_some_and(AggregatePlan::swaps))]),
        ]
        .into_iter()
        .filter_map(|(symbol, bytes)| internal(program, symbol, bytes))
        .collect();
        let perf_events = set_up_maps(&mut open, plan, &own).map_err(broken)?;
        for mut prog in open.progs_mut() {
            let name = prog.name().to_string_lossy().into_owned();
            prog.set_autoload(choice.hooks.contains(&name));
        }
        let object =
            open.load().map_err(|error| KernelRejection::new(host, Stage::Load, program.name, None, &error))?;
        let hooks = choice.hooks.clone();
        let variants = choice.variants.clone();
        Ok(Loaded {
            object,
            links: Vec::new(),
            program: program.name,
            counter_offsets: program.counters,
            hooks,
            variants,
            perf_events,
            on_cpus: Vec::new(),
            iterators: Vec::new(),
            not_iterated: None,
            not_first: None,
        })
    }

    /// Attaches every hook, the last of the C file first: programs have the start of an operation first and its end
    /// last, and the end of an operation must be seen once its start was.
    ///
    /// # Errors
    /// As [`Loaded::load`]; the hooks that were attached before are detached when this is dropped.
    pub fn attach(&mut self, host: &Host) -> Result<()> {
        self.attach_all(host).map_err(|refused| refused.error)
    }

    fn attach_all(&mut self, host: &Host) -> Result<(), Box<KernelRejection>> {
        log::take();
        let mut hooks: Vec<_> = self.object.progs_mut().filter(|hook| hook.autoload()).collect();
        hooks.reverse();
        for hook in hooks {
            let name = hook.name().to_string_lossy().into_owned();
            if let Some((_, event, chosen, rate)) = self.perf_events.iter().find(|(of, ..)| *of == name) {
                let (links, reason) = perf_events::attach(&hook, event, *chosen, *rate)
                    .map_err(|error| KernelRejection::of_hook(self.program, &name, error))?;
                let (links, events): (Vec<_>, Vec<_>) = links.into_iter().unzip();
                self.links.extend(links);
                self.on_cpus.extend(events);
                add_reason(&mut self.not_first, reason);
                continue;
            }
            let refused = |error| KernelRejection::new(host, Stage::Attach, self.program, Some(&name), &error);
            let link = hook.attach().map_err(refused)?;
            if hook.section().to_string_lossy().starts_with("iter/") {
                // Now, while the process has the capability
                self.iterators.push(Iter::new(&link).map_err(refused)?);
            }
            self.links.push(link);
        }
        Ok(())
    }

    /// Checks whether this machine has the perf events of the hooks, as [`Loaded::attach`] would find them. Returns why
    /// earlier sources are not used, if they are not.
    pub(super) fn find_perf_events(&self) -> Result<Option<String>, Box<KernelRejection>> {
        let mut not_first = None;
        let used = self.perf_events.iter().filter(|(name, ..)| self.hooks.contains(name));
        for (name, event, chosen, rate) in used.rev() {
            let reason = perf_events::find(event, *chosen, *rate)
                .map_err(|error| KernelRejection::of_hook(self.program, name, error))?;
            add_reason(&mut not_first, reason);
        }
        Ok(not_first)
    }

    /// Its verdict on this kernel, and the reason, if it does not use its first variant.
    pub fn verdict(&self) -> (Verdict, Option<&str>) {
        match &self.not_first {
            None => (Verdict::Ok, None),
            Some(reason) => (Verdict::Fallback, Some(reason)),
        }
    }

    /// The chosen variant of each group of alternatives.
    pub fn variants(&self) -> &BTreeMap<String, String> {
        &self.variants
    }

    /// The hooks in use.
    pub fn hooks(&self) -> &[String] {
        &self.hooks
    }

    /// Detaches every hook, the last attached one first, then runs the iterators. Records in the buffer stay there.
    pub fn detach(&mut self) {
        self.on_cpus.clear(); // each holds its event, as the link does
        while let Some(link) = self.links.pop() {
            drop(link);
        }
        let run = |mut iterator: Iter| loop {
            // They produce no output; EAGAIN after very many threads
            match iterator.read(&mut [0; 64]) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        };
        let failed = self.iterators.drain(..).find_map(|iterator| run(iterator).err());
        self.not_iterated = failed.map(|error| error.to_string());
    }

    /// An error if its iterators failed.
    pub(super) fn iterated(&self) -> Result<()> {
        match &self.not_iterated {
            Some(why) => Err(Error::failed(format!(
                "the operations of {} that are still in flight can't be counted: {why}",
                self.program
            ))),
            None => Ok(()),
        }
    }

    /// The map of the event buffer.
    pub(super) fn events(&self) -> Result<libbpf_rs::Map<'_>> {
        self.map("events")
    }

    pub(super) fn map(&self, name: &str) -> Result<libbpf_rs::Map<'_>> {
        let found = self.object.maps().find(|map| map.name() == name);
        found.ok_or_else(|| Error::failed(format!("program {} has no map `{name}`", self.program)))
    }

    /// Reads the kernel's counters.
    ///
    /// # Errors
    /// If the counters can't be read.
    pub fn counters(&self) -> Result<Counters> {
        let failed = |what: String| Error::failed(format!("the counters of {} can't be read: {what}", self.program));
        // One value for each *possible* CPU: the buffer must have room for all of them
        let values = self
            .map("counters")?
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| failed(error.to_string()))?
            .ok_or_else(|| failed("there are none".into()))?;
        let (mut sum, at) = (Counters::default(), self.counter_offsets);
        for cpu in &values {
            let word =
                |at: usize| cpu.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_ne_bytes);
            sum.seen = sum.seen.saturating_add(word(at.seen));
            sum.lost_buffer_full = sum.lost_buffer_full.saturating_add(word(at.lost_buffer_full));
            sum.lost_map_full = sum.lost_map_full.saturating_add(word(at.lost_map_full));
            sum.lost_other = sum.lost_other.saturating_add(word(at.lost_other));
            sum.peak_unread = sum.peak_unread.max(word(at.peak_unread));
        }
        Ok(sum)
    }

    /// Failed inserts of each of the program's maps, in the catalogue's order.
    ///
    /// # Errors
    /// If the counts can't be read.
    pub fn insert_failures(&self, maps: &[MapSpec]) -> Result<Vec<u64>> {
        self.counters_in_bss(maps.iter().map(|map| map.refusals))
    }

    /// The program's own counters, a u64 each, at these offsets in `.bss`.
    pub(super) fn counters_in_bss(&self, places: impl ExactSizeIterator<Item = usize>) -> Result<Vec<u64>> {
        if places.len() == 0 {
            return Ok(Vec::new());
        }
        let failed = || Error::failed(format!("the counters of the maps of {} can't be read", self.program));
        let bss = self.bss().ok_or_else(failed)?;
        let bytes = bss.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).ok().flatten().ok_or_else(failed)?;
        let count = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
        places.map(|at| count(at).ok_or_else(failed)).collect()
    }

    /// CPUs on which its perf events do not run (any more), although they are or were online. To be called before it is
    /// detached.
    pub fn cpus_not_sampled(&self) -> Vec<u32> {
        if self.on_cpus.is_empty() { Vec::new() } else { perf_events::not_sampled(&self.on_cpus) }
    }

    /// The address ranges of its code, if this process may see them.
    pub fn code(&self) -> Vec<Range<u64>> {
        let programs = self.object.progs().filter(|prog| prog.autoload());
        programs.flat_map(|prog| prog_info::code(prog.as_fd()).unwrap_or_default()).collect()
    }

    /// The map of the variables that both the program and the runner write.
    fn bss(&self) -> Option<libbpf_rs::Map<'_>> {
        self.object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss"))
    }

    /// The variables of its filters that change while it runs.
    ///
    /// # Errors
    /// If the map can't be shared.
    pub fn followed_values(&self) -> Result<LiveVariables> {
        let failed = |what: &str| Error::failed(format!("the variables of {} can't be followed: {what}", self.program));
        let bss = self.bss().ok_or_else(|| failed("there are none"))?;
        LiveVariables::of(bss.as_fd(), bss.value_size() as usize).map_err(|error| failed(&error.to_string()))
    }

    /// How often the kernel skipped a hook because the program was already running on that CPU, all hooks together. The
    /// count begins at the load, because no other process uses this copy of the program.
    ///
    /// # Errors
    /// If the kernel does not report it.
    pub fn missed(&self) -> Result<u64> {
        let hooks = self.object.progs().filter(|hook| hook.autoload());
        let mut missed = hooks.map(|hook| prog_info::misses(hook.as_fd()));
        missed.try_fold(0u64, |sum, one| Ok(sum.saturating_add(one?))).map_err(|error: std::io::Error| {
            Error::failed(format!("the kernel does not report how often it skipped {}: {error}", self.program))
        })
    }
}

/// Adds a reason why the first variant is not used, unless it is present.
pub(super) fn add_reason(not_first: &mut Option<String>, reason: Option<String>) {
    match (not_first.as_mut(), reason) {
        (None, reason) => *not_first = reason,
        (Some(known), Some(reason)) if !known.contains(&reason) => *known = format!("{known}; {reason}"),
        _ => {}
    }
}

/// Returns the settings of the hooks' perf events, which are in `.rodata` as well.
fn set_up_maps(open: &mut OpenObject, plan: &ProbePlan, own: &[Setting]) -> libbpf_rs::Result<PerfEvents> {
    let mut perf_events = Vec::new();
    let aggregate = plan.aggregate.as_ref();
    let swaps = aggregate.is_some_and(AggregatePlan::swaps);
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        // The second map of an aggregate or of its stacks has the settings of the first one
        let second = name.strip_suffix(SECOND);
        let per_cpu = |of: &str| aggregate.is_some_and(|aggregate| aggregate.per_cpu && aggregate.spec.map == of);
        if second.is_some() || name.ends_with(NOW) {
            map.set_autocreate(swaps)?;
        }
        if name == "events" {
            match aggregate {
                Some(_) => map.set_autocreate(false)?,
                None => set_up_events(&mut map, plan)?,
            }
        } else if name == "scratch" {
            map.set_autocreate(plan.buffer.transport != Transport::Reserve)?;
        } else if name.ends_with(".rodata") {
            let Some(bytes) = map.initial_value_mut() else { continue };
            for Setting { offset, bytes: value, .. } in plan.rodata.iter().chain(own) {
                bytes[*offset..*offset + value.len()].copy_from_slice(value);
            }
            let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
            for (hook, event) in plan.hooks.iter().filter_map(|(hook, _)| Some((hook, hook.perf_event.as_ref()?))) {
                let rate = Rate { value: word(event.rate_at).into(), frequency: event.frequency };
                perf_events.push((hook.name.clone(), event.clone(), word(event.chosen_at), rate));
            }
        } else if name.ends_with(".bss") {
            let Some(bytes) = map.initial_value_mut() else { continue };
            for Setting { offset, bytes: value, .. } in &plan.bss {
                bytes[*offset..*offset + value.len()].copy_from_slice(value);
            }
        } else if let Some(entries) = plan.maps.get(second.unwrap_or(&name)) {
            map.set_max_entries(*entries)?;
        }
        if per_cpu(second.unwrap_or(&name)) {
            keep_cpus_apart(&mut map)?;
        }
    }
    Ok(perf_events)
}

/// The program's calls are the same for both types.
fn keep_cpus_apart(map: &mut OpenMapMut<'_>) -> libbpf_rs::Result<()> {
    match map.map_type() {
        MapType::Hash => map.set_type(MapType::PercpuHash),
        MapType::Array => map.set_type(MapType::PercpuArray),
        _ => Ok(()),
    }
}

/// The map has the type of the transport; the verifier never sees calls for another type.
fn set_up_events(map: &mut OpenMapMut<'_>, plan: &ProbePlan) -> libbpf_rs::Result<()> {
    if plan.buffer.transport != Transport::Perf {
        return map.set_max_entries(plan.buffer.effective);
    }
    map.set_type(MapType::PerfEventArray)?;
    map.set_key_size(4)?;
    map.set_value_size(4)?;
    map.set_max_entries(0) // libbpf: as many as there are CPUs
}

#[cfg(test)]
mod tests;
