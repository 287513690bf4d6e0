//! The attach targets of the running kernel, as far as it lists them.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::{fs, io};

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Func, Typedef};

use super::Host;
use super::choice::AttachTargets;
use crate::error::{Error, Kind, Result};

/// Mount points of tracefs: its own, or below debugfs.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The running kernel. Its tables are read on the first use, and only once.
#[derive(Default)]
pub struct KernelInfo {
    tables: OnceCell<KernelSymbols>,
}

impl KernelInfo {
    /// The kernel's tables.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] if the kernel's types can't be read.
    pub(super) fn read(&self, host: &Host) -> Result<&KernelSymbols> {
        if self.tables.get().is_none() {
            let btf = Btf::from_vmlinux().map_err(|error| {
                let what = format!("the types of this kernel ({}) can't be read: {error}", host.release);
                Error::new(Kind::Unsupported, what)
            })?;
            let _ = self.tables.set(KernelSymbols { btf, symbols: OnceCell::new(), traceable: OnceCell::new() });
        }
        Ok(self.tables.get().expect("it is set"))
    }
}

/// The kernel's types and symbols.
pub(super) struct KernelSymbols {
    btf: Btf<'static>,
    /// /proc/kallsyms, modules included: megabytes, and slow to read.
    symbols: OnceCell<Vec<u8>>,
    /// The functions that can be hooked, one per line; `None` if the list is not readable.
    traceable: OnceCell<Option<Vec<u8>>>,
}

impl KernelSymbols {
    fn has_tracepoint(&self, name: &str) -> bool {
        self.btf.type_by_name::<Typedef<'_>>(&format!("btf_trace_{name}")).is_some()
    }

    fn has_function(&self, name: &str) -> bool {
        self.btf.type_by_name::<Func<'_>>(name).is_some()
    }

    /// Whether the kernel permits hooks at the entry of `function`; `None` if it is not known: that requires root, and
    /// tracefs.
    pub fn is_traceable(&self, function: &str) -> Option<bool> {
        let read = || {
            let lists = TRACEFS.iter().map(|root| Path::new(root).join("available_filter_functions"));
            lists.map(fs::read).find_map(Result::ok).filter(|list| !list.is_empty())
        };
        let list = self.traceable.get_or_init(read).as_ref()?;
        Some(lines(list).any(|line| words(line).next() == Some(function.as_bytes())))
    }

    fn has_symbol(&self, name: &str) -> bool {
        has_symbol(self.symbols.get_or_init(|| fs::read("/proc/kallsyms").unwrap_or_default()), name)
    }
}

impl AttachTargets for KernelSymbols {
    fn missing(&self, section: &str) -> Option<String> {
        let (kind, target) = section.split_once('/').unwrap_or((section, ""));
        let target = target.split('+').next().unwrap_or_default();
        let (there, what) = match kind {
            "tp_btf" | "raw_tp" | "raw_tracepoint" => (self.has_tracepoint(target), "tracepoint"),
            "tp" | "tracepoint" => match tracefs() {
                Ok(Some(root)) => (root.join("events").join(target).exists(), "tracepoint"),
                Ok(None) => {
                    return Some(format!("tracefs is not mounted (`mount -t tracefs none {}`)", TRACEFS[0]));
                }
                // The error of the attempt will report the missing permission
                Err(_) => return None,
            },
            "fentry" | "fexit" => (self.has_function(target), "function"),
            // A function that was inlined everywhere is in neither; a module's is among the symbols only
            "kprobe" | "kretprobe" => (self.has_function(target) || self.has_symbol(target), "function"),
            _ => return None,
        };
        (!there).then(|| format!("there is no {what} {target}"))
    }
}

/// The mount point of tracefs; `None` if it is not mounted where libbpf expects it. Below debugfs the first access
/// mounts it.
///
/// # Errors
/// If this process has no access.
pub(super) fn tracefs() -> io::Result<Option<PathBuf>> {
    for root in TRACEFS.map(Path::new) {
        match root.join("events").metadata() {
            Ok(_) => return Ok(Some(root.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Whether `symbols`, in the format of /proc/kallsyms, has code with exactly the name `name`: `name.isra.0` has other
/// arguments.
fn has_symbol(symbols: &[u8], name: &str) -> bool {
    lines(symbols).any(|line| {
        let mut words = words(line).skip(1);
        matches!(words.next(), Some(b"t" | b"T" | b"w" | b"W")) && words.next() == Some(name.as_bytes())
    })
}

/// The lines of a file of the kernel. It contains names of modules and programs, which need not be UTF-8.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests;
