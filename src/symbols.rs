//! Names for the addresses of stacks. Reads /proc/kallsyms and the binaries of processes; never called for programs
//! without stacks, and the tables are read with the first address.

use std::collections::HashMap;

use blazesym::symbolize::source::{Kernel, Process, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use blazesym::{MaybeDefault, Pid};

/// What stands for an address that nothing has a name for.
const UNKNOWN: &str = "[unknown]";

/// Functions by which the kernel comes from what is traced to a program, innermost first: `bpf_prog_…` is the program.
const WAY_IN: &[&str] =
    &["bpf_trace_run", "__bpf_trace_", "__traceiter_", "bpf_trampoline_", "trace_call_bpf", "perf_trace_"];
const PROGRAM: &str = "bpf_prog_";

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
    /// The names of kernel addresses, the innermost first, without the program that took the stack and the way to it.
    pub fn kernel(&mut self, addresses: &[u64]) -> Vec<String> {
        let kernel = Kernel { debug_syms: false, vmlinux: MaybeDefault::None, ..Kernel::default() };
        let mut names = self.names(0, addresses, &Source::Kernel(kernel));
        names.drain(..taken_by(&names));
        names
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

/// How many of the innermost frames are those of the program that took the stack.
fn taken_by(names: &[String]) -> usize {
    let way_in = |name: &&String| WAY_IN.iter().any(|prefix| name.starts_with(prefix));
    let program = |name: &&String| name.starts_with(PROGRAM);
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
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            assert_eq!(&names[taken_by(&names)..], *wanted);
        }
    }
}
