use super::*;
use crate::catalog::{Aggregate, KeyField, StackKind};
use crate::event::{Field, FieldKind, Scalar};

fn field(name: &str, kind: FieldKind, offset: usize, size: usize) -> Field {
    Field { name: name.into(), doc: "x".into(), unit: None, errno: false, kind, offset, size }
}

/// Keys are a pid, a stack, and the program of the stack; values two counters, or a histogram of eight slots.
fn plan(histogram: bool) -> AggregatePlan {
    let shape = if histogram {
        AggregateShape::Histogram { field: field("latency_ns", FieldKind::Uint, 0, 80), slots: 8 }
    } else {
        let fields = vec![field("calls", FieldKind::Uint, 0, 8), field("total_ns", FieldKind::Uint, 8, 8)];
        AggregateShape::Counters { fields, events: Some(0) }
    };
    let spec = Aggregate {
        map: "m".into(),
        doc: "x".into(),
        per_cpu: true,
        is_hash: true,
        key: vec![
            KeyField { field: field("pid", FieldKind::Uint, 0, 4), stack: None },
            KeyField { field: field("stack", FieldKind::Uint, 16, 8), stack: Some(StackKind::User) },
        ],
        key_size: 24,
        image: Some(ImageAt { pid: 0, exe: 4, layout: 8 }),
        shape,
        value_size: if histogram { 80 } else { 16 },
    };
    AggregatePlan { spec: Arc::new(spec), interval: None, clear: true, per_cpu: false, top: None, sort: 0 }
}

fn entry(pid: u32, stack: u64, values: &[&[u64]]) -> MapEntry {
    entry_of(pid, stack, 0, values)
}

/// One of several programs that the process executed.
fn entry_of(pid: u32, stack: u64, layout: u64, values: &[&[u64]]) -> MapEntry {
    let values = values.iter().map(|words| words.iter().flat_map(|word| word.to_ne_bytes()).collect()).collect();
    let mut key = [pid.to_ne_bytes(), 7_u32.to_ne_bytes()].concat();
    key.extend([layout.to_ne_bytes(), stack.to_ne_bytes()].concat());
    MapEntry { key, values, taken: false }
}

/// Names each stack by a function of its properties; asserts that every stack was prepared before.
struct Named<F> {
    name: F,
    prepared: Vec<StackRef>,
}

fn named<F: Fn(StackRef) -> String>(name: F) -> Named<F> {
    Named { name, prepared: Vec::new() }
}

impl<F: Fn(StackRef) -> String> StackSource for Named<F> {
    fn prepare(&mut self, stacks: &[StackRef]) {
        self.prepared = stacks.to_vec();
    }

    fn frames(&mut self, stack: StackRef) -> Frames {
        assert!(self.prepared.contains(&stack), "{stack:?}");
        Frames { texts: (self.name)(stack).into_bytes().into(), ..Frames::default() }
    }
}

struct Run {
    aggregator: DeltaAggregator,
    layouts: Vec<Arc<Layout>>,
}

impl Run {
    fn new(plan: &AggregatePlan) -> Self {
        let layouts: Vec<Arc<Layout>> = crate::plan::row_layouts(plan).into_iter().map(Arc::new).collect();
        Run { aggregator: DeltaAggregator::new(plan, layouts.clone()), layouts }
    }

    /// The rows as text, `name=value` each but for `ts`, and the count of events.
    fn read(&mut self, entries: &[MapEntry]) -> (Vec<String>, Option<u64>) {
        let mut stacks = named(|stack| format!("f{}\0of{}\0", stack.id, stack.image.pid));
        let reading = self.aggregator.read(entries, 7, &mut stacks);
        let shown = |(stream, raw): &(usize, Vec<u8>)| {
            let layout = &self.layouts[*stream];
            assert_eq!(layout.ts(raw), 7);
            let fields = layout.fields.iter().enumerate().skip(1);
            let one = |(i, field): (usize, &Field)| match layout.read(i, raw) {
                Scalar::Uint(value) => format!("{}={value}", field.name),
                Scalar::Name(name) => format!("{}={name}", field.name),
                Scalar::Stack(frames) => {
                    let frames: Vec<String> = frames.iter().map(|f| String::from_utf8(f.to_vec()).unwrap()).collect();
                    format!("{}={}", field.name, frames.join("<"))
                }
                other => panic!("{other:?}"),
            };
            fields.map(one).collect::<Vec<_>>().join(" ")
        };
        (reading.rows.iter().map(shown).collect(), reading.counted)
    }
}

#[test]
fn cpus_are_added_up_and_the_largest_comes_first() {
    let mut run = Run::new(&plan(false));
    let entries = [entry(1, 5, &[&[1, 10], &[2, 20]]), entry(2, 6, &[&[0, 0], &[9, 90]]), entry(3, 7, &[&[0, 0]])];
    let (rows, counted) = run.read(&entries);
    assert_eq!(rows, ["pid=2 stack=f6<of2 calls=9 total_ns=90", "pid=1 stack=f5<of1 calls=3 total_ns=30"]);
    assert_eq!(counted, Some(12));
}

#[test]
fn rows_of_a_later_snapshot_have_the_difference_unless_totals_are_requested() {
    let (first, second) = ([entry(1, 5, &[&[1, 10]])], [entry(1, 5, &[&[4, 40]]), entry(2, 5, &[&[1, 1]])]);
    let mut run = Run::new(&plan(false));
    run.read(&first);
    let (rows, counted) = run.read(&second);
    assert_eq!(rows, ["pid=1 stack=f5<of1 calls=3 total_ns=30", "pid=2 stack=f5<of2 calls=1 total_ns=1"]);
    assert_eq!(counted, Some(5), "what is in the map, whatever was told before");
    assert!(run.read(&second).0.is_empty(), "nothing new, no row");
    let mut run = Run::new(&AggregatePlan { clear: false, ..plan(false) });
    run.read(&first);
    assert_eq!(run.read(&second).0[0], "pid=1 stack=f5<of1 calls=4 total_ns=40");
}

#[test]
fn cpus_are_kept_apart_on_demand_and_the_rest_is_cut() {
    let mut run = Run::new(&AggregatePlan { per_cpu: true, top: Some(2), ..plan(false) });
    let (rows, counted) = run.read(&[entry(1, 5, &[&[1, 10], &[0, 0], &[7, 70], &[3, 30]])]);
    let expected = ["pid=1 stack=f5<of1 cpu=2 calls=7 total_ns=70", "pid=1 stack=f5<of1 cpu=3 calls=3 total_ns=30"];
    assert_eq!((rows.as_slice(), counted), (&expected.map(String::from)[..], Some(11)));
}

#[test]
fn the_largest_of_the_counter_that_is_asked_for_come_first() {
    let entries = [entry(1, 5, &[&[9, 10]]), entry(2, 5, &[&[1, 90]]), entry(3, 5, &[&[5, 50]])];
    let order = |sort| {
        let mut run = Run::new(&AggregatePlan { sort, top: Some(2), ..plan(false) });
        run.read(&entries).0.iter().map(|row| row[..5].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((order(0), order(1)), (vec!["pid=1".into(), "pid=3".into()], vec!["pid=2".into(), "pid=3".into()]));
}

#[test]
fn a_histogram_is_its_buckets_and_a_summary() {
    let mut run = Run::new(&plan(true));
    // Slots 0 to 7, the sum, the largest
    let (rows, counted) =
        run.read(&[entry(1, 5, &[&[1, 0, 2, 0, 0, 0, 0, 0, 13, 7], &[0, 0, 0, 0, 1, 0, 0, 0, 20, 20]])]);
    let of = "pid=1 stack=f5<of1";
    let expected = [
        format!("row=bucket {of} bucket_low=0 bucket_high=1 count=1"),
        format!("row=bucket {of} bucket_low=4 bucket_high=7 count=2"),
        format!("row=bucket {of} bucket_low=16 bucket_high=31 count=1"),
        format!("row=summary {of} count=4 sum=33 p50=5 p90=20 p99=20 max=20"),
    ];
    assert_eq!((rows, counted), (expected.to_vec(), Some(4)));
    let (rows, _) = run.read(&[entry(1, 5, &[&[1, 0, 3, 0, 0, 0, 0, 0, 18, 7], &[0, 0, 0, 0, 1, 0, 0, 0, 20, 20]])]);
    let expected = [
        format!("row=bucket {of} bucket_low=4 bucket_high=7 count=1"),
        format!("row=summary {of} count=1 sum=5 p50=7 p90=7 p99=7 max=7"),
    ];
    assert_eq!(rows, expected, "the largest was before: the bucket's edge is what is known");
}

#[test]
fn slots_are_powers_of_two_and_the_last_has_no_end() {
    assert_eq!((low(0), high(0, 8)), (0, 1));
    assert_eq!((low(1), high(1, 8)), (2, 3));
    assert_eq!((low(7), high(7, 8)), (128, u64::MAX));
    assert_eq!(summary(&[0, 0, 0, 0, 0, 0, 0, 1], 300, 300)[2..], [300, 300, 300, 300]);
    assert_eq!(summary(&[0; 8], 0, 0), [0; 6], "nothing is nothing");
    assert_eq!(summary(&[0, 0, 0, 1, 0, 0, 0, 0], 9, 0)[5], 8, "read between a slot and the largest: the slot holds");
}

#[test]
fn stacks_with_the_same_names_are_one() {
    let same = || named(|_| "f\0".into());
    let mut run = Run::new(&plan(false));
    let entries = [entry(1, 5, &[&[3, 10]]), entry(2, 6, &[&[4, 0]]), entry(1, 7, &[&[2, 1]])];
    let reading = run.aggregator.read(&entries, 7, &mut same());
    let calls = run.layouts[0].index("calls").expect("a field");
    let shown = |(_, raw): &(usize, Vec<u8>)| match run.layouts[0].read(calls, raw) {
        Scalar::Uint(calls) => calls,
        other => panic!("{other:?}"),
    };
    assert_eq!(reading.rows.iter().map(shown).collect::<Vec<_>>(), [5, 4], "two of process 1, one of process 2");
    let mut run = Run::new(&plan(true));
    let entries = [entry(1, 5, &[&[0, 1, 0, 0, 0, 0, 0, 0, 3, 3]]), entry(1, 7, &[&[0, 1, 0, 0, 0, 0, 0, 0, 2, 2]])];
    let reading = run.aggregator.read(&entries, 7, &mut same());
    assert_eq!(reading.rows.len(), 2, "a bucket and a summary");
    let max = run.layouts[1].index("max").expect("a field");
    assert!(matches!(run.layouts[1].read(max, &reading.rows[1].1), Scalar::Uint(3)), "of several, not their sum");
}

#[test]
fn programs_of_one_process_are_distinguished_by_names_only() {
    let mut run = Run::new(&plan(false));
    let entries = [entry_of(1, 5, 1, &[&[3, 10]]), entry_of(1, 5, 2, &[&[4, 0]])];
    let mut stacks = named(|stack| format!("f{}\0", stack.image.layout));
    let rows = run.aggregator.read(&entries, 7, &mut stacks).rows;
    let image = |layout| Image { pid: 1, exe: 7, layout };
    assert_eq!(stacks.prepared.iter().map(|stack| stack.image).collect::<Vec<_>>(), [image(1), image(2)]);
    assert_eq!(rows.len(), 2, "the same address is another function");
    assert_eq!(
        run.read(&[entry_of(1, 5, 1, &[&[4, 11]]), entry_of(1, 5, 2, &[&[6, 5]])]).0,
        ["pid=1 stack=f5<of1 calls=3 total_ns=6"]
    );
}

#[test]
fn entries_removed_from_the_map_are_no_difference() {
    let mut run = Run::new(&plan(false));
    let taken = |entry: MapEntry| MapEntry { taken: true, ..entry };
    run.aggregator.set_baseline(&[entry(1, 5, &[&[1, 10]])]);
    let (rows, counted) = run.read(&[taken(entry(1, 5, &[&[4, 40]])), entry(2, 5, &[&[2, 2]])]);
    assert_eq!(rows, ["pid=1 stack=f5<of1 calls=3 total_ns=30", "pid=2 stack=f5<of2 calls=2 total_ns=2"]);
    assert_eq!(counted, Some(6), "with what was before the window");
    let (rows, counted) = run.read(&[taken(entry(1, 5, &[&[4, 40]])), entry(2, 5, &[&[5, 5]])]);
    assert_eq!(rows, ["pid=1 stack=f5<of1 calls=4 total_ns=40", "pid=2 stack=f5<of2 calls=3 total_ns=3"]);
    assert_eq!(counted, Some(13));
}
