use super::*;
use crate::catalog::Catalog;
use crate::config::Source;
use crate::error::Kind;
use crate::plan::{Overrides, plan};

/// The error of a run of one probe that has seen and received ten records, with this outcome of the writer.
fn verdict(outcome: WriterOutcome, end: End) -> (Option<Kind>, u64) {
    let yaml = "version: 1\nprobes: [{program: execsnoop}]\nsinks: {s: {type: jsonl}}\n";
    let source = Source::parse("t.yaml".into(), "t".into(), yaml.into()).expect("it is YAML");
    let plan = plan(&source, &Catalog::embedded(), &Overrides::default()).expect("it is right");
    let counts = RunCounts {
        kernel: vec![Counters { seen: 10, ..Counters::default() }],
        received: vec![Received { records: 10, ..Received::default() }],
        losses: vec![LossTracker::default()],
        hooks: vec![Vec::new()],
        verdicts: vec![(Verdict::Ok, None)],
        variants: vec![BTreeMap::new()],
        perf_buffers: vec![PerfBufferCounts::default()],
        counted: vec![None],
        names: vec![SymbolCounts::default()],
        cpus_not_sampled: vec![Vec::new()],
        under_way: vec![plan.probes[0].program.maps.iter().map(|_| None).collect()],
        unseen: vec![plan.probes[0].program.maps.iter().map(|_| 0).collect()],
        refused: vec![plan.probes[0].program.maps.iter().map(|_| 0).collect()],
        missed: vec![0],
        baseline: Baseline::nothing(&plan),
    };
    let start = report::ClockInstant { wall: 0, monotonic: 0 };
    let report = make_report(&plan, &counts, end, (start, Duration::ZERO), outcome);
    (report.verdict().map(|error| error.kind), report.accounts[0].discarded)
}

fn wrote(written: u64, discarded: u64) -> WriterOutcome {
    let (written, discarded) = (vec![written], vec![discarded]);
    WriterOutcome { written, discarded, failed: vec![0], late: vec![0], ..WriterOutcome::default() }
}

#[test]
fn a_record_that_is_missing_is_not_counted_as_discarded() {
    assert_eq!(verdict(wrote(10, 0), End::Duration), (None, 0));
    assert_eq!(verdict(wrote(7, 3), End::MaxBytes), (None, 3));
    assert_eq!(verdict(wrote(9, 0), End::Duration), (Some(Kind::Unreconciled), 0));
    assert_eq!(verdict(wrote(6, 3), End::MaxBytes), (Some(Kind::Unreconciled), 3));
    assert_eq!(verdict(wrote(10, 1), End::MaxBytes), (Some(Kind::Unreconciled), 1));
    let closed = || Some((0, SinkFailure::File(ErrorKind::BrokenPipe.into())));
    assert_eq!(verdict(WriterOutcome { broken: closed(), ..wrote(4, 0) }, End::Closed), (None, 6));
    assert_eq!(verdict(WriterOutcome { abandoned: true, ..wrote(4, 0) }, End::Duration), (None, 6));
}
