//! The kernel's own symbols, from /proc/kallsyms.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _};
use std::time::{Duration, Instant};

use super::wire::UnresolvedCause;

/// How far behind the last symbol of all an address may be and still belong to it.
const MAX_TAIL: u64 = 64 << 10;
/// Modules and programs come and go: when an address is unknown, the table is read again, but not more often than this.
const MIN_AGE: Duration = Duration::from_secs(10);
/// Longer lines are none of the kernel's.
const MAX_LINE: usize = 4096;

/// The table, read with the first address.
#[derive(Debug)]
pub struct Kallsyms {
    /// Opened while the process still had the right to see addresses: the kernel asks for it at the opening.
    file: io::Result<File>,
    table: SymbolTable,
    read_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct SymbolTable {
    /// Sorted by address.
    symbols: Vec<Symbol>,
    /// All names, one behind the other.
    names: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Symbol {
    address: u64,
    name: u32,
    length: u16,
    /// Functions; what is not code ends the function before it, and names nothing.
    is_code: bool,
}

impl Kallsyms {
    /// Opens the table and reads nothing yet.
    pub fn open() -> Self {
        Kallsyms { file: File::open("/proc/kallsyms"), table: SymbolTable::default(), read_at: None }
    }

    /// Whether it shows any address: it shows zeros to a reader without the right to see them.
    pub fn has_addresses(&mut self) -> bool {
        let mut beginning = Vec::new();
        let read = self.file.as_mut().ok().and_then(|file| {
            file.rewind().ok()?;
            file.take(1 << 16).read_to_end(&mut beginning).ok()
        });
        read.is_some() && SymbolTable::read(beginning.as_slice()).is_ok_and(|table| !table.symbols.is_empty())
    }

    /// The name of the function at `address`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn name(&mut self, address: u64) -> Result<&[u8], UnresolvedCause> {
        let found = self.table.find(address).is_some();
        if !found && self.read_at.is_none_or(|read| read.elapsed() >= MIN_AGE) {
            self.read_at = Some(Instant::now());
            let table = self.file.as_mut().ok().and_then(|file| {
                file.rewind().ok()?;
                SymbolTable::read(BufReader::with_capacity(1 << 16, file)).ok()
            });
            self.table = table.unwrap_or_default();
        }
        if self.table.symbols.is_empty() {
            return Err(UnresolvedCause::NotPermitted);
        }
        self.table.find(address).ok_or(UnresolvedCause::NoSymbol)
    }
}

impl SymbolTable {
    /// Lines of `ADDRESS TYPE NAME [MODULE]`. All addresses are zero for a reader without the right to see them: then the
    /// table is empty.
    fn read(mut lines: impl BufRead) -> io::Result<Self> {
        let mut table = SymbolTable::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() <= MAX_LINE {
                table.push(&line);
            }
        }
        table.symbols.sort_by_key(|symbol| symbol.address);
        Ok(table)
    }

    fn push(&mut self, line: &[u8]) {
        let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else { return };
        let address = std::str::from_utf8(address).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let Some(address) = address.filter(|address| *address != 0) else { return };
        let (Ok(at), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else { return };
        let is_code = matches!(kind, b"t" | b"T" | b"w" | b"W");
        self.names.extend(name);
        self.symbols.push(Symbol { address, name: at, length, is_code });
    }

    fn find(&self, address: u64) -> Option<&[u8]> {
        let behind = self.symbols.partition_point(|symbol| symbol.address <= address);
        let start = self.symbols.get(behind.checked_sub(1)?)?.address;
        if behind == self.symbols.len() && address - start > MAX_TAIL {
            return None;
        }
        // Of several names for one address the first that is a function's
        let first = self.symbols[..behind].partition_point(|symbol| symbol.address < start);
        let symbol = self.symbols[first..behind].iter().find(|symbol| symbol.is_code)?;
        let name = symbol.name as usize;
        Some(&self.names[name..name + usize::from(symbol.length)])
    }
}

#[cfg(test)]
mod tests;
