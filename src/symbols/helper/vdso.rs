//! The code that the kernel maps into every process, the same for all of them: this process's own copy has the names.

use std::sync::OnceLock;
use std::time::Duration;

use super::elf::Functions;
use super::{Deadline, demangle};
use crate::symbols::wire::{Answer, UnresolvedCause};

/// A 32-bit process has another vDSO, below this address.
const LOWEST: u64 = 1 << 32;
/// Larger than the vDSO of any kernel.
const MAX_SIZE: usize = 1 << 20;

struct OwnVdso {
    bytes: Vec<u8>,
    functions: Functions,
}

/// Fills in the names of `addresses` in a vDSO that is mapped at `start`.
pub fn names(start: u64, addresses: &[u64], answers: &mut [Answer]) {
    static OWN: OnceLock<Option<OwnVdso>> = OnceLock::new();
    let own = OWN.get_or_init(read_own).as_ref().filter(|_| start >= LOWEST);
    for (address, answer) in addresses.iter().zip(answers) {
        let name = own.and_then(|own| own.functions.name(&own.bytes.as_slice(), address - start));
        *answer = name.map(|name| demangle(&name)).ok_or(UnresolvedCause::NoSymbol);
    }
}

fn read_own() -> Option<OwnVdso> {
    use std::os::unix::fs::FileExt as _;
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let line = maps.split(|byte| *byte == b'\n').find(|line| line.ends_with(b"[vdso]"))?;
    let range = std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let size = usize::try_from(end.checked_sub(start)?).ok().filter(|size| *size <= MAX_SIZE)?;
    let mut bytes = vec![0; size];
    std::fs::File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, start).ok()?;
    let functions = Functions::read(&bytes.as_slice(), Deadline::within(Duration::from_secs(1))).ok()?;
    Some(OwnVdso { bytes, functions })
}

#[cfg(test)]
mod tests;
