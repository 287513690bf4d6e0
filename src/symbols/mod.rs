//! Resolves the addresses of stacks to names. The kernel's names are in /proc/kallsyms. A child process resolves those
//! of processes, because it has to read files that belong to the traced processes: see `helper`.

mod client;
mod helper;
mod kallsyms;
mod wire;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;

use client::Client;
use kallsyms::Kallsyms;

pub use helper::MAX_MEMORY;
pub use wire::{Image, UnresolvedCause};

/// Functions between the traced kernel function and the program, innermost first: `bpf_prog_…` is the program.
const WAY_IN: &[&str] =
    &["bpf_trace_run", "__bpf_trace_", "__traceiter_", "bpf_trampoline_", "trace_call_bpf", "perf_trace_"];
const PROGRAM: &str = "bpf_prog_";

/// Time limit for the names in all snapshots of one moment, of all probes together. The end of a window waits for the
/// snapshots in progress and for the last ones: twice this.
pub const PATIENCE: Duration = Duration::from_millis(2500);
/// A name is looked up again after this time: another library may have been mapped at the same addresses.
const MAX_AGE: Duration = Duration::from_secs(10);
/// Bytes of cached names of processes.
const MAX_KNOWN: usize = 32 << 20;
/// Addresses of one program image in one snapshot that are looked up.
const MAX_ADDRESSES: usize = 1 << 16;
/// Time limit for a program image at first; slower ones get the time that the others leave.
const FIRST_TURN: Duration = Duration::from_millis(400);

/// The name of a frame, or why it has none.
pub type FrameName = Result<Arc<[u8]>, UnresolvedCause>;

/// The results for the frames of stacks; each frame counts once for each snapshot with its stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SymbolCounts {
    /// All of them.
    pub frames: u64,
    /// Frames without a name, by the cause.
    pub unresolved: BTreeMap<UnresolvedCause, u64>,
}

impl SymbolCounts {
    /// Counts one frame.
    pub fn count(&mut self, name: &FrameName) {
        self.frames += 1;
        if let Err(cause) = name {
            *self.unresolved.entry(*cause).or_default() += 1;
        }
    }
}

#[derive(Debug)]
struct CachedName {
    name: Arc<[u8]>,
    since: Instant,
}

/// Resolves addresses to names.
#[derive(Debug)]
pub struct Symbols {
    kernel: Kallsyms,
    /// The address ranges of the run's own programs.
    own_code: Vec<Range<u64>>,
    processes: Result<Client, UnresolvedCause>,
    /// Cached names, by program image and address, and their size in bytes.
    known: HashMap<(Image, u64), CachedName>,
    known_bytes: usize,
    /// Addresses of this snapshot without a name, with the cause. Not kept for later snapshots: names can appear later.
    unknown: HashMap<(Image, u64), UnresolvedCause>,
    /// Program images whose names took too long: they are looked up last.
    slow: HashSet<Image>,
    /// The time that look-ups took, for each user's processes; older look-ups have less weight.
    spent: HashMap<u32, Duration>,
}

impl Symbols {
    /// Must be called while this process has the capabilities `needed`, which the helper keeps. With `Err`, names of
    /// processes are not looked up, for that cause.
    pub fn start(needed: Result<CapabilitySet, UnresolvedCause>) -> Self {
        let processes = needed.and_then(|needed| Client::start(needed).map_err(|_| UnresolvedCause::NoHelper));
        Symbols {
            kernel: Kallsyms::open(),
            own_code: Vec::new(),
            processes,
            known: HashMap::new(),
            known_bytes: 0,
            unknown: HashMap::new(),
            slow: HashSet::new(),
            spent: HashMap::new(),
        }
    }

    /// Sets the address ranges of the programs that take stacks: their frames are removed from stacks.
    pub fn leave_out(&mut self, own_code: Vec<Range<u64>>) {
        self.own_code = own_code;
    }

    /// The pid of the parent of the helper's workers, if there is a helper.
    pub fn helper(&self) -> Option<u32> {
        self.processes.as_ref().ok().map(Client::pid)
    }

    /// Whether the kernel shows the addresses of its functions.
    pub fn has_kernel_addresses(&mut self) -> bool {
        self.kernel.has_addresses()
    }

    /// Why names of processes are not available at all, if they are not.
    pub fn trouble(&self) -> Option<UnresolvedCause> {
        self.processes.as_ref().err().copied()
    }

    /// How often a helper crashed or did not answer, and was replaced.
    pub fn replaced(&self) -> u64 {
        self.processes.as_ref().map_or(0, |client| client.replaced)
    }

    /// The names of kernel addresses, innermost first, without the program that took the stack and the functions that
    /// called it.
    pub fn kernel(&mut self, addresses: &[u64]) -> Vec<FrameName> {
        let mut names: Vec<FrameName> =
            addresses.iter().map(|address| self.kernel.name(*address).map(Arc::from)).collect();
        let own = addresses.iter().take_while(|at| self.own_code.iter().any(|code| code.contains(at))).count();
        names.drain(..taken_by(&names, own));
        names
    }

    /// Looks up all addresses of processes in a snapshot, until `deadline`.
    pub fn prepare(&mut self, wanted: HashMap<Image, Vec<u64>>, deadline: Instant) {
        let now = Instant::now();
        self.unknown.clear();
        self.known.retain(|_, known| now.duration_since(known.since) < MAX_AGE);
        self.known_bytes = self.known.values().map(|known| known.name.len()).sum();
        if self.processes.is_err() {
            return;
        }
        let mut queues: BTreeMap<u32, Vec<(Image, Vec<u64>)>> = BTreeMap::new();
        for (image, mut missing) in wanted {
            missing.retain(|address| !self.known.contains_key(&(image, *address)));
            missing.sort_unstable();
            missing.dedup();
            missing.truncate(MAX_ADDRESSES);
            if !missing.is_empty() {
                queues.entry(user_of(image.pid)).or_default().push((image, missing));
            }
        }
        let slow = std::mem::take(&mut self.slow);
        for queue in queues.values_mut() {
            // The last one is looked up next
            queue.sort_by_key(|(image, _)| Reverse((slow.contains(image), *image)));
        }
        self.spent.retain(|_, spent| {
            *spent /= 2;
            *spent > Duration::from_millis(1)
        });
        let mut again = Vec::new();
        // In turn, so that a user with slow processes does not delay the others
        while Instant::now() < deadline
            && let Some(user) = self.next_user(&queues)
            && let Some((image, addresses)) = queues.get_mut(&user).and_then(Vec::pop)
        {
            let began = Instant::now();
            if self.ask(image, &addresses, FIRST_TURN, deadline) == Some(UnresolvedCause::TimedOut) {
                again.push((image, addresses));
            }
            *self.spent.entry(user).or_default() += began.elapsed();
        }
        for (image, addresses) in again {
            self.ask(image, &addresses, PATIENCE, deadline);
        }
    }

    /// The image with pending look-ups whose user has used the least time so far.
    fn next_user(&self, queues: &BTreeMap<u32, Vec<(Image, Vec<u64>)>>) -> Option<u32> {
        let waiting = queues.iter().filter(|(_, queue)| !queue.is_empty()).map(|(user, _)| *user);
        waiting.min_by_key(|user| self.spent.get(user).copied().unwrap_or_default())
    }

    /// Looks names up and caches them; returns why some are missing, if a later attempt with more time can find them.
    fn ask(
        &mut self,
        image: Image,
        addresses: &[u64],
        allowance: Duration,
        deadline: Instant,
    ) -> Option<UnresolvedCause> {
        let client = self.processes.as_mut().ok()?;
        let since = Instant::now();
        let answers = match client.ask(&image, addresses, allowance, deadline) {
            Ok(answers) => answers,
            Err(cause) => {
                self.slow.insert(image);
                self.unknown.extend(addresses.iter().map(|address| ((image, *address), cause)));
                return None;
            }
        };
        let mut trouble = None;
        for (address, answer) in addresses.iter().zip(answers) {
            match answer {
                Ok(name) => {
                    self.unknown.remove(&(image, *address));
                    if self.known_bytes + name.len() > MAX_KNOWN {
                        self.unknown.insert((image, *address), UnresolvedCause::NoRoom);
                        continue;
                    }
                    self.known_bytes += name.len();
                    self.known.insert((image, *address), CachedName { name: name.into(), since });
                }
                Err(cause) => {
                    self.unknown.insert((image, *address), cause);
                    if cause == UnresolvedCause::TimedOut {
                        self.slow.insert(image);
                        trouble = Some(cause);
                    }
                }
            }
        }
        trouble
    }

    /// The name of an address of a process, which was in the last [`Symbols::prepare`].
    pub fn process(&self, image: &Image, address: u64) -> FrameName {
        if let Some(known) = self.known.get(&(*image, address)) {
            return Ok(Arc::clone(&known.name));
        }
        let without_helper = self.processes.as_ref().err();
        Err(*without_helper.or_else(|| self.unknown.get(&(*image, address))).unwrap_or(&UnresolvedCause::TimedOut))
    }
}

/// The user of a process, if it is known.
fn user_of(pid: u32) -> u32 {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"));
    let user = line.and_then(|line| std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok());
    user.unwrap_or(u32::MAX)
}

/// How many of the innermost frames belong to the program that took the stack: found by its addresses in `own`, or by
/// names if addresses are not known. A trampoline after them has no name if the kernel hides the names of programs.
fn taken_by(names: &[FrameName], own: usize) -> usize {
    let begins = |name: &FrameName, prefix: &str| name.as_ref().is_ok_and(|name| name.starts_with(prefix.as_bytes()));
    let way_in = |name: &&FrameName| name.is_err() || WAY_IN.iter().any(|prefix| begins(name, prefix));
    let by_name = names.iter().take_while(|name| begins(name, PROGRAM)).count();
    let programs = own.max(by_name);
    if programs == 0 { 0 } else { programs + names[programs..].iter().take_while(way_in).count() }
}

#[cfg(test)]
mod tests;
