//! The functions of an ELF file, read with pread(2) in parts: the file can be truncated, modified or malicious while it
//! is read. Names stay in the file until one is looked up.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

use object::elf::{FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader as _, SectionHeader as _, Sym as _};
use object::{Endianness, elf, pod};

use super::Deadline;

/// Limit of symbols that are read from one table.
const MAX_SYMBOLS: u64 = 8 << 20;
/// Limit of functions that are kept from one table, 16 bytes each.
pub const MAX_FUNCTIONS: usize = 2 << 20;
/// Limit of bytes of section names.
const MAX_SECTION_NAMES: u64 = 1 << 20;
/// Limit of bytes of an ELF file that is compressed within another one.
const MAX_UNPACKED: u64 = 32 << 20;
/// Memory limit for decompressing it, KiB.
const MAX_UNPACKING: u32 = 64 << 10;
/// Limit of bytes of section and program headers.
const MAX_HEADERS: u64 = 8 << 20;
/// Bytes of symbols that are read at once.
const PIECE: u64 = 1 << 20;

/// One function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Function {
    start: u64,
    /// Size; 0: up to the next function.
    size: u32,
    /// Offset of its name in the table's strings.
    name: u32,
}

/// A symbol table, sorted by address.
#[derive(Debug)]
struct SymbolSection {
    functions: Vec<Function>,
    strings: SymbolNames,
}

/// The strings of a table.
#[derive(Debug)]
enum SymbolNames {
    /// Offset and size in the file.
    InFile(u64, u64),
    /// Of a decompressed table.
    Here(Vec<u8>),
}

/// A mapped segment of the file: file offset, bytes in the file, address.
#[derive(Debug, Clone, Copy)]
struct LoadSegment {
    offset: u64,
    size: u64,
    address: u64,
}

/// The functions of one file.
#[derive(Debug)]
pub struct Functions {
    segments: Vec<LoadSegment>,
    /// `.symtab` first or, if it was stripped, the table in `.gnu_debugdata`; then `.dynsym`.
    tables: Vec<SymbolSection>,
}

/// Why a file has no functions.
#[derive(Debug)]
pub enum Unreadable {
    /// It is not an ELF file, or can't be parsed.
    Invalid,
    /// The time limit is reached.
    TimedOut,
}

impl From<io::Error> for Unreadable {
    fn from(_: io::Error) -> Self {
        Unreadable::Invalid
    }
}

/// A source of bytes by offset.
pub trait ReadAt {
    /// Fills `buffer` with the bytes at `offset`.
    ///
    /// # Errors
    /// If there are fewer bytes, or if the read fails.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn read(source: &dyn ReadAt, offset: u64, size: u64, most: u64) -> Result<Vec<u8>, Unreadable> {
    if size > most {
        return Err(Unreadable::Invalid);
    }
    let mut bytes = vec![0; size as usize];
    source.read_at(&mut bytes, offset)?;
    Ok(bytes)
}

impl Functions {
    /// Reads the tables of `source`.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn read(source: &dyn ReadAt, deadline: Deadline) -> Result<Self, Unreadable> {
        let ident = read(source, 0, 16, 16)?;
        if ident[..4] != elf::ELFMAG {
            return Err(Unreadable::Invalid);
        }
        match elf::FileClass(ident[4]) {
            elf::ELFCLASS64 => Self::of::<FileHeader64<Endianness>>(source, true, deadline),
            elf::ELFCLASS32 => Self::of::<FileHeader32<Endianness>>(source, true, deadline),
            _ => Err(Unreadable::Invalid),
        }
    }

    /// With `unpacks`, a compressed table is used too.
    fn of<Elf: FileHeader<Endian = Endianness>>(
        source: &dyn ReadAt,
        unpacks: bool,
        deadline: Deadline,
    ) -> Result<Self, Unreadable> {
        let invalid = |_| Unreadable::Invalid;
        let bytes = read(source, 0, size_of::<Elf>() as u64, MAX_HEADERS)?;
        let (header, _) = pod::from_bytes::<Elf>(&bytes).map_err(|()| Unreadable::Invalid)?;
        let endian = header.endian().map_err(invalid)?;
        let size = |count: u64, one: usize| count.checked_mul(one as u64).ok_or(Unreadable::Invalid);

        let count = u64::from(header.e_phnum(endian));
        if usize::from(header.e_phentsize(endian)) != size_of::<Elf::ProgramHeader>() {
            return Err(Unreadable::Invalid);
        }
        let bytes =
            read(source, header.e_phoff(endian).into(), size(count, size_of::<Elf::ProgramHeader>())?, MAX_HEADERS)?;
        let headers = pod::slice_from_all_bytes::<Elf::ProgramHeader>(&bytes).map_err(|()| Unreadable::Invalid)?;
        let loaded = headers.iter().filter(|header| header.p_type(endian) == elf::PT_LOAD);
        let segments = loaded.map(|header| LoadSegment {
            offset: header.p_offset(endian).into(),
            size: header.p_filesz(endian).into(),
            address: header.p_vaddr(endian).into(),
        });
        let segments = segments.collect();

        let one = size_of::<Elf::SectionHeader>();
        if usize::from(header.e_shentsize(endian)) != one {
            return Ok(Functions { segments, tables: Vec::new() });
        }
        let at: u64 = header.e_shoff(endian).into();
        let count = match u64::from(header.e_shnum(endian)) {
            // More than fit into the field: the first section's size has the number
            0 if at != 0 => {
                let bytes = read(source, at, one as u64, MAX_HEADERS)?;
                let (first, _) = pod::from_bytes::<Elf::SectionHeader>(&bytes).map_err(|()| Unreadable::Invalid)?;
                first.sh_size(endian).into()
            }
            count => count,
        };
        let bytes = read(source, at, size(count, one)?, MAX_HEADERS)?;
        let sections = pod::slice_from_all_bytes::<Elf::SectionHeader>(&bytes).map_err(|()| Unreadable::Invalid)?;
        let mut tables = Vec::new();
        if unpacks && !sections.iter().any(|section| section.sh_type(endian) == elf::SHT_SYMTAB) {
            tables.extend(compressed::<Elf>(source, endian, header, sections, deadline)?);
        }
        for kind in [elf::SHT_SYMTAB, elf::SHT_DYNSYM] {
            let Some(section) = sections.iter().find(|section| section.sh_type(endian) == kind) else { continue };
            let strings = sections.get(section.sh_link(endian) as usize);
            let Some(strings) = strings.filter(|strings| strings.sh_type(endian) == elf::SHT_STRTAB) else { continue };
            let place = (section.sh_offset(endian).into(), section.sh_size(endian).into());
            let functions = match functions::<Elf>(source, endian, place, deadline) {
                Err(Unreadable::Invalid) => continue, // the other table may be valid
                functions => functions?,
            };
            let strings = SymbolNames::InFile(strings.sh_offset(endian).into(), strings.sh_size(endian).into());
            tables.push(SymbolSection { functions, strings });
        }
        Ok(Functions { segments, tables })
    }

    /// The number of functions in memory; names in memory count by their size.
    pub fn len(&self) -> usize {
        let names = |table: &SymbolSection| if let SymbolNames::Here(names) = &table.strings { names.len() } else { 0 };
        self.tables.iter().map(|table| table.functions.len() + names(table) / size_of::<Function>()).sum()
    }

    /// The name, as in the file, of the function that contains the byte at `offset` of the file; `None` if there is
    /// none.
    pub fn name(&self, source: &dyn ReadAt, offset: u64) -> Option<Vec<u8>> {
        let inside = |segment: &&LoadSegment| offset >= segment.offset && offset - segment.offset < segment.size;
        let segment = self.segments.iter().find(inside)?;
        let address = segment.address.wrapping_add(offset - segment.offset);
        self.tables.iter().find_map(|table| table.name(source, address))
    }
}

impl SymbolSection {
    fn name(&self, source: &dyn ReadAt, address: u64) -> Option<Vec<u8>> {
        let behind = self.functions.partition_point(|function| function.start <= address);
        // A function can be nested in another one: check a few before the nearest
        let near = self.functions[..behind].iter().rev().take(4);
        let next = self.functions.get(behind).map_or(u64::MAX, |next| next.start);
        let has = |function: &&Function| match function.size {
            0 => address < next && self.functions[behind - 1].start == function.start,
            size => address - function.start < u64::from(size),
        };
        let function = near.into_iter().find(has)?;
        let (at, size) = match &self.strings {
            SymbolNames::InFile(at, size) => (*at, *size),
            SymbolNames::Here(names) => {
                let name = names.get(function.name as usize..)?.split(|byte| *byte == 0).next()?;
                return (!name.is_empty()).then(|| name[..name.len().min(super::MAX_MANGLED)].to_vec());
            }
        };
        let left = size.checked_sub(u64::from(function.name)).filter(|left| *left > 0)?;
        let at = at.checked_add(u64::from(function.name))?;
        // Most names are short
        for most in [128, super::MAX_MANGLED] {
            let mut name = vec![0; left.min(most as u64) as usize];
            source.read_at(&mut name, at).ok()?;
            if let Some(end) = name.iter().position(|byte| *byte == 0) {
                name.truncate(end);
                return (!name.is_empty()).then_some(name);
            }
        }
        None
    }
}

/// The functions in a symbol table at (offset, bytes).
fn functions<Elf: FileHeader<Endian = Endianness>>(
    source: &dyn ReadAt,
    endian: Endianness,
    (offset, size): (u64, u64),
    deadline: Deadline,
) -> Result<Vec<Function>, Unreadable> {
    let one = size_of::<Elf::Sym>() as u64;
    if size / one > MAX_SYMBOLS {
        return Err(Unreadable::Invalid);
    }
    // With the rank of its name
    let mut found: Vec<(Function, u8)> = Vec::new();
    let (mut done, size) = (0, size / one * one);
    while done < size {
        if deadline.is_over() {
            return Err(Unreadable::TimedOut);
        }
        let piece = (size - done).min(PIECE / one * one);
        let bytes = read(source, offset.checked_add(done).ok_or(Unreadable::Invalid)?, piece, PIECE)?;
        let symbols = pod::slice_from_all_bytes::<Elf::Sym>(&bytes).map_err(|()| Unreadable::Invalid)?;
        for symbol in symbols {
            let is_code = matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC);
            let (start, name): (u64, u32) = (symbol.st_value(endian).into(), symbol.st_name(endian));
            if !is_code || symbol.st_shndx(endian) == elf::SHN_UNDEF || name == 0 {
                continue;
            }
            let size: u64 = symbol.st_size(endian).into();
            // Of several names for one function a global one, then the first
            let rank = match symbol.st_bind() {
                elf::STB_GLOBAL => 0,
                elf::STB_WEAK => 1,
                _ => 2,
            };
            found.push((Function { start, size: u32::try_from(size).unwrap_or(u32::MAX), name }, rank));
        }
        if found.len() > MAX_FUNCTIONS {
            return Err(Unreadable::Invalid);
        }
        done += piece;
    }
    // Names in the order of the file: a stable sort would allocate as much memory again
    found.sort_unstable_by_key(|(function, rank)| (function.start, function.size == 0, *rank, function.name));
    found.dedup_by_key(|(function, _)| function.start);
    Ok(found.into_iter().map(|(function, _)| function).collect())
}

/// The table of the functions that were stripped from `.symtab`, which distributions leave in `.gnu_debugdata`: an ELF
/// file, compressed with xz.
fn compressed<Elf: FileHeader<Endian = Endianness>>(
    source: &dyn ReadAt,
    endian: Endianness,
    header: &Elf,
    sections: &[Elf::SectionHeader],
    deadline: Deadline,
) -> Result<Option<SymbolSection>, Unreadable> {
    let names = sections.get(usize::from(header.e_shstrndx(endian).0));
    let names = names.and_then(|names| {
        read(source, names.sh_offset(endian).into(), names.sh_size(endian).into(), MAX_SECTION_NAMES).ok()
    });
    let is_named = |section: &&Elf::SectionHeader| {
        let name = names.as_ref().and_then(|names| names.get(section.sh_name(endian) as usize..));
        name.is_some_and(|name| name.starts_with(b".gnu_debugdata\0"))
    };
    let Some(section) = sections.iter().find(is_named) else { return Ok(None) };
    let size = section.sh_size(endian).into();
    let Ok(packed) = read(source, section.sh_offset(endian).into(), size, MAX_UNPACKED) else { return Ok(None) };
    let mut reader = lzma_rust2::XzReader::new_mem_limit(packed.as_slice(), false, MAX_UNPACKING).take(MAX_UNPACKED);
    let (mut unpacked, mut piece) = (Vec::new(), vec![0; PIECE as usize]);
    loop {
        if deadline.is_over() {
            return Err(Unreadable::TimedOut);
        }
        match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => unpacked.extend_from_slice(&piece[..count]),
            Err(_) => return Ok(None),
        }
    }
    let inner = match Functions::of::<Elf>(&unpacked.as_slice(), false, deadline) {
        Ok(inner) => inner,
        Err(Unreadable::TimedOut) => return Err(Unreadable::TimedOut),
        Err(Unreadable::Invalid) => return Ok(None),
    };
    let table = inner.tables.into_iter().next();
    Ok(table.and_then(|SymbolSection { functions, strings }| {
        let SymbolNames::InFile(at, size) = strings else { return None };
        let (at, size) = (usize::try_from(at).ok()?, usize::try_from(size).ok()?);
        let strings = SymbolNames::Here(unpacked.get(at..at.checked_add(size)?)?.to_vec());
        Some(SymbolSection { functions, strings })
    }))
}

#[cfg(test)]
mod tests;
