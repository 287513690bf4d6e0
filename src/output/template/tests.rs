//! The two ways of rendering agree, and problems are found before anything runs.

use super::*;
use crate::event::{FieldKind, ValueNames};

fn field(name: &str, kind: FieldKind, offset: usize, size: usize) -> crate::event::Field {
    crate::event::Field { name: name.into(), doc: "x".into(), unit: None, errno: false, kind, offset, size }
}

fn layout() -> Arc<Layout> {
    let names = |list: &[(u64, &str)]| {
        Arc::new(ValueNames::from_c(list.iter().map(|(value, name)| (*value, name.to_string())).collect()))
    };
    Arc::new(Layout {
        doc: "A test".into(),
        fields: vec![
            field("ts", FieldKind::Uint, 0, 8),
            field("lat", FieldKind::Uint, 8, 8),
            field("ret", FieldKind::Int, 16, 8),
            field("ok", FieldKind::Bool, 24, 1),
            field("op", FieldKind::Enum(names(&[(0, "OP_READ"), (1, "OP_WRITE")])), 28, 4),
            field("flags", FieldKind::Bits(names(&[(1, "F_SYNC"), (2, "F_META")])), 32, 4),
            field("comm", FieldKind::Text, 36, 16),
            field("argv", FieldKind::List { tail: 60 }, 52, 8),
        ],
        size: 92,
        min_size: 60,
    })
}

fn raw(lat: u64, ret: i64, ok: bool, op: u32, flags: u32, comm: &[u8], argv: &[u8]) -> Vec<u8> {
    let mut raw = [7u64.to_ne_bytes(), lat.to_ne_bytes(), ret.to_ne_bytes()].concat();
    raw.extend([ok.into(), 0, 0, 0]);
    raw.extend([op.to_ne_bytes(), flags.to_ne_bytes()].concat());
    raw.extend(comm);
    raw.resize(52, 0);
    raw.extend([(argv.len() as u32).to_ne_bytes(), 0u32.to_ne_bytes()].concat());
    raw.extend(argv);
    raw
}

fn records() -> Vec<Vec<u8>> {
    vec![
        raw(0, 0, false, 0, 0, b"", b""),
        raw(u64::MAX, i64::MIN, true, 1, 3, b"fifteen chars!!", b"/bin/echo\0a b\0it's\0"),
        raw(1_234_567, -2, true, 9, 8 | 1, b"\x1b[31m\xff\n", b"x\0\xff\n\0\0"),
        raw(999_999, 42, false, 1, 2, "日本語".as_bytes(), b"a\0"),
        raw(1 << 53, 1 << 62, true, 0, 4, b"q\"uo\\te'", b"--flag=\"x\"\0"),
    ]
}

#[test]
fn fast_path_and_minijinja_write_the_same_bytes() {
    let (layout, globals) = (layout(), Arc::default());
    let templates = [
        "{{ time }} {{ ts }} {{ probe }} {{ lat }} {{ ret }} {{ ok }} {{ op }} {{ flags }} {{ comm }} {{ argv }}",
        "{{time|clock}} {{ time | date('%Y-%m-%d') }} {{ time | date(\"%H\", 'local') }}",
        "{{ lat | duration }} {{ lat | bytes }} {{ ret | errno }} {{ ret | duration }}",
        "{{ comm | left(8) }}|{{ comm | right(8) }}|{{ argv | left(12) }}|{{ flags | right(9) }}|{{ op | left(3) }}",
        "{{ lat | duration | right(9) }}{{ ret | errno | left(12) | right(20) }}{{ ok | left(6) }}{{ lat | right(3) }}",
        "  {{- ts -}}  x {# note #} {{ lat }}\n",
        "{% raw %}{{ ts }}{% endraw %} {{ ts }}\n\n",
        "no fields",
        "",
    ];
    for source in templates {
        assert_eq!(check(source, &layout), [], "{source}");
        for mode in [TextMode::Shown, TextMode::Lossless] {
            let template = || RecordTemplate::new(source, &layout, "p", &globals, mode).expect("it compiles");
            let (mut fast, mut slow) = (template(), template().without_fast_path());
            assert!(fast.is_fast() && !slow.is_fast(), "{source}");
            for raw in records() {
                let record = Record { layout: &layout, raw: &raw, time: 1_763_704_800_123_456_789, probe: "p" };
                let (mut a, mut b) = (String::new(), String::new());
                fast.render(&record, &mut a).expect("it renders");
                slow.render(&record, &mut b).expect("it renders");
                assert_eq!(a, b, "{source}");
            }
        }
    }
}

#[test]
fn logic_goes_through_minijinja() {
    let (layout, globals) = (layout(), Arc::default());
    let shown = |source: &str, raw: &[u8]| {
        assert_eq!(check(source, &layout), [], "{source}");
        let mut template = RecordTemplate::new(source, &layout, "p", &globals, TextMode::Shown).expect("it compiles");
        assert!(!template.is_fast());
        let mut out = String::new();
        template.render(&Record { layout: &layout, raw, time: 0, probe: "p" }, &mut out).expect("it renders");
        out
    };
    let raw = &records()[1];
    assert_eq!(shown("{{ 1500 / 1e3 }} {{ (lat // 2) | bytes }}", raw), "1.5 8EiB");
    assert_eq!(shown("{% if op == 'write' %}W{% else %}R{% endif %}", raw), "W");
    assert_eq!(shown("{{ argv[1] }};{{ argv | length }};{{ argv | join(',') }}", raw), "a b;3;/bin/echo,a b,it's");
    assert_eq!(shown("{% for a in argv %}<{{ a }}>{% endfor %}", raw), "</bin/echo><a b><it's>");
    assert_eq!(shown("{{ argv[9] }}{{ ret > 0 }}", raw), "false");
    assert_eq!(shown("{{ 10 / (lat - lat) if false else 'x' }}", raw), "x");
}

#[test]
fn problems_have_places_and_suggestions() {
    let layout = layout();
    let only = |source: &str| {
        let mut problems = check(source, &layout);
        assert_eq!(problems.len(), 1, "{source}: {problems:?}");
        let problem = problems.remove(0);
        (problem.range.map(|range| source[range].to_owned()), problem.message)
    };
    let (at, says) = only("{{ time }} {{ com }}");
    assert_eq!(at.as_deref(), Some("com"));
    assert!(says.starts_with("`com` is not a field of this program, did you mean `comm`?"), "{says}");
    let (at, says) = only("{% if false %}{{ lat | duratoin }}{% endif %}");
    assert_eq!(at.as_deref(), Some("duratoin"));
    assert!(says.contains("did you mean `duration`?"), "{says}");
    assert!(only("{{ ts | clock }}").1.contains("`ts` is a monotonic counter"));
    assert!(only("{{ comm | left }}").1.contains("`left` needs a width"));
    assert!(only("{{ time | date('%!') }}").1.contains("not a date format"));
    assert!(only("{{ range(10) }}").1.contains("no functions"));
    assert!(only("{{ comm").1.contains("invalid template"));
    assert!(only("{% include 'x' %}").1.contains("invalid template"));
    assert!(only("{{ lat is nosuch }}").1.contains("not a template test"));
    assert_eq!(check("{{ name }} {{ labels.team }} {{ start | date('%F') }} {{ lat / ts }}", &layout), []);
    assert_eq!(check_path("{{ name }}-{{ start | date('%Y') }}.csv"), []);
    assert!(check_path("{{ comm }}")[0].message.contains("not a name that a path can use"));
}

#[test]
fn a_template_without_end_is_stopped() {
    let (layout, globals) = (layout(), Arc::default());
    let nested = "{% for a in comm %}{% for b in comm %}{% for c in comm %}{% for d in comm %}{% for e in comm %}x\
                  {% endfor %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}";
    let mut template = RecordTemplate::new(nested, &layout, "p", &globals, TextMode::Shown).expect("it compiles");
    let mut out = String::from("before");
    let raw = &records()[1];
    let result = template.render(&Record { layout: &layout, raw, time: 0, probe: "p" }, &mut out);
    assert!(result.is_err());
    assert_eq!(out, "before");
}

/// What a template makes is bounded, whether it is written or not: none of these may take memory to speak of.
#[test]
fn a_template_that_would_fill_the_memory_is_refused() {
    let layout = layout();
    let refused = |source: &str, says: &str| {
        let problems = check(source, &layout);
        assert!(problems.iter().any(|problem| problem.message.contains(says)), "{source}: {problems:?}");
    };
    refused("{{ 'x' * 99999999 }}", "`*` repeats text");
    refused("{{ (comm * lat) | length }}", "`*` repeats text");
    refused("{{ ([1] * 99999999) | length }}", "`*` repeats text");
    refused(&format!("{{% set a = comm %}}{}{{{{ a | length }}}}", "{% set a = a ~ a %}".repeat(40)), "joins values");
    refused(&format!("{{% set a = comm %}}{}", "{% set a %}{{ a }}{{ a }}{% endset %}".repeat(40)), "joins values");
    refused(&format!("{{% set a = comm %}}{}{{{{ a ~ '' }}}}", "{% set a = [a, a] %}".repeat(40)), "joins values");
    refused(&format!("{{% set a = comm %}}{}", "{% set a = a + a %}".repeat(40)), "joins values");
    refused("{% for a in argv recursive %}{{ loop([a ~ a]) }}{% endfor %}", "recursive");
    for fine in
        ["{{ lat * 2 }}", "{{ (comm | length) * lat / 3 * (lat - 1) }}", "{% set a = comm ~ '-' ~ lat %}{{ a }}"]
    {
        assert_eq!(check(fine, &layout), [], "{fine}");
    }
}

/// What can't be seen before is stopped when it happens.
#[test]
fn a_record_has_a_bound() {
    let (layout, globals) = (layout(), Arc::default());
    let raw = &records()[1];
    let grows = format!("{{{{ comm {} | length }}}}", "| replace('', 'xxxxxxxx')".repeat(30));
    let long = format!("{{% for a in comm %}}{{% for b in comm %}}{}{{% endfor %}}{{% endfor %}}", "x".repeat(100_000));
    for source in [grows, long] {
        let mut template = RecordTemplate::new(&source, &layout, "p", &globals, TextMode::Shown).expect("it compiles");
        let mut out = String::new();
        let error = template.render(&Record { layout: &layout, raw, time: 0, probe: "p" }, &mut out);
        assert!(error.as_ref().is_err_and(|words| words.contains("bytes: shorten the template")), "{error:?}");
        assert_eq!(out, "");
    }
}
