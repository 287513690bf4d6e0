//! Names for the addresses of stacks. The kernel's come from /proc/kallsyms. Those of processes are found by a child
//! process, because everything that they are found in belongs to the process that is traced: see [`helper`].

mod client;
mod helper;
mod kallsyms;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;

use client::Client;
use kallsyms::Kallsyms;

pub use helper::MAX_MEMORY;
pub use wire::{Cause, Image};

/// Functions by which the kernel comes from what is traced to a program, innermost first: `bpf_prog_…` is the program.
const WAY_IN: &[&str] =
    &["bpf_trace_run", "__bpf_trace_", "__traceiter_", "bpf_trampoline_", "trace_call_bpf", "perf_trace_"];
const PROGRAM: &str = "bpf_prog_";

/// How long the names of one snapshot may take. The end of a window waits for the snapshot that is being taken and for
/// the last one: twice this.
pub const PATIENCE: Duration = Duration::from_millis(2500);
/// A name is asked for again after this: a library may have been replaced by another one at the same addresses.
const MAX_AGE: Duration = Duration::from_secs(10);
/// Names of processes that are remembered.
const MAX_NAMES: usize = 200_000;

/// A frame's name, or why it has none.
pub type Name = Result<Arc<[u8]>, Cause>;

/// What became of the frames of stacks, each counted once for each snapshot that has its stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SymbolCounts {
    /// All of them.
    pub frames: u64,
    /// Those without a name, by the cause.
    pub unresolved: BTreeMap<Cause, u64>,
}

impl SymbolCounts {
    /// Counts one frame.
    pub fn count(&mut self, name: &Name) {
        self.frames += 1;
        if let Err(cause) = name {
            *self.unresolved.entry(*cause).or_default() += 1;
        }
    }
}

#[derive(Debug)]
struct Known {
    name: Arc<[u8]>,
    since: Instant,
}

/// Turns addresses into names.
#[derive(Debug)]
pub struct Symbols {
    kernel: Kallsyms,
    processes: Result<Client, Cause>,
    /// Names that were found, by program and address.
    known: HashMap<(Image, u64), Known>,
    /// The other addresses of this snapshot, and why they have none. Not kept: names may come later.
    unknown: HashMap<(Image, u64), Cause>,
    /// Programs whose names took too long: they are asked for last.
    slow: Vec<Image>,
}

impl Symbols {
    /// To be called while this process has one thread and the right to find names: `needed`, which the helper keeps. With
    /// `Err`, names of processes are not looked for, for that cause.
    pub fn start(needed: Result<CapabilitySet, Cause>) -> Self {
        let processes = needed.and_then(|needed| {
            if !client::has_one_thread() {
                return Err(Cause::NoHelper);
            }
            Client::start(needed).map_err(|_| Cause::NoHelper)
        });
        Symbols {
            kernel: Kallsyms::open(),
            processes,
            known: HashMap::new(),
            unknown: HashMap::new(),
            slow: Vec::new(),
        }
    }

    /// The process whose children look into other processes, if there is one.
    pub fn helper(&self) -> Option<u32> {
        self.processes.as_ref().ok().map(Client::pid)
    }

    /// Why there can't be names of processes at all.
    pub fn trouble(&self) -> Option<Cause> {
        self.processes.as_ref().err().copied()
    }

    /// How often a helper crashed or did not answer, and was replaced.
    pub fn replaced(&self) -> u64 {
        self.processes.as_ref().map_or(0, |client| client.replaced)
    }

    /// The names of kernel addresses, the innermost first, without the program that took the stack and the way to it.
    pub fn kernel(&mut self, addresses: &[u64]) -> Vec<Name> {
        let mut names: Vec<Name> = addresses.iter().map(|address| self.kernel.name(*address).map(Arc::from)).collect();
        names.drain(..taken_by(&names));
        names
    }

    /// Finds the names of all addresses of processes that a snapshot has, in [`PATIENCE`] at the most.
    pub fn prepare(&mut self, wanted: &HashMap<Image, Vec<u64>>) {
        let (now, deadline) = (Instant::now(), Instant::now() + PATIENCE);
        self.unknown.clear();
        self.known.retain(|_, known| now.duration_since(known.since) < MAX_AGE);
        if self.known.len() > MAX_NAMES {
            self.known.clear();
        }
        let slow = std::mem::take(&mut self.slow);
        let mut images: Vec<&Image> = wanted.keys().collect();
        images.sort_by_key(|image| (slow.contains(image), **image));
        for image in images {
            let mut missing = wanted[image].clone();
            missing.retain(|address| !self.known.contains_key(&(*image, *address)));
            missing.sort_unstable();
            missing.dedup();
            if missing.is_empty() {
                continue;
            }
            let answers = match &mut self.processes {
                Ok(client) => client.ask(image, &missing, deadline),
                Err(cause) => vec![Err(*cause); missing.len()],
            };
            if answers.contains(&Err(Cause::TimedOut)) {
                self.slow.push(*image);
            }
            for (address, answer) in missing.into_iter().zip(answers) {
                match answer {
                    Ok(name) => drop(self.known.insert((*image, address), Known { name: name.into(), since: now })),
                    Err(cause) => drop(self.unknown.insert((*image, address), cause)),
                }
            }
        }
    }

    /// The name of an address of a process, which was among those of the last [`Symbols::prepare`].
    pub fn process(&self, image: &Image, address: u64) -> Name {
        match self.known.get(&(*image, address)) {
            Some(known) => Ok(Arc::clone(&known.name)),
            None => Err(self.unknown.get(&(*image, address)).copied().unwrap_or(Cause::NoSymbol)),
        }
    }
}

/// How many of the innermost frames are those of the program that took the stack.
fn taken_by(names: &[Name]) -> usize {
    let begins = |name: &Name, prefix: &str| name.as_ref().is_ok_and(|name| name.starts_with(prefix.as_bytes()));
    let way_in = |name: &&Name| WAY_IN.iter().any(|prefix| begins(name, prefix));
    let program = |name: &&Name| begins(name, PROGRAM);
    let programs = names.iter().take_while(program).count();
    if programs == 0 { 0 } else { programs + names[programs..].iter().take_while(way_in).count() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_program_is_left_out_and_nothing_else() {
        let cases: &[(&[&str], &[&str])] = &[
            (
                &["bpf_prog_5f_begins", "bpf_trace_run2", "__bpf_trace_x", "submit_bio", "bpf_trace_run2"],
                &["submit_bio", "bpf_trace_run2"],
            ),
            (&["bpf_prog_5f_sub", "bpf_prog_5f_begins", "bpf_trampoline_6442", "tcp_connect"], &["tcp_connect"]),
            (&["submit_bio", "bpf_prog_5f_other"], &["submit_bio", "bpf_prog_5f_other"]),
            (&["bpf_prog_5f_alone"], &[]),
            (&[], &[]),
        ];
        for (names, wanted) in cases {
            let names: Vec<Name> = names.iter().map(|name| Ok(Arc::from(name.as_bytes()))).collect();
            let wanted: Vec<Name> = wanted.iter().map(|name| Ok(Arc::from(name.as_bytes()))).collect();
            assert_eq!(names[taken_by(&names)..], wanted);
        }
    }
}
