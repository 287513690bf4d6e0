use super::*;

fn field(name: &str, kind: FieldKind, offset: usize, size: usize, unit: Option<&str>) -> Field {
    Field { name: name.into(), doc: "x".into(), unit: unit.map(Into::into), errno: false, kind, offset, size }
}

fn layout(fields: Vec<Field>, size: usize) -> Arc<Layout> {
    Arc::new(Layout { doc: "x".into(), fields, size, min_size: size })
}

fn row(layout: &Arc<Layout>, comm: &[u8], values: &[u64]) -> TableRow {
    let mut raw = vec![0; layout.size];
    raw[8..8 + comm.len()].copy_from_slice(comm);
    for (i, value) in values.iter().enumerate() {
        raw[24 + 8 * i..32 + 8 * i].copy_from_slice(&value.to_ne_bytes());
    }
    TableRow { layout: Arc::clone(layout), raw, time: 0 }
}

/// `ts`, `comm`, then numbers.
fn with(values: &[(&str, Option<&str>)]) -> Arc<Layout> {
    let mut fields = vec![field("ts", FieldKind::Uint, 0, 8, None), field("comm", FieldKind::Text, 8, 16, None)];
    let values = values.iter().enumerate();
    fields.extend(values.map(|(i, (name, unit))| field(name, FieldKind::Uint, 24 + 8 * i, 8, *unit)));
    let size = 24 + 8 * (fields.len() - 2);
    layout(fields, size)
}

fn drawn(rows: &[TableRow], width: usize) -> Vec<String> {
    let mut out = String::new();
    draw("runqlat", rows, Some(width), &mut out);
    let lines: Vec<String> = out.lines().map(str::to_owned).collect();
    assert!(lines[0].ends_with(" runqlat"), "{out}");
    lines[1..].to_vec()
}

fn histogram(comm: &[u8], buckets: &[(u64, u64, u64)]) -> Vec<TableRow> {
    let bucket = with(&[("bucket_low", Some("ns")), ("bucket_high", Some("ns")), ("count", None)]);
    let names = ["count", "sum", "p50", "p90", "p99", "max"];
    let summary = with(&names.map(|name| (name, (name != "count").then_some("ns"))));
    let mut rows: Vec<TableRow> = buckets.iter().map(|(low, high, n)| row(&bucket, comm, &[*low, *high, *n])).collect();
    let count = buckets.iter().map(|(.., n)| n).sum();
    rows.push(row(&summary, comm, &[count, 6000 * count, 5000, 9000, 9900, 10000]));
    rows
}

#[test]
fn a_histogram_has_its_empty_buckets_and_its_summary() {
    let rows = histogram(b"a\x1b", &[(1024, 2047, 2), (8192, 16383, 8)]);
    let expected = [
        r"comm=a\x1b",
        "1.02us - 2.05us : 2 |*****              |",
        "2.05us - 4.10us : 0 |                   |",
        "4.10us - 8.19us : 0 |                   |",
        "8.19us - 16.4us : 8 |*******************|",
        "10 in all, average 6us, p50 5us, p90 9…",
        "",
    ];
    let shown = drawn(&rows, 41);
    assert_eq!(shown[..5], expected[..5], "{shown:#?}");
    assert!(shown[5].starts_with("10 in all, average 6.00us, p50 5"), "{shown:#?}");
    assert!(shown.iter().all(|line| line.width() <= 41), "{shown:#?}");
}

#[test]
fn histograms_of_several_keys_stand_side_by_side_where_they_fit() {
    let rows = [histogram(b"one", &[(1024, 2047, 2)]), histogram(b"two", &[(1024, 2047, 1)])].concat();
    let wide = drawn(&rows, 100);
    assert!(wide[0].starts_with("comm=one ") && wide[0].ends_with("comm=two"), "{wide:#?}");
    assert_eq!(wide.iter().filter(|line| line.contains("comm=")).count(), 1);
    let narrow = drawn(&rows, 50);
    assert_eq!(narrow.iter().filter(|line| line.contains("comm=")).count(), 2, "{narrow:#?}");
}

#[test]
fn a_stack_stands_above_its_histogram() {
    let bucket = with(&[("bucket_low", Some("ns")), ("bucket_high", Some("ns")), ("count", None)]);
    let mut layout = Layout::clone(&bucket);
    let tail = layout.size + 16;
    layout.fields.push(field("kernel_stack", FieldKind::Stack { tail }, layout.size, 12, None));
    layout.min_size = tail;
    let layout = Arc::new(layout);
    let with_stack = |texts: &[u8]| {
        let mut row = row(&layout, b"dd", &[4, 7, 2]);
        row.raw.resize(tail, 0);
        row.raw[bucket.size + 4..bucket.size + 8].copy_from_slice(&(texts.len() as u32).to_ne_bytes());
        row.raw.extend_from_slice(texts);
        row
    };
    let shown = drawn(&[with_stack(b"read\0main\0"), with_stack(b"write\0main\0")], 100);
    let lines = |frame: &str| {
        let bar = format!("4ns - 8ns    : 2 |{}|", "*".repeat(100 - 22));
        [
            "comm=dd".into(),
            "    kernel stack".into(),
            format!("        {frame}"),
            "        main".into(),
            format!("   {bar}"),
        ]
    };
    assert_eq!((&shown[..5], &shown[6..11]), (&lines("read")[..], &lines("write")[..]), "{shown:#?}");
}

#[test]
fn counters_are_a_table_with_units() {
    let layout = with(&[("calls", None), ("total_ns", Some("ns"))]);
    let rows = [row(&layout, b"dd", &[12, 1_500_000]), row(&layout, b"longer", &[3, 20])];
    assert_eq!(drawn(&rows, 80), ["COMM    CALLS   TOTAL", "dd         12  1.50ms", "longer      3    20ns", ""]);
    let no_process = [row(&layout, b"", &[12, 1_500_000]), row(&layout, b"", &[3, 20])];
    assert_eq!(drawn(&no_process, 80), ["CALLS   TOTAL", "   12  1.50ms", "    3    20ns", ""], "no process is named");
}

#[test]
fn nothing_is_drawn_as_nothing() {
    let mut out = String::new();
    draw("x", &[], None, &mut out);
    assert_eq!(out, "");
}

#[test]
fn gaps_between_odd_buckets_are_filled_without_end_or_overflow() {
    let gaps = filled(&[(0, 0, 1), (u64::MAX, u64::MAX, 2)]);
    assert!(gaps.len() < 70, "{gaps:?}");
    assert!(gaps.windows(2).all(|pair| pair[0].1 < pair[1].0 || pair[0].1 == u64::MAX), "{gaps:?}");
    assert_eq!(filled(&[(4, 7, 1), (16, 31, 1)]), [(4, 7, 1), (8, 15, 0), (16, 31, 1)]);
    assert_eq!(filled(&[(5, 1, 1), (0, 9, 1)]).len(), 2, "neither in order nor apart");
}

/// The comma at the end of a line that is continued takes a column too, and costs no unit.
#[test]
fn a_summary_is_whole_at_any_width() {
    let rows = histogram(b"", &[(1024, 2047, 2), (8192, 16383, 8)]);
    let summary =
        |width| drawn(&rows, width).into_iter().filter(|line| !line.contains('|')).collect::<Vec<_>>().join(" ");
    for width in 40..120 {
        assert_eq!(summary(width), summary(120), "{width}");
    }
}
