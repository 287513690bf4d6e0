//! For tests: what the headers of `bpf/include` and the types of the objects say, to be compared with constants that the
//! code has of its own.

use libbpf_rs::ObjectBuilder;
use libbpf_rs::btf::BtfType;
use libbpf_rs::btf::types::{MemberAttr, Struct};

use super::Catalog;
use super::btf::{object_btf, size_of, text};

const HEADERS: &[&str] = &[
    include_str!("../../bpf/include/aggregate.h"),
    include_str!("../../bpf/include/ebpf_run.h"),
    include_str!("../../bpf/include/filter.h"),
    include_str!("../../bpf/include/kernel_types.h"),
    include_str!("../../bpf/include/stack.h"),
];

/// The number that `#define name` stands for.
pub(crate) fn defined(name: &str) -> u64 {
    let start = format!("#define {name} ");
    let line = HEADERS.iter().flat_map(|header| header.lines()).find_map(|line| line.strip_prefix(&start));
    let line = line.unwrap_or_else(|| panic!("no header defines {name}"));
    let number = line.split_whitespace().next().unwrap_or_default().trim_end_matches("ULL");
    number.parse().unwrap_or_else(|error| panic!("{name}: {number}: {error}"))
}

/// The value of the enumerator `name`, of an enum that is on one line.
pub(crate) fn enumerator(name: &str) -> u64 {
    for line in HEADERS.iter().flat_map(|header| header.lines()).filter(|line| line.starts_with("enum ")) {
        let Some((_, list)) = line.trim_end_matches("};").split_once('{') else { continue };
        let mut next = 0;
        for part in list.split(',') {
            let (found, value) = part.split_once('=').map_or((part, None), |(found, value)| (found, Some(value)));
            let value = value.map_or(next, |value| value.trim().parse().expect("a number"));
            if found.trim() == name {
                return value;
            }
            next = value + 1;
        }
    }
    panic!("no header has the enumerator {name}")
}

/// Whether a header makes a name of another one and this suffix or prefix, such as `insert_failures_##map`.
pub(crate) fn makes_names(pattern: &str) -> bool {
    HEADERS.iter().any(|header| header.contains(pattern))
}

/// The members of a struct of a program's object: name, offset and size in bytes.
pub(crate) fn members(program: &str, name: &str) -> Vec<(String, usize, usize)> {
    let program = Catalog::embedded().program(program).expect("it is there").expect("it is sound");
    let open = ObjectBuilder::default().open_memory(program.object).expect("it can be opened");
    let btf = object_btf(&open).expect("it has BTF");
    let found: Struct<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("{} has no struct {name}", program.name));
    found
        .iter()
        .map(|member| {
            let MemberAttr::Normal { offset } = member.attr else { panic!("a bitfield") };
            let ty: BtfType<'_> = btf.type_by_id(member.ty).expect("a type");
            let size = size_of(ty.skip_mods_and_typedefs()).expect("a size");
            (text(member.name), offset as usize / 8, size)
        })
        .collect()
}

/// [`members`] with borrowed names.
#[track_caller]
pub(crate) fn expect_members(program: &str, name: &str, expected: &[(&str, usize, usize)]) {
    let found = members(program, name);
    let found: Vec<_> = found.iter().map(|(name, offset, size)| (name.as_str(), *offset, *size)).collect();
    assert_eq!(found, expected, "struct {name}");
}
