//! A program in the kernel: opened, set up, loaded, attached, and its counters read.

use std::os::fd::AsFd as _;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Typedef;
use libbpf_rs::{Link, MapCore, MapFlags, MapType, Object, ObjectBuilder, OpenMapMut, OpenObject};

use super::explain::{Stage, explain};
use super::{Host, log, misses};
use crate::catalog::MapSpec;
use crate::error::{Error, Kind, Result};
use crate::plan::{ProbePlan, Setting, Transport, internal};

/// A probe in the kernel. Dropping it detaches and unloads everything.
pub struct Loaded {
    object: Object,
    links: Vec<Link>,
    program: &'static str,
    /// The hooks that are in use, in the order of the C file.
    hooks: Vec<String>,
}

/// The kernel's side of the books, added up over all possible CPUs. See `struct runner_counters`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that passed every filter.
    pub seen: u64,
    /// Of these, not sent because the buffer had no room.
    pub lost_buffer_full: u64,
    /// Of these, not followed because a map had no room.
    pub lost_map_full: u64,
    /// Of these, not sent because no scratch space was free.
    pub lost_other: u64,
    /// The most bytes that were unread in a ring buffer, over all CPUs' observations.
    pub peak_unread: u64,
}

impl Counters {
    /// Events that did not get to userspace.
    pub fn lost(&self) -> u64 {
        self.lost_buffer_full + self.lost_map_full + self.lost_other
    }
}

impl Loaded {
    /// Loads the program of `plan`, with every setting in place before.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] if this kernel lacks something that the program needs, [`Kind::NotPermitted`].
    pub fn load(plan: &ProbePlan, host: &Host) -> Result<Self> {
        log::start();
        let program = &plan.program;
        let broken =
            |error: libbpf_rs::Error| Error::failed(format!("program {} can't be set up: {error:#}", program.name));
        let mut open = ObjectBuilder::default()
            .name(program.name)
            .and_then(|builder| builder.open_memory(program.object))
            .map_err(broken)?;
        let own = host.own_process().unwrap_or(0);
        let own = internal(program, "runner_self", &own.to_ne_bytes());
        set_up_maps(&mut open, plan, own.as_ref()).map_err(broken)?;
        let hooks = choose_hooks(&mut open, plan, host)?;
        let object =
            open.load().map_err(|error| explain(host, Stage::Load, program.name, None, &error, &log::take()))?;
        Ok(Loaded { object, links: Vec::new(), program: program.name, hooks })
    }

    /// Attaches every hook, the last of the C file first: programs have the start of a story first and its end last,
    /// and a story that is begun must find its end.
    ///
    /// # Errors
    /// As [`Loaded::load`]; what was attached before is detached when this is dropped.
    pub fn attach(&mut self, host: &Host) -> Result<()> {
        log::take();
        let mut hooks: Vec<_> = self.object.progs_mut().filter(|hook| hook.autoload()).collect();
        hooks.reverse();
        for hook in hooks {
            let name = hook.name().to_string_lossy().into_owned();
            let link = hook
                .attach()
                .map_err(|error| explain(host, Stage::Attach, self.program, Some(&name), &error, &log::take()))?;
            self.links.push(link);
        }
        Ok(())
    }

    /// The hooks that are in use.
    pub fn hooks(&self) -> &[String] {
        &self.hooks
    }

    /// Takes every hook away, the one that was attached last first. What is in the buffer stays there.
    pub fn detach(&mut self) {
        while let Some(link) = self.links.pop() {
            drop(link);
        }
    }

    /// The map that events come through.
    pub(super) fn events(&self) -> Result<libbpf_rs::Map<'_>> {
        self.map("events")
    }

    fn map(&self, name: &str) -> Result<libbpf_rs::Map<'_>> {
        let found = self.object.maps().find(|map| map.name() == name);
        found.ok_or_else(|| Error::failed(format!("program {} has no map `{name}`", self.program)))
    }

    /// Reads the kernel's counters.
    ///
    /// # Errors
    /// If the kernel does not give them.
    pub fn counters(&self) -> Result<Counters> {
        let failed = |what: String| Error::failed(format!("the counters of {} can't be read: {what}", self.program));
        // One value a *possible* CPU, and that is what the buffer must have room for
        let values = self
            .map("counters")?
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| failed(error.to_string()))?
            .ok_or_else(|| failed("there are none".into()))?;
        let mut sum = Counters::default();
        for cpu in &values {
            let mut words = cpu.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
            let mut next = || words.next().unwrap_or(0);
            sum.seen += next();
            sum.lost_buffer_full += next();
            sum.lost_map_full += next();
            sum.lost_other += next();
            sum.peak_unread = sum.peak_unread.max(next());
        }
        Ok(sum)
    }

    /// Inserts that each of the program's maps refused, in the catalogue's order.
    ///
    /// # Errors
    /// If the kernel does not give the counts.
    pub fn refusals(&self, maps: &[MapSpec]) -> Result<Vec<u64>> {
        if maps.is_empty() {
            return Ok(Vec::new());
        }
        let failed = || Error::failed(format!("what the maps of {} refused can't be read", self.program));
        let bss = self.object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss")).ok_or_else(failed)?;
        let bytes = bss.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).ok().flatten().ok_or_else(failed)?;
        let count = |map: &MapSpec| bytes.get(map.refusals..map.refusals + 8)?.try_into().ok().map(u64::from_ne_bytes);
        maps.iter().map(|map| count(map).ok_or_else(failed)).collect()
    }

    /// How often the kernel left a hook out because it found it at work already, all hooks together. Nobody else has
    /// this copy of the program, so it counts from the load on.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn missed(&self) -> Result<u64> {
        let hooks = self.object.progs().filter(|hook| hook.autoload());
        hooks.map(|hook| misses::of(hook.as_fd())).sum::<std::io::Result<u64>>().map_err(|error| {
            Error::failed(format!("the kernel does not tell how often it left out {}: {error}", self.program))
        })
    }
}

fn set_up_maps(open: &mut OpenObject, plan: &ProbePlan, own: Option<&Setting>) -> libbpf_rs::Result<()> {
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if name == "events" {
            set_up_events(&mut map, plan)?;
        } else if name == "scratch" {
            map.set_autocreate(plan.buffer.transport != Transport::Reserve)?;
        } else if let Some(entries) = plan.maps.get(&name) {
            map.set_max_entries(*entries)?;
        } else if name.ends_with(".rodata") {
            let Some(bytes) = map.initial_value_mut() else { continue };
            for Setting { offset, bytes: value, .. } in plan.rodata.iter().chain(own) {
                bytes[*offset..*offset + value.len()].copy_from_slice(value);
            }
        }
    }
    Ok(())
}

/// The one map has the type that goes with the transport; the verifier never sees the calls that need another one.
fn set_up_events(map: &mut OpenMapMut<'_>, plan: &ProbePlan) -> libbpf_rs::Result<()> {
    if plan.buffer.transport != Transport::Perf {
        return map.set_max_entries(plan.buffer.effective);
    }
    map.set_type(MapType::PerfEventArray)?;
    map.set_key_size(4)?;
    map.set_value_size(4)?;
    map.set_max_entries(0) // libbpf: as many as there are CPUs
}

/// Leaves out the hooks that the plan does without and the optional ones that this kernel does not have.
fn choose_hooks(open: &mut OpenObject, plan: &ProbePlan, host: &Host) -> Result<Vec<String>> {
    let optional = plan.hooks.iter().any(|(hook, skipped)| hook.optional && skipped.is_none());
    let vmlinux = if optional { Some(kernel_btf(host)?) } else { None };
    let mut used = Vec::new();
    for mut prog in open.progs_mut() {
        let name = prog.name().to_string_lossy().into_owned();
        let Some((hook, skipped)) = plan.hooks.iter().find(|(hook, _)| hook.name == name) else { continue };
        let absent = || hook.optional && !vmlinux.as_ref().is_some_and(|btf| has_tracepoint(btf, &hook.section));
        if skipped.is_some() || absent() {
            prog.set_autoload(false);
        } else {
            used.push(name);
        }
    }
    Ok(used)
}

fn kernel_btf(host: &Host) -> Result<Btf<'static>> {
    Btf::from_vmlinux().map_err(|error| {
        Error::new(Kind::Unsupported, format!("the types of this kernel ({}) can't be read: {error}", host.release))
    })
}

/// A kernel has a tracepoint if, and only if, its BTF has the type of its probe function.
fn has_tracepoint(btf: &Btf<'_>, section: &str) -> bool {
    let tracepoint = section.rsplit('/').next().unwrap_or_default();
    btf.type_by_name::<Typedef<'_>>(&format!("btf_trace_{tracepoint}")).is_some()
}
