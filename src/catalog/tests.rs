//! Every embedded object keeps the contract of `docs/reference/program-api.md`.

use super::*;
use crate::event::FieldKind;

fn all() -> Vec<Arc<Program>> {
    let catalog = Catalog::embedded();
    catalog.names().map(|name| catalog.program(name).expect("it is there").unwrap_or_else(|e| panic!("{e}"))).collect()
}

fn get(name: &str) -> Arc<Program> {
    Catalog::embedded().program(name).expect("it is there").expect("it is sound")
}

#[test]
fn every_program_has_a_config_of_its_own_name() {
    for program in all() {
        let (name, yaml) = configs_of(program.name).into_iter().next().expect("a config uses it");
        assert_eq!(name, program.name, "probes.d/{}.yaml is missing", program.name);
        assert_eq!(programs(yaml).collect::<Vec<_>>(), [name], "it has one probe");
        assert_eq!(program_of(name), Some(name));
    }
    assert_eq!(program_of("weather"), None);
}

#[test]
fn every_program_describes_itself_and_can_be_driven() {
    let programs = all();
    assert!(programs.len() >= 2);
    for program in programs {
        let name = program.name;
        assert!(!program.hooks.is_empty(), "{name} attaches to nothing");
        for internal in ["self", "transport", "wakeup_flags", "wakeup_bytes", "wakeup_band", "wakeup_events"] {
            assert!(
                program.internals.iter().any(|v| v.symbol == format!("runner_{internal}")),
                "{name} lacks {internal}"
            );
        }
        let Some(event) = program.event() else { continue };
        for field in &event.fields {
            assert!(field.offset + field.size <= event.min_size, "{name}.{} lies in the tail", field.name);
            assert!(!["time", "probe"].contains(&field.name.as_str()), "{name}.{} is a common field", field.name);
        }
        assert_eq!(event.size % 8, 0, "{name}: records are counted in words of 8 bytes");
        for hook in &program.hooks {
            if let Some((filter, _)) = &hook.skip_if {
                assert!(program.filter(filter).is_some(), "{name}: SKIP_IF names no filter: {filter}");
            }
        }
    }
}

#[test]
fn fields_filters_and_units_come_from_btf() {
    let program = get("biosnoop");
    let fields: Vec<&str> =
        program.event().expect("it has events").fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(
        fields,
        [
            "ts",
            "pid",
            "comm",
            "device",
            "op",
            "flags",
            "sector",
            "bytes",
            "queued_ns",
            "latency_ns",
            "error",
            "process_comm"
        ]
    );
    let field = |name: &str| {
        &program.event().expect("it has events").fields
            [program.event().expect("it has events").index(name).expect("a field")]
    };
    assert_eq!(field("latency_ns").unit.as_deref(), Some("ns"));
    assert!(field("error").errno);
    assert!(
        matches!(&field("op").kind, FieldKind::Enum(names) if names.name(261).is_some() && names.value("write") == Some(257))
    );
    assert!(matches!(&field("flags").kind, FieldKind::Bits(names) if names.value("sync") == Some(1)));
    assert_eq!((field("comm").size, field("device").size), (16, 32));

    let filter = program.filter("min_latency").expect("the unit is dropped from the name");
    assert_eq!(
        (filter.symbol.as_str(), &filter.element.kind, filter.size),
        ("min_latency_ns", &ElementKind::Duration, 8)
    );
    let device = program.filter("device").expect("a filter");
    assert_eq!((&device.element.kind, device.element.size, device.list.unwrap().max), (&ElementKind::Disk, 40, 4));
    assert_eq!(device.list.unwrap().values % 8, 0, "the C side compares words");
    let names: Vec<&str> = program.filters.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(
        names,
        ["min_latency", "pid", "tid", "uid", "comm", "process_comm", "cgroup", "unit", "device", "op"],
        "internal ones are no filters"
    );
    assert_eq!((program.maps[0].name.as_str(), program.maps[0].refusals % 8), ("inflight", 0));
    assert_eq!(program.maps[0].in_flight.as_deref(), Some("requests under way"));
    assert!(program.maps[0].unseen.is_some_and(|at| at != program.maps[0].refusals));
    let followed: Vec<usize> = program.filters.iter().filter_map(|filter| filter.followed).collect();
    assert!(followed.len() == 2 && followed.iter().all(|at| at % 8 == 0 && *at != program.maps[0].refusals));
    assert!(program.hooks.iter().any(|h| h.section == "tp_btf/block_io_start" && h.optional));
    assert!(program.hooks.iter().any(|h| h.section == "tp_btf/block_rq_issue" && !h.optional));
}

#[test]
fn a_list_or_a_text_of_any_length_lies_in_the_tail() {
    let program = get("opensnoop");
    let path = &program.event().expect("it has events").fields
        [program.event().expect("it has events").index("path").expect("a field")];
    assert_eq!(path.kind, FieldKind::Tail { tail: program.event().expect("it has events").min_size });
    let program = get("execsnoop");
    let fields: Vec<&str> =
        program.event().expect("it has events").fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(fields, ["ts", "pid", "ppid", "uid", "comm", "filename", "file", "argv", "ret", "process_comm"]);
    let argv = &program.event().expect("it has events").fields[7];
    assert_eq!(argv.kind, FieldKind::List { tail: program.event().expect("it has events").min_size });
    assert_eq!(program.event().expect("it has events").size - program.event().expect("it has events").min_size, 4096);
    let names: Vec<&str> = program.filters.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(names, ["pid", "tid", "uid", "comm", "process_comm", "cgroup", "unit", "failed"]);
    let skipped = program.hooks.iter().filter(|hook| hook.skip_if == Some(("failed".into(), "false".into())));
    assert_eq!(skipped.count(), 3);
}

/// Embedded programs, and those of the live tests, which have what no embedded one may have.
fn all_and_those_of_tests() -> Vec<Arc<Program>> {
    let alternatives: &'static [u8] = include_bytes!(concat!(env!("OUT_DIR"), "/alternatives.bpf.o"));
    let nowhere: &'static [u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nowhere.bpf.o"));
    let others = Catalog::from_objects([("alternatives", alternatives), ("nowhere", nowhere)]);
    let mut programs = all();
    programs.extend(others.names().map(|name| others.program(name).expect("it is there").expect("it is sound")));
    programs
}

#[test]
fn alternatives_are_several_ways_and_each_variant_is_one() {
    // Functions that hook the same kind of thing by the same means may be a variant together
    let way = |section: &str| match section.split('/').next().unwrap_or_default() {
        "fentry" | "fexit" => "fentry",
        "kprobe" | "kretprobe" => "kprobe",
        "tp" | "tracepoint" => "tracepoint",
        "raw_tp" | "raw_tracepoint" => "raw_tp",
        "tp_btf" => "tp_btf",
        other => panic!("the runner can't tell whether a kernel has a place for {other}"),
    };
    let mut groups = 0;
    for program in all_and_those_of_tests() {
        let mut variants: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for hook in &program.hooks {
            let Some((group, variant)) = &hook.alternative else { continue };
            assert!(!hook.optional, "{}.{}: OPTIONAL is a choice too", program.name, hook.name);
            let known = variants.entry(group).or_default().entry(variant).or_insert(way(&hook.section));
            assert_eq!(*known, way(&hook.section), "{}: variant {group}/{variant} mixes ways", program.name);
        }
        for (group, variants) in &variants {
            assert!(variants.len() > 1, "{}: group {group} leaves no choice", program.name);
        }
        groups += variants.len();
    }
    assert!(groups >= 3);
}

#[test]
fn every_program_says_what_it_sees_and_what_it_does_not() {
    for program in all() {
        let name = program.name;
        for aspect in program.accuracy.aspects() {
            assert!(!aspect.phrases.is_empty(), "{name}: ACCURACY() has nothing about `{}`", aspect.name);
            for phrase in aspect.phrases {
                assert!(phrase.len() <= 160, "{name}: a phrase, not a paragraph: {phrase}");
                assert!(!phrase.contains('|') && !phrase.ends_with('.'), "{name}: a cell of a table: {phrase}");
            }
        }
        let said: Vec<&str> =
            program.accuracy.aspects().flat_map(|aspect| aspect.phrases).map(String::as_str).collect();
        let says = |word: &str| said.iter().any(|phrase| phrase.contains(&format!("`{word}`")));
        assert_eq!(program.maps.iter().any(|map| map.in_flight.is_some()), says("in_flight"), "{name}: `in_flight`");
        assert_eq!(program.maps.iter().any(|map| map.unseen.is_some()), says("unseen"), "{name}: `unseen`");
        for (_, variant) in program.hooks.iter().filter_map(|hook| hook.alternative.as_ref()) {
            let differs = program.accuracy.phrases("variants");
            assert!(differs.iter().any(|phrase| phrase.contains(&format!("`{variant}`"))), "{name}: {variant}");
        }
    }
}

#[test]
fn perf_events_name_their_sources_and_variables() {
    let profile = get("profile");
    let event = profile.hooks[0].perf_event.as_ref().expect("a perf event runs it");
    let names: Vec<_> = event.sources.iter().map(|source| event.names.name((*source).into())).collect();
    assert_eq!(names, [Some("cycles"), Some("cpu_clock")]);
    assert_eq!(event.names.name(0), Some("auto"), "0 leaves the choice to the program");
    assert!(event.frequency, "its rate has the unit Hz");
    let offset = |name: &str| profile.filter(name).expect("a filter").offset;
    assert_eq!((event.chosen_at, event.rate_at), (offset("event"), offset("frequency")));
    let llcstat = get("llcstat");
    assert!(llcstat.hooks.iter().all(|hook| hook.perf_event.as_ref().is_some_and(|event| !event.frequency)));
}

#[test]
fn an_address_is_sixteen_bytes() {
    let program = get("tcpconnect");
    let event = program.event().expect("it has events");
    let kinds: Vec<(&str, &FieldKind, usize)> =
        event.fields.iter().map(|f| (f.name.as_str(), &f.kind, f.size)).collect();
    assert!(
        kinds.contains(&("saddr", &FieldKind::Ip, 16)) && kinds.contains(&("daddr", &FieldKind::Ip, 16)),
        "{kinds:?}"
    );
}

#[test]
fn an_object_that_is_none_is_an_error() {
    let catalog = Catalog::from_objects([("bad", &b"not an object"[..])]);
    let error = catalog.program("bad").expect("it is listed").expect_err("it is no object");
    assert!(error.message.contains("program bad"), "{error}");
    assert!(catalog.program("other").is_none());
}

#[test]
fn a_histogram_ends_with_its_sum_and_its_largest_value() {
    let slots = 8 * c_api::defined("HIST_SLOTS") as usize;
    let trailer = [("sum", slots, 8), ("max", slots + 8, 8)];
    assert_eq!(trailer.len(), HIST_TRAILER);
    c_api::expect_members("biolatency", "runner_hist", &[("slots", 0, slots), trailer[0], trailer[1]]);
}

#[test]
fn a_perf_source_has_the_numbers_of_the_kernel() {
    let program = get("profile");
    let source = program.filters.iter().find_map(|filter| match &filter.element.kind {
        ElementKind::Enum(names) if names.value("cpu_clock").is_some() => Some(names.clone()),
        _ => None,
    });
    let source = source.expect("it can be chosen");
    // PERF_TYPE_HARDWARE is 0 and PERF_TYPE_SOFTWARE is 1 in include/uapi/linux/perf_event.h
    for (name, kind, config, is_clock) in [
        ("cycles", 0, 0, false),
        ("cache_misses", 0, 3, false),
        ("cpu_clock", 1, 0, true),
        ("task_clock", 1, 1, true),
        ("page_faults", 1, 2, false),
    ] {
        let value = source.value(name).unwrap_or_else(|| panic!("there is no {name}")) as u32;
        assert_eq!(PerfEvent::kind_and_config(value), (kind, config), "{name}");
        assert_eq!(PerfEvent::is_clock(value), is_clock, "{name}");
    }
}

#[test]
fn names_that_the_runner_looks_for_are_those_that_the_headers_make() {
    for pattern in ["name##_zero", "insert_failures_##map", "unseen_##map", "followed_##name"] {
        assert!(c_api::makes_names(pattern), "no header has {pattern}");
    }
    assert!(c_api::makes_names(&format!("name##{SECOND}")));
}
