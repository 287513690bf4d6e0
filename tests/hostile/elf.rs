//! ELF files: sound ones with a function and its symbol, and ones whose headers lie.

use std::path::Path;

use crate::rng::Rng;

/// Where the code is, in the file and from the base address.
pub const CODE: usize = 0x1000;
const TABLES: usize = 0x2000;
const BASE: u64 = 0x40_0000;
const HEADER: usize = 64;
const SEGMENT: usize = 56;
const SECTION: usize = 64;
const SYMBOL: usize = 24;

/// Code for a page of any kind: a loop of `%rdi` rounds, and 64 bytes on, `nanosleep(%rdi, NULL)`.
pub fn leaf() -> Vec<u8> {
    let mut code = vec![0x55, 0x48, 0x89, 0xe5]; // push %rbp; mov %rsp,%rbp
    code.extend([0x48, 0xff, 0xcf, 0x75, 0xfb, 0x5d, 0xc3]); // dec %rdi; jnz .; pop %rbp; ret
    code.resize(64, 0xcc);
    code.extend([0x31, 0xf6, 0xb8, 35, 0, 0, 0, 0x0f, 0x05, 0xc3]); // xor %esi,%esi; mov $35,%eax; syscall; ret
    code
}

/// Code of a program: `rounds` times a loop and a nap of 2 ms in one function, then the execution of its first argument
/// with the arguments after it, or its end. The function begins at the returned offset.
fn program(rounds: u32) -> (Vec<u8>, usize) {
    let mut code = vec![0x48, 0x89, 0xe3]; // mov %rsp,%rbx
    code.extend([0xe8, 41, 0, 0, 0]); // call the function
    code.extend([0x48, 0x8b, 0x7b, 0x10]); // mov 16(%rbx),%rdi: the first argument
    code.extend([0x48, 0x85, 0xff, 0x74, 13]); // test %rdi,%rdi; jz the end
    code.extend([0x48, 0x8d, 0x73, 0x10, 0x31, 0xd2]); // lea 16(%rbx),%rsi; xor %edx,%edx
    code.extend([0xb8, 59, 0, 0, 0, 0x0f, 0x05]); // execve
    code.extend([0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05]); // exit_group(0)
    code.resize(49, 0xcc);
    let function = code.len();
    code.extend([0x55, 0x48, 0x89, 0xe5]); // push %rbp; mov %rsp,%rbp
    code.extend([0x41, 0xbc]); // mov $rounds,%r12d
    code.extend(rounds.to_le_bytes());
    let round = code.len();
    code.extend([0xb9, 0x40, 0x42, 0x0f, 0x00, 0xff, 0xc9, 0x75, 0xfc]); // mov $1000000,%ecx; dec %ecx; jnz
    code.extend([0x68, 0x80, 0x84, 0x1e, 0x00, 0x6a, 0x00]); // 2000000 ns, 0 s on the stack
    code.extend([0x48, 0x89, 0xe7, 0x31, 0xf6, 0xb8, 35, 0, 0, 0, 0x0f, 0x05]); // nanosleep
    code.extend([0x48, 0x83, 0xc4, 0x10, 0x41, 0xff, 0xcc, 0x75]); // add $16,%rsp; dec %r12d; jnz the round
    code.push((round as isize - code.len() as isize - 1) as u8);
    code.extend([0x5d, 0xc3]); // pop %rbp; ret
    (code, function)
}

/// Code of a program that maps the page at `CODE` of its file descriptor 3 and calls it for ever, from one function.
fn caller() -> (Vec<u8>, usize) {
    let mut code = vec![0xe8, 0, 0, 0, 0]; // call the function, which is next and does not return
    let function = code.len();
    code.extend([0x55, 0x48, 0x89, 0xe5]); // push %rbp; mov %rsp,%rbp
    code.extend([0xb8, 9, 0, 0, 0, 0x31, 0xff, 0xbe, 0, 0x10, 0, 0]); // mmap(NULL, 4096,
    code.extend([0xba, 5, 0, 0, 0, 0x41, 0xba, 2, 0, 0, 0]); // PROT_READ | PROT_EXEC, MAP_PRIVATE,
    code.extend([0x41, 0xb8, 3, 0, 0, 0, 0x41, 0xb9, 0, 0x10, 0, 0, 0x0f, 0x05]); // 3, 0x1000)
    code.extend([0x49, 0x89, 0xc5]); // mov %rax,%r13
    let round = code.len();
    code.extend([0xbf, 0x40, 0x42, 0x0f, 0x00, 0x41, 0xff, 0xd5]); // mov $1000000,%edi; call *%r13
    code.extend([0x68, 0x80, 0x84, 0x1e, 0x00, 0x6a, 0x00]); // 2000000 ns, 0 s on the stack
    code.extend([0x48, 0x89, 0xe7, 0x31, 0xf6, 0xb8, 35, 0, 0, 0, 0x0f, 0x05]); // nanosleep
    code.extend([0x48, 0x83, 0xc4, 0x10, 0xeb]); // add $16,%rsp; jmp the round
    code.push((round as isize - code.len() as isize - 1) as u8);
    (code, function)
}

/// A static program at fixed addresses, the same for every name: its function is called `of_NAME`.
pub fn executable(name: &str, rounds: u32) -> Vec<u8> {
    link(name, program(rounds))
}

/// A static program that calls code in its file descriptor 3; its function is called `of_NAME`.
pub fn caller_of_file(name: &str) -> Vec<u8> {
    link(name, caller())
}

fn link(name: &str, (code, function): (Vec<u8>, usize)) -> Vec<u8> {
    let mut image = Image::new(&code, &format!("of_{name}"), function, BASE);
    image.put16(16, 2); // ET_EXEC
    image.put64(24, BASE + CODE as u64); // e_entry
    image.bytes
}

/// A library with the leaf code and the symbol `name` for it.
pub fn library(name: &str) -> Vec<u8> {
    Image::new(&leaf(), name, 0, 0).bytes
}

struct Image {
    bytes: Vec<u8>,
    /// Offsets of the symbol table, the strings and the section headers.
    symbols: usize,
    sections: usize,
}

impl Image {
    fn new(code: &[u8], symbol: &str, at: usize, base: u64) -> Self {
        let mut bytes = vec![0; TABLES];
        bytes[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        bytes[CODE..CODE + code.len()].copy_from_slice(code);
        let mut image = Image { bytes, symbols: TABLES, sections: 0 };
        let names = b"\0.text\0.symtab\0.strtab\0.shstrtab\0.debug_info\0.gnu_debuglink\0.note.gnu.build-id\0";
        let strings = TABLES + 2 * SYMBOL;
        image.bytes.resize(strings, 0);
        let entry = TABLES + SYMBOL;
        image.bytes.push(0);
        image.bytes.extend(symbol.as_bytes());
        image.bytes.push(0);
        let end_of_strings = image.bytes.len();
        image.bytes.extend(names);
        let end_of_names = image.bytes.len();
        image.bytes.resize(image.bytes.len().next_multiple_of(8), 0);
        image.put32(entry, 1); // st_name
        image.bytes[entry + 4] = 0x12; // STB_GLOBAL, STT_FUNC
        image.put16(entry + 6, 1); // st_shndx
        image.put64(entry + 8, base + (CODE + at) as u64);
        image.put64(entry + 16, (code.len() - at) as u64);
        image.sections = image.bytes.len();
        let (text, end) = (base + CODE as u64, code.len());
        image.section([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        image.section([1, 1, 6, text, CODE as u64, end as u64, 0, 0, 16, 0]);
        image.section([7, 2, 0, 0, TABLES as u64, 2 * SYMBOL as u64, 3, 1, 8, SYMBOL as u64]);
        image.section([15, 3, 0, 0, strings as u64, (end_of_strings - strings) as u64, 0, 0, 1, 0]);
        image.section([23, 3, 0, 0, end_of_strings as u64, (end_of_names - end_of_strings) as u64, 0, 0, 1, 0]);
        image.put16(16, 3); // ET_DYN
        image.put16(18, 62); // EM_X86_64
        image.put32(20, 1);
        image.put64(32, HEADER as u64); // e_phoff
        image.put64(40, image.sections as u64);
        for (at, value) in [(52, HEADER), (54, SEGMENT), (56, 1), (58, SECTION), (60, 5), (62, 4)] {
            image.put16(at, value as u16);
        }
        image.put32(HEADER, 1); // PT_LOAD
        image.put32(HEADER + 4, 5); // readable, executable
        image.put64(HEADER + 16, base);
        image.put64(HEADER + 24, base);
        image.put64(HEADER + 32, TABLES as u64);
        image.put64(HEADER + 40, TABLES as u64);
        image.put64(HEADER + 48, 0x1000);
        image
    }

    /// Name, type, flags, address, offset, size, link, info, alignment, entry size.
    fn section(&mut self, [name, kind, flags, addr, offset, size, link, info, align, entry]: [u64; 10]) {
        let at = self.bytes.len();
        self.bytes.resize(at + SECTION, 0);
        for (place, value) in [(0, name), (4, kind), (40, link), (44, info)] {
            self.put32(at + place, value as u32);
        }
        for (place, value) in [(8, flags), (16, addr), (24, offset), (32, size), (48, align), (56, entry)] {
            self.put64(at + place, value);
        }
    }

    /// Adds a section with `content`, whose name is at `name` in the table of names.
    fn add(&mut self, name: u64, kind: u64, flags: u64, content: &[u8]) {
        let count = (self.bytes.len() - self.sections) / SECTION;
        let headers = self.bytes.split_off(self.sections);
        let offset = self.bytes.len();
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.sections = self.bytes.len();
        self.bytes.extend(headers);
        self.section([name, kind, flags, 0, offset as u64, content.len() as u64, 0, 0, 4, 0]);
        self.put64(40, self.sections as u64);
        self.put16(60, (count + 1) as u16);
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn put64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// The kinds of lies, for the log.
pub const LIES: &[&str] = &[
    "section-count",
    "section-offset",
    "symbol-table-size",
    "symbol-entry-size",
    "link-cycle",
    "name-out-of-range",
    "many-symbols",
    "odd-names",
    "endless-name",
    "segment-count",
    "segments-overlap",
    "compressed-section",
    "debug-link",
    "note-sizes",
    "other-class",
    "other-endian",
    "flipped-bytes",
    "cut-short",
    "sparse-table",
    "text-size",
];

/// A library with the leaf code at `CODE`, and something wrong in its headers. The second value is the length that the file
/// is to have, if it is more than what is returned.
pub fn lying(lie: &str, rng: &mut Rng, decoy: &Path) -> (Vec<u8>, Option<u64>) {
    let mut image = Image::new(&leaf(), "lying", 0, 0);
    let (symtab, strtab) = (image.sections + 2 * SECTION, image.sections + 3 * SECTION);
    let huge = rng.pick(&[u64::MAX, u64::MAX - 63, 1 << 62, 1 << 40, 1 << 32, i64::MAX as u64]);
    let mut length = None;
    match lie {
        "section-count" => {
            image.put16(60, rng.pick(&[0xffff, 0xff00, 0]));
            image.put64(image.sections + 32, huge); // the count, if e_shnum is 0
            image.put16(62, rng.pick(&[0xffff, 4]));
        }
        "section-offset" => image.put64(40, rng.pick(&[huge, 1, 0, image.bytes.len() as u64 - 1])),
        "symbol-table-size" => image.put64(symtab + 32, huge),
        "symbol-entry-size" => image.put64(symtab + 56, rng.pick(&[0, 1, 23, huge])),
        "link-cycle" => {
            image.put32(symtab + 40, rng.pick(&[2, 0, 0xffff_ffff, 1]));
            image.put32(strtab + 40, 3);
        }
        "name-out-of-range" => {
            image.put32(image.symbols + SYMBOL, rng.pick(&[u32::MAX, 0x7fff_ffff, 1000]));
            image.put64(strtab + 32, rng.pick(&[0, 1, huge]));
        }
        "many-symbols" => {
            let symbol = image.bytes[image.symbols + SYMBOL..image.symbols + 2 * SYMBOL].to_vec();
            let offset = image.bytes.len() as u64;
            let count = rng.range(10_000, 300_000);
            for i in 0..count {
                let mut symbol = symbol.clone();
                symbol[8..16].copy_from_slice(&(i % 0x2000).to_le_bytes());
                symbol[16..24].copy_from_slice(&rng.pick(&[0, 1, 0x2000, u64::MAX]).to_le_bytes());
                image.bytes.extend(symbol);
            }
            image.put64(symtab + 24, offset);
            image.put64(symtab + 32, count * SYMBOL as u64);
        }
        "odd-names" => {
            let odd: [&[u8]; 5] =
                [b"a\nb;c 1\n", b"\x1b]0;x\x07\x1b[2J", b"\xff\xfe\x80", b"_ZN", "\u{202e}\u{2028}".as_bytes()];
            return (Image::new(&leaf(), &String::from_utf8_lossy(rng.pick(&odd)), 0, 0).bytes, None);
        }
        "endless-name" => {
            let name = "_ZN".to_owned() + &"3fooI".repeat(rng.range(1, 60_000) as usize);
            return (Image::new(&leaf(), &name, 0, 0).bytes, None);
        }
        "segment-count" => {
            image.put16(56, 0xffff);
            image.put32(image.sections + 44, rng.pick(&[u32::MAX, 0, 1 << 20]));
        }
        "segments-overlap" => {
            image.put64(HEADER + 8, rng.pick(&[huge, 0x1000, 8]));
            image.put64(HEADER + 16, rng.pick(&[huge, 0]));
            image.put64(HEADER + 32, huge);
            image.put64(HEADER + 40, rng.pick(&[huge, 0, 1]));
            image.put64(HEADER + 48, rng.pick(&[0, 3, huge]));
        }
        "compressed-section" => {
            let mut content = Vec::new();
            content.extend(rng.pick(&[1u32, 2, 77]).to_le_bytes()); // zlib, zstd, unknown
            content.extend([0; 4]);
            content.extend(huge.to_le_bytes());
            content.extend(1u64.to_le_bytes());
            content.extend(rng.bytes(100));
            image.add(33, 1, 0x800, &content);
        }
        "debug-link" => {
            let decoy = decoy.to_str().unwrap_or_default();
            let up = "../".repeat(20) + decoy.trim_start_matches('/');
            let mut content = rng.pick(&[decoy, up.as_str()]).as_bytes().to_vec();
            content.resize((content.len() + 1).next_multiple_of(4), 0);
            content.extend([0; 4]);
            image.add(45, 1, 0, &content);
        }
        "note-sizes" => {
            let mut content = rng.pick(&[4, u32::MAX, 0, 3]).to_le_bytes().to_vec();
            content.extend(rng.pick(&[20, u32::MAX, 0, 1 << 20]).to_le_bytes());
            content.extend(3u32.to_le_bytes());
            content.extend(b"GNU\0../../../etc/shadow\0");
            image.add(60, 7, 2, &content);
        }
        "other-class" => image.bytes[4] = rng.pick(&[0, 1, 3, 255]),
        "other-endian" => image.bytes[5] = rng.pick(&[0, 2, 255]),
        "flipped-bytes" => {
            for _ in 0..rng.range(1, 64) {
                let tables = image.bytes.len() - TABLES;
                let at = if rng.once_in(2) { rng.index(HEADER + SEGMENT) } else { TABLES + rng.index(tables) };
                image.bytes[at] = rng.next() as u8;
            }
        }
        "cut-short" => {
            let at = rng.range(CODE as u64 + 100, image.bytes.len() as u64);
            image.bytes.truncate(at as usize);
        }
        "sparse-table" => {
            image.put64(symtab + 24, 1 << 20);
            image.put64(symtab + 32, 1 << 39);
            image.put64(strtab + 24, 1 << 39);
            image.put64(strtab + 32, 1 << 39);
            length = Some(1 << 40);
        }
        "text-size" => {
            image.put64(image.symbols + SYMBOL + 8, rng.pick(&[huge, 0]));
            image.put64(image.symbols + SYMBOL + 16, huge);
        }
        other => panic!("no such lie: {other}"),
    }
    (image.bytes, length)
}
