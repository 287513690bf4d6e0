//! Values of configs as bytes, and values that do not fit.

use super::*;
use crate::catalog::ListShape;
use crate::plan::decode::decode;

fn var(kind: ElementKind, size: usize, max: Option<usize>) -> Variable {
    let list = max.map(|max| ListShape { values: 8, max });
    let whole = max.map_or(size, |max| 8 + (size * max).next_multiple_of(8));
    let (name, symbol, doc) = ("x".into(), "x".into(), "x".into());
    let element = Element { size, kind };
    Variable { name, symbol, doc, offset: 0, size: whole, list, element, followed: None }
}

fn encoded(variable: &Variable, yaml: &str) -> Result<Encoded, ValueProblem> {
    let encoded = super::variable(variable, &serde_yaml::from_str(yaml).expect("YAML"));
    encoded.map_err(|mut problems| problems.remove(0))
}

fn set(variable: &Variable, yaml: &str) -> Result<Vec<u8>, ValueProblem> {
    encoded(variable, yaml).map(|encoded| encoded.bytes)
}

#[test]
fn one_value_and_several_take_the_bytes_that_c_expects() {
    let pid = var(ElementKind::Uint, 4, Some(3));
    assert_eq!(set(&pid, "7").unwrap(), [1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(set(&pid, "[7, 0]").unwrap()[..16], [2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(set(&pid, "[1, 2, 3, 4]").unwrap_err().index, Some(3));
    assert_eq!(set(&pid, "[]").unwrap_err().index, None);
    assert_eq!(set(&pid, "[1, -2]").unwrap_err().index, Some(1));
    assert!(set(&pid, "4294967296").unwrap_err().message.contains("32 bits"));
    let min = var(ElementKind::Duration, 8, None);
    assert_eq!(set(&min, "1ms").unwrap(), 1_000_000u64.to_ne_bytes());
    assert!(set(&min, "1").unwrap_err().message.contains("`1ms`"));
    let failed = var(ElementKind::Bool, 1, Some(1));
    assert_eq!(set(&failed, "false").unwrap()[..9], [1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let int = var(ElementKind::Int, 2, None);
    assert_eq!(set(&int, "-2").unwrap(), (-2i16).to_ne_bytes());
    assert!(set(&int, "40000").is_err());
}

#[test]
fn bytes_are_shown_as_a_config_would_write_them() {
    let back = |variable: &Variable, yaml| decode(variable, &set(variable, yaml).expect("it fits")).join(", ");
    assert_eq!(back(&var(ElementKind::Uint, 4, Some(3)), "[7, 0]"), "7, 0");
    assert_eq!(back(&var(ElementKind::Duration, 8, None), "1.5ms"), "1500us");
    assert_eq!(back(&var(ElementKind::Bytes, 8, None), "64KiB"), "64KiB");
    assert_eq!(back(&var(ElementKind::Bool, 1, Some(1)), "false"), "false");
    assert_eq!(back(&var(ElementKind::Int, 2, None), "-2"), "-2");
    assert_eq!(back(&var(ElementKind::Text, 16, Some(2)), "[dd, fifteen-letters]"), "dd, fifteen-letters");
    assert_eq!(back(&var(ElementKind::Comm, 32, Some(2)), "{not: [dd, 'kworker*']}"), "not dd, not kworker*");
    assert_eq!(back(&var(ElementKind::Disk, 40, Some(2)), "[vda, '254:1']"), "vda, 254:1");
}

#[test]
fn text_must_fit_with_its_nul() {
    let comm = var(ElementKind::Text, 16, Some(2));
    assert_eq!(&set(&comm, "dd").unwrap()[8..12], b"dd\0\0");
    assert!(set(&comm, "fifteen-letters").is_ok());
    let says = |yaml: &str| set(&comm, yaml).unwrap_err().message;
    assert!(says("sixteen-letters!").contains("write `sixteen-letters`"));
    assert!(says("12").contains("put quotes around it"));
    assert!(says("''").contains("empty"));
}

/// The same in every filter of texts: what was copied from the output, and the text as it is written.
#[test]
fn text_that_was_copied_means_the_bytes_that_it_was_written_for() {
    let comm = var(ElementKind::Comm, 32, Some(3));
    let both = set(&comm, r"'a\xff*'").unwrap();
    assert_eq!(both[..4], 2u32.to_ne_bytes());
    assert_eq!((&both[8..13], &both[24..30]), (&br"a\xff"[..], &[255, 255, 255, 255, 255, 0][..]));
    assert_eq!((&both[40..43], &both[56..59]), (&b"a\xff\0"[..], &[255, 255, 0][..]));
    // 45 bytes as they are written, and 15 that are meant
    let whole = set(&comm, &"\u{efff}".repeat(15)).unwrap();
    assert_eq!((&whole[..4], &whole[8..24]), (&1u32.to_ne_bytes()[..], &[&[0xff; 15][..], &[0]].concat()[..]));
    assert!(set(&comm, &"\u{efff}".repeat(16)).is_err());
    let path = var(ElementKind::Text, 64, Some(3));
    let turned = set(&path, "{not: \"/x/\u{efff}\"}").unwrap();
    assert_eq!((&turned[..8], &turned[72..77]), (&[2, 0, 0, 0, 1, 0, 0, 0][..], &b"/x/\xff\0"[..]));
    assert_eq!(set(&path, r"'/dev-disk\x2dby'").unwrap()[..4], 1u32.to_ne_bytes(), "systemd's escapes are text");
    let full = set(&path, r"['/a\n', '/b\n']").unwrap_err();
    assert!(full.message.starts_with("4 values, and at most 3 are possible"), "{}", full.message);
    let disk = var(ElementKind::Disk, 40, Some(4));
    assert_eq!(&set(&disk, "x\u{efff}").unwrap()[48..51], b"x\xff\0");
    assert_eq!(decode(&path, &set(&path, "\"/x/\u{ef80}\"").unwrap()).len(), 2);
}

#[test]
fn a_filter_can_be_turned_round() {
    let pid = var(ElementKind::Uint, 4, Some(3));
    assert_eq!(set(&pid, "{not: 7}").unwrap()[..12], [1, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]);
    assert_eq!(set(&pid, "{not: [7, 8]}").unwrap()[..8], [2, 0, 0, 0, 1, 0, 0, 0]);
    let error = set(&pid, "{not: [7, -8]}").unwrap_err();
    assert_eq!((error.negated, error.index), (true, Some(1)));
    assert!(set(&pid, "{nto: 7}").unwrap_err().message.contains("{not: …}"));
    let min = var(ElementKind::Duration, 8, None);
    assert!(set(&min, "{not: 1ms}").unwrap_err().message.contains("a limit can't be negated"));
}

#[test]
fn a_command_is_compared_whole_or_by_its_beginning() {
    let comm = var(ElementKind::Comm, 32, Some(2));
    let whole = set(&comm, "dd").unwrap();
    assert_eq!((&whole[8..12], &whole[24..40]), (&b"dd\0\0"[..], &[0xff; 16][..]));
    let start = set(&comm, "kworker*").unwrap();
    assert_eq!(&start[8..17], b"kworker\0\0");
    assert_eq!((&start[24..31], &start[31..40]), (&[0xff; 7][..], &[0; 9][..]));
    assert!(set(&comm, "'*'").unwrap_err().message.contains("every event"));
    assert!(set(&comm, "sixteen-letters!*").is_err());
    let says = |yaml: &str| set(&comm, yaml).unwrap_err().message;
    assert!(says("fifteen-lettér!").contains("write `fifteen-lettér`"));
    assert!(says("fourteen-letteé").contains("write `fourteen-lette*`"), "the kernel cuts within the last letter");
    for shown in ["kworker/0:4-eve", "kworker/0:4-events", "kworker/0:4+events", "kworker/0:4-eve*"] {
        assert!(says(shown).ends_with("write `kworker/0:4`"), "{shown}");
    }
    assert!(set(&comm, "kworker/0:4").is_ok() && set(&comm, "kworker/R-event").is_ok());
}

#[test]
fn a_disk_has_a_name_or_numbers() {
    let disk = var(ElementKind::Disk, 40, Some(4));
    assert!(set(&disk, "/dev/vda").unwrap_err().message.contains("`vda`"));
    assert_eq!(&set(&disk, "vda").unwrap()[8..12], b"vda\0");
    for either in ["cciss/c0d0", "cciss!c0d0"] {
        assert_eq!(&set(&disk, either).unwrap()[8..19], b"cciss/c0d0\0");
    }
    assert!(set(&disk, "/dev/cciss/c0d0").unwrap_err().message.contains("`cciss/c0d0`"));
    for link in ["/dev/mapper/vg-root", "mapper/vg-root", "/dev/disk/by-id/x"] {
        assert!(set(&disk, link).unwrap_err().message.contains("`major:minor`"), "{link}");
    }
    let numbers = set(&disk, "254:16").unwrap();
    assert_eq!((numbers[8], &numbers[40..48]), (0, &[254, 0, 0, 0, 16, 0, 0, 0][..]));
    assert!(set(&disk, "254:x").unwrap_err().message.contains("major:minor"));
}

#[test]
fn names_that_only_the_machine_knows_are_left_for_it() {
    let uid = var(ElementKind::User, 4, Some(4));
    let both = encoded(&uid, "[0, postgres]").unwrap();
    assert_eq!(both.lookups, [(12, LookupName::User("postgres".into()))]);
    assert!(encoded(&uid, "-1").is_err());
    let group = var(ElementKind::Cgroup, 16, Some(4));
    let one = |yaml| encoded(&group, yaml).unwrap().lookups[0].1.clone();
    assert_eq!(one("system.slice/"), LookupName::Cgroup("/system.slice".into()));
    assert_eq!(one("/sys/fs/cgroup/a/b"), LookupName::Cgroup("/a/b".into()));
    assert!(encoded(&group, "/a/../b").is_err());
    let unit = var(ElementKind::Unit, 16, Some(4));
    assert_eq!(encoded(&unit, "nginx").unwrap().lookups, [(8, LookupName::Unit("nginx.service".into()))]);
    assert_eq!(encoded(&unit, "user.slice").unwrap().lookups, [(8, LookupName::Unit("user.slice".into()))]);
    assert!(encoded(&unit, "a/b").unwrap_err().message.contains("cgroup"));
}

#[test]
fn names_and_disks_are_laid_out_as_in_the_header() {
    use crate::catalog::c_api::expect_members;

    expect_members("execsnoop", "runner_comm", &[("text", 0, 16), ("mask", 16, 16)]);
    expect_members("biosnoop", "runner_disk", &[("name", 0, 32), ("major", 32, 4), ("minor", 36, 4)]);
}
