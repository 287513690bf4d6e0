//! Names for the addresses of stacks. Reads /proc/kallsyms and the binaries of processes; never called for programs
//! without stacks, and the tables are read with the first address.

use std::collections::HashMap;

use blazesym::symbolize::source::{Kernel, Process, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use blazesym::{MaybeDefault, Pid};

/// What stands for an address that nothing has a name for.
const UNKNOWN: &str = "[unknown]";

/// Turns addresses into names, and remembers them.
pub struct Symbols {
    inner: Symbolizer,
    /// By process, 0 for the kernel, and address.
    known: HashMap<(u32, u64), String>,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl Default for Symbols {
    fn default() -> Self {
        Symbols { inner: Symbolizer::new(), known: HashMap::new() }
    }
}

impl Symbols {
    /// The names of kernel addresses.
    pub fn kernel(&mut self, addresses: &[u64]) -> Vec<String> {
        let kernel = Kernel { debug_syms: false, vmlinux: MaybeDefault::None, ..Kernel::default() };
        self.names(0, addresses, &Source::Kernel(kernel))
    }

    /// The names of addresses of the process `pid`. Once it has ended there are none.
    pub fn process(&mut self, pid: u32, addresses: &[u64]) -> Vec<String> {
        let mut process = Process::new(Pid::from(pid));
        process.debug_syms = false; // DWARF of large programs takes seconds to read
        self.names(pid, addresses, &Source::Process(process))
    }

    fn names(&mut self, of: u32, addresses: &[u64], source: &Source<'_>) -> Vec<String> {
        let mut missing: Vec<u64> =
            addresses.iter().copied().filter(|at| !self.known.contains_key(&(of, *at))).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let found = self.inner.symbolize(source, Input::AbsAddr(&missing)).unwrap_or_default();
            for (i, at) in missing.iter().enumerate() {
                let name = match found.get(i) {
                    Some(Symbolized::Sym(symbol)) => symbol.name.to_string(),
                    _ => UNKNOWN.to_owned(),
                };
                self.known.insert((of, *at), name);
            }
        }
        addresses.iter().map(|at| self.known[&(of, *at)].clone()).collect()
    }
}
