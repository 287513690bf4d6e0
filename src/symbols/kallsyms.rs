//! The kernel's symbols, from /proc/kallsyms.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _};
use std::time::{Duration, Instant};

use super::wire::UnresolvedCause;

/// The largest distance of an address to the last symbol to which it can belong.
const MAX_TAIL: u64 = 64 << 10;
/// Modules and programs are loaded and unloaded: for an unknown address the table is read again, at most this often.
const MIN_AGE: Duration = Duration::from_secs(10);
/// The kernel writes no longer lines.
const MAX_LINE: usize = 4096;

/// The symbol table, read for the first address.
#[derive(Debug)]
pub struct Kallsyms {
    /// Opened while the process still had the capability to see addresses: the kernel checks it when the file is
    /// opened.
    file: io::Result<File>,
    table: SymbolTable,
    read_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct SymbolTable {
    /// Sorted by address.
    symbols: Vec<Symbol>,
    /// All names, concatenated.
    names: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Symbol {
    address: u64,
    name: u32,
    length: u16,
    /// Whether it is a function; a symbol that is not code ends the function before it, and is not returned as a name.
    is_code: bool,
}

impl Kallsyms {
    /// Opens the table without reading it.
    pub fn open() -> Self {
        Kallsyms { file: File::open("/proc/kallsyms"), table: SymbolTable::default(), read_at: None }
    }

    /// Whether it shows any address: without the capability all addresses are zero.
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
    /// Why it has no name.
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
    /// Parses lines of `ADDRESS TYPE NAME [MODULE]`. Without the capability to see addresses all of them are zero: then
    /// the table is empty.
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
        // Of several names for one address, the first one of a function
        let first = self.symbols[..behind].partition_point(|symbol| symbol.address < start);
        let symbol = self.symbols[first..behind].iter().find(|symbol| symbol.is_code)?;
        let name = symbol.name as usize;
        Some(&self.names[name..name + usize::from(symbol.length)])
    }
}

#[cfg(test)]
mod tests;
