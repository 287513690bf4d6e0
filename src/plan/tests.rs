//! What the plan says of good configs, and where it finds fault with bad ones.

use std::time::Duration;

use super::*;
use crate::config::Source;
use crate::config::quantity::Nanoseconds;
use crate::config::window::Window;
use crate::error::Error;

const GOOD: &str = r#"version: 1
labels: {team: storage}
probes:
  - program: biosnoop
    name: slow
    filters:
      min_latency: 1ms
      device: [vda, loop0]
      op: write
    buffer: {size: 300KiB, max_latency: 50ms}
    maps: {inflight: 4096}
    sinks: [screen]
  - program: execsnoop
    filters: {failed: false}
    sinks: [file]
sinks:
  screen:
    type: stdout
    template: "{{ time | clock }} {{ comm }}"
  file:
    type: jsonl
    path: "{{ name }}-{{ start | date('%Y') }}.jsonl"
    fields: [time, argv, {host: "{{ host }}"}]
"#;

fn try_plan(yaml: &str) -> Result<Plan, Error> {
    let source = Source::parse("x.yaml".into(), "x".into(), yaml.into())?;
    plan(&source, &Catalog::embedded(), &Overrides::default())
}

/// The plan of a good config as a person sees it.
pub(super) fn shown(yaml: &str, possible_cpus: u64) -> String {
    let source = Source::parse("x.yaml".into(), "x".into(), yaml.into()).expect("it is YAML");
    let plan = plan(&source, &Catalog::embedded(), &Overrides::default()).expect("it is good");
    let scene = RenderContext { source: &source, possible_cpus, host: "web2", now: 1_767_225_600_000_000_000 };
    PlanView { plan: &plan, context: scene }.to_string()
}

#[track_caller]
fn wrong(from: &str, to: &str, at: &str, says: &str) {
    assert!(GOOD.contains(from), "{from}");
    let error = try_plan(&GOOD.replacen(from, to, 1)).expect_err("it is wrong");
    assert!(error.message.starts_with(&format!("x.yaml:{at}: ")), "{error}");
    assert!(error.message.contains(says), "{error}");
    assert_eq!(error.message.matches("x.yaml:").count(), 1, "one fault, one problem: {error}");
}

#[test]
fn a_plan_has_every_byte() {
    let plan = try_plan(GOOD).expect("it is good");
    let [slow, exec] = plan.probes.as_slice() else { panic!("two probes") };
    let bytes = |probe: &ProbePlan, symbol: &str| {
        probe.rodata.iter().find(|setting| setting.symbol == symbol).map(|setting| setting.bytes.clone())
    };
    assert_eq!(bytes(slow, "min_latency_ns").unwrap(), 1_000_000u64.to_ne_bytes());
    assert_eq!(bytes(slow, "op").unwrap()[..12], [1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]);
    assert_eq!(&bytes(slow, "device").unwrap()[8..12], b"vda\0");
    assert_eq!(&bytes(slow, "device").unwrap()[48..54], b"loop0\0");
    assert_eq!(bytes(slow, "pid"), None, "what the config leaves out stays the program's default");
    assert_eq!(slow.disks, ["vda", "loop0"]);
    assert_eq!((slow.buffer.asked, slow.buffer.effective), (300 << 10, 512 << 10));
    assert_eq!(bytes(slow, "runner_wakeup_bytes").unwrap(), (64u32 << 10).to_ne_bytes());
    assert_eq!(slow.buffer.max_latency, Duration::from_millis(50));
    let band = bytes(exec, "runner_wakeup_band").unwrap();
    let band = u32::from_ne_bytes(band.try_into().unwrap()) as usize;
    assert!(band > exec.program.event().expect("it has events").size, "no record can jump over the band");
    assert_eq!((slow.sinks.as_slice(), exec.sinks.as_slice()), (&[1][..], &[0][..]));
    let hook = |name: &str| exec.hooks.iter().find(|(hook, _)| hook.name == name).unwrap().1.clone();
    assert_eq!(hook("exec_failed").as_deref(), Some("not needed with `failed: false`"));
    assert_eq!(hook("process_exec"), None);
    assert_eq!(plan.name, "x");
}

#[test]
fn what_the_kernel_will_choose_from_is_shown() {
    let shown = |probe: &str| {
        let yaml = format!("version: 1\nprobes: [{{program: profile, {probe}}}]\nsinks: {{out: {{type: jsonl}}}}\n");
        shown(&yaml, 1)
    };
    let left_open = shown("on_unsupported: skip");
    assert!(left_open.contains("perf_event: cycles, else cpu_clock\n"), "{left_open}");
    assert!(left_open.contains("skipped with a warning where the kernel can't run it  [x.yaml:2]\n"), "{left_open}");
    let chosen = shown("filters: {event: task-clock, frequency: 1kHz}");
    assert!(chosen.contains("perf_event: task_clock\n") && chosen.contains(" 1000"), "{chosen}");
    assert!(!chosen.contains("skipped"), "{chosen}");
    let wrong = "version: 1\nprobes: [{program: profile, filters: {frequency: 99}}]\nsinks: {out: {type: jsonl}}\n";
    let error = try_plan(wrong).expect_err("99 what?");
    assert!(error.message.contains("`99Hz`"), "{error}");
}

#[test]
fn a_plan_is_shown_with_where_each_value_comes_from() {
    let yaml =
        GOOD.replace("failed: false}", "failed: false}\n    buffer: {type: perfbuf, size: 64KiB, wakeup: {events: 9}}");
    let shown = shown(&yaml, 4);
    let lines: Vec<String> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for says in [
        "memory of buffers 768KiB",
        "probe slow: biosnoop, A block I/O request that completed",
        "device vda, loop0 [x.yaml:8] (168 bytes at .rodata+",
        "min_latency_ns 1ms [x.yaml:7] (8 bytes at .rodata+",
        "op write [x.yaml:9] (",
        "runner_wakeup_bytes 65536 [default] (4 bytes at .rodata+",
        "left as they are pid, tid,",
        "inflight 4096 entries [x.yaml:11] Requests",
        "type auto: ringbuf, submit reserve [default]",
        "size 512KiB (asked: 300KiB) [x.yaml:10]",
        "memory 512KiB",
        "wakeup auto: wakeup at 64KiB unread [default]",
        "max_latency 50ms [x.yaml:10]",
        "io_start tp_btf/block_io_start, optional",
        "exec_failed tp_btf/sys_exit, skipped: not needed with `failed: false`",
        "type perfbuf [x.yaml:15]",
        "memory 256KiB, 64KiB for each of 4 possible CPUs",
        "wakeup with every 9 events of a CPU [x.yaml:15]",
        "sinks: file [x.yaml:16]",
        "sink file: jsonl to x-2026.jsonl",
        "path {{ name }}-{{ start | date('%Y') }}.jsonl [x.yaml:23]",
        "label team storage [x.yaml:2]",
        "fields time, argv, host [x.yaml:24]",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(says)), "`{says}` is missing in:\n{shown}");
    }
}

#[test]
fn the_command_line_goes_over_the_config() {
    let source = Source::parse("x.yaml".into(), "x".into(), GOOD.into()).expect("it is good");
    let window = Window { duration: Some(Nanoseconds(3_000_000_000)), ..Window::default() };
    let overrides = Overrides { window, ..Overrides::default() };
    let plan = plan(&source, &Catalog::embedded(), &overrides).expect("it is good");
    assert_eq!(plan.window.duration, Some(Duration::from_secs(3)));
}

#[test]
fn names_that_there_are_not_are_refused() {
    wrong("program: biosnoop", "program: biosnop", "4:14", "did you mean `biosnoop`?");
    wrong("min_latency:", "min_latenc:", "7:7", "`biosnoop` has no filter `min_latenc`, did you mean `min_latency`?");
    wrong("op: write", "op: wriet", "9:11", "did you mean `write`?");
    wrong("inflight", "infligth", "11:12", "did you mean `inflight`?");
    wrong("[screen]", "[screen, scren]", "12:21", "no sink `scren`, did you mean `screen`?");
    wrong("sinks: [file]", "sinks: [screen]", "20:3", "no probe writes to sink `file`");
    wrong("argv, {", "agrv, {", "23:20", "`agrv` is not a field of execsnoop, did you mean `argv`?");
}

#[test]
fn values_that_do_not_fit_are_refused() {
    wrong("1ms", "1", "7:20", "`1ms`");
    wrong("loop0]", "/dev/loop0]", "8:21", "`loop0`");
    wrong("failed: false", "failed: never", "14:23", "must be true or false, not `never`");
    wrong("300KiB", "10B", "10:20", "between 256B and 1GiB");
    wrong("50ms", "10us", "10:41", "between 1ms and 60s");
    wrong("labels:", "window: {duration: 0s}\nlabels:", "2:20", "must be greater than 0");
    wrong("name: slow", "name: execsnoop", "13:5", "a second probe is called `execsnoop`");
}

#[test]
fn faults_in_templates_have_their_own_places() {
    wrong("{{ comm }}", "{{ com }}", "19:38", "`com` is not a field of biosnoop, did you mean `comm`?");
    wrong("| clock", "| clok", "19:26", "`clok` is not a template filter, did you mean `clock`?");
    wrong("{{ host }}", "{{ hots }}", "23:37", "did you mean `host`?");
    wrong("{{ name }}", "{{ comm }}", "22:15", "not a name that a path can use");
    wrong("\"{{ time | clock }} {{ comm }}\"", "|\n      {{ time }}\n      {{ com }}", "21:10", "`com`");
    wrong("time | clock", "ts | clock", "19:24", "monotonic");
}

#[test]
fn two_sinks_never_share_a_file() {
    wrong("path: \"{{ name }}-{{ start | date('%Y') }}.jsonl\"", "path: '-'", "22:11", "standard output");
}

#[test]
fn what_is_for_events_and_what_is_for_aggregates_is_kept_apart() {
    wrong("    template: \"{{ time | clock }} {{ comm }}\"\n", "", "17:3", "needs a `template`");
    wrong("    maps:", "    interval: 1s\n    maps:", "11:5", "`interval` is for aggregating programs");
    let yaml = "version: 1\nprobes:\n  - program: runqlat\n    interval: 1s\nsinks: {screen: {type: stdout}}\n";
    let plan = try_plan(yaml).expect("it is good");
    assert_eq!(plan.probes[0].streams.len(), 2);
    let says = |to: &str| try_plan(&yaml.replace("interval: 1s", to)).expect_err("it is wrong").message;
    assert!(says("interval: 1ms").contains("at least 10ms"));
    assert!(says("buffer: {size: 1MiB}").contains("`buffer` is for programs that send events"));
    assert!(says("top: 3").contains("`top` is for programs with counters"));
    assert!(says("order: time").contains("that send events"));
}

#[test]
fn a_row_goes_to_the_sinks_that_have_a_use_for_it() {
    let yaml = |sink: &str| format!("version: 1\nprobes: [{{program: runqlat}}]\nsinks: {{s: {sink}}}\n");
    let routed = |sink: &str| {
        let plan = try_plan(&yaml(sink)).expect("it is good");
        plan.probes[0].streams.iter().map(|stream| !stream.sinks.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(routed("{type: jsonl}"), [true, true]);
    assert_eq!(routed("{type: csv}"), [true, true]);
    assert_eq!(routed("{type: stdout}"), [true, true]);
    assert_eq!(routed("{type: csv, columns: [bucket_low, bucket_high, count]}"), [true, false]);
    assert_eq!(routed("{type: stdout, template: '{{ p99 }}'}"), [false, true]);
    assert!(try_plan(&yaml("{type: stdout, template: '{{ p98 }}'}")).unwrap_err().message.contains("did you mean `p9"));
}

#[test]
fn a_table_of_different_programs_needs_columns() {
    let yaml = "version: 1\nprobes: [{program: biosnoop}, {program: execsnoop}]\nsinks: {t: {type: csv}}\n";
    assert!(try_plan(yaml).unwrap_err().message.contains("add `columns`"));
    let both = yaml.replace("csv}", "csv, columns: [time, comm, argv, sector]}");
    assert!(try_plan(&both).is_ok(), "a field of one of them is enough");
    let one = yaml.replace(", {program: execsnoop}", "");
    let SinkFormat::Csv { columns } = &try_plan(&one).expect("it is good").sinks[0].shape else { panic!("a table") };
    let names: Vec<&str> = columns.iter().map(crate::output::SinkColumn::name).collect();
    assert_eq!(names[..5], ["time", "ts", "probe", "pid", "comm"]);
}

use crate::output::SinkFormat;

#[test]
fn a_path_with_the_probe_in_it_is_a_file_for_each() {
    let yaml = "version: 1\n\
                probes:\n  - program: biosnoop\n    name: slow\n  - program: execsnoop\n    sinks: [screen, each]\n  \
                - program: runqlat\n    sinks: [screen]\n\
                sinks:\n  each: {type: csv, path: \"/x/{{ name }}-{{ probe }}.csv\"}\n  \
                screen: {type: jsonl}\n";
    let plan = try_plan(yaml).expect("programs that differ need no `columns`, for each table is one program's");
    let sinks: Vec<_> = plan.sinks.iter().map(|sink| (sink.name.as_str(), sink.probe.as_deref())).collect();
    assert_eq!(sinks, [("each", Some("slow")), ("each", Some("execsnoop")), ("screen", None)]);
    let writes: Vec<_> = plan.probes.iter().map(|probe| probe.sinks.clone()).collect();
    assert_eq!(writes, [vec![0, 2], vec![2, 1], vec![2]]);
    let has = |sink: usize, name: &str| {
        let SinkFormat::Csv { columns } = &plan.sinks[sink].shape else { panic!("a table") };
        columns.iter().any(|column| column.name() == name)
    };
    assert_eq!(
        [has(0, "latency_ns"), has(0, "argv"), has(1, "latency_ns"), has(1, "argv")],
        [true, false, false, true]
    );
    let shown = shown(yaml, 1);
    assert!(shown.contains("\nsink each, of probe slow: csv to /x/x-slow.csv\n"), "{shown}");
    assert!(shown.contains("\nsink each, of probe execsnoop: csv to /x/x-execsnoop.csv\n"), "{shown}");
}
