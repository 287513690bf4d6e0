//! The counts of a run, and the texts about them.

use std::collections::BTreeMap;

use super::*;
use crate::kernel::{Counters, Verdict};
use crate::plan::{BufferDefaults, BufferPlan, Transport, WakeupPlan};
use crate::symbols::SymbolCounts;

fn account(seen: u64, full: u64, received: u64, written: u64) -> Account {
    let kernel = Counters { seen, lost_buffer_full: full, ..Counters::default() };
    let buffer = BufferPlan {
        transport: Transport::Reserve,
        asked: 4096,
        effective: 4096,
        wakeup: WakeupPlan::Bytes(1024),
        max_latency: Duration::from_millis(100),
        left: BufferDefaults::default(),
    };
    Account {
        probe: "slow-io".into(),
        program: "p".into(),
        hooks: vec![],
        verdict: Verdict::Ok,
        reason: None,
        variants: BTreeMap::new(),
        kernel,
        received,
        counted: None,
        written,
        warmup: 0,
        warmup_lost: 0,
        after_window: 0,
        lost_queue_full: 0,
        lost_other: 0,
        discarded: 0,
        out_of_order: 0,
        peak_unread: 0,
        perf_lost: None,
        recursion_misses: 0,
        symbols: SymbolCounts::default(),
        cpus_not_sampled: Vec::new(),
        maps: vec![MapAccount {
            name: "inflight".into(),
            max_entries: 16,
            insert_failures: 0,
            unseen: 0,
            in_flight: None,
        }],
        buffer,
        memory: 4096,
        suggested_size: (full > 0).then_some(8192),
    }
}

fn report(accounts: Vec<Account>, max_loss: f64) -> Report {
    let elapsed = Duration::from_millis(1234);
    let start = ClockInstant { wall: 0, monotonic: 0 };
    let skipped = Vec::new();
    Report {
        end: End::Interrupted,
        start,
        elapsed,
        accounts,
        skipped,
        max_loss,
        capabilities: None,
        clock_steps: vec![],
        cgroups: Vec::new(),
        unknown_time_zone: None,
        symbol_helpers_replaced: 0,
        files: vec![],
        template_failure: None,
        failure: None,
    }
}

#[test]
fn the_counts_reconcile_to_the_record() {
    assert!(account(100, 10, 90, 90).reconciles());
    assert!(!account(100, 10, 89, 89).reconciles(), "one is missing on the way to userspace");
    assert!(!account(100, 10, 90, 89).reconciles(), "one is missing on the way to the sink");
    let mut full = account(100, 0, 90, 80);
    (full.after_window, full.discarded) = (10, 10);
    assert!(full.reconciles());
    assert_eq!(full.lost(), 0, "a record after the end of the window is not lost");
}

#[test]
fn loss_is_judged_by_its_share() {
    assert!(report(vec![account(100, 0, 100, 100)], 0.0).verdict().is_none());
    let error = report(vec![account(1000, 1, 999, 999)], 0.0).verdict().expect("nothing may be lost");
    assert_eq!(error.kind, Kind::Loss);
    assert!(error.message.contains("1 of 1000 events were lost (0.10%"), "{error}");
    assert_eq!(error.hint.unwrap(), "for slow-io, try buffer.size: 8KiB; or use filters that drop more events");
    assert!(report(vec![account(1000, 1, 999, 999)], 0.001).verdict().is_none());
}

#[test]
fn what_the_kernel_skipped_counts_as_an_upper_bound() {
    let mut account = account(1000, 0, 1000, 1000);
    account.recursion_misses = 10;
    assert!(account.reconciles(), "the counts are those of what was seen");
    assert!(report(vec![account.clone()], 0.01).verdict().is_none());
    let error = report(vec![account.clone()], 0.0).verdict().expect("nothing may be lost");
    assert_eq!(error.kind, Kind::Loss);
    assert!(error.message.starts_with("up to 10 of 1010 events may be missing (0.99%; max_loss is 0%)"), "{error}");
    let hint = error.hint.expect("a hint");
    assert!(hint.starts_with("kernels from 7.0 on") && hint.contains("upper bound"), "{hint}");
    let shown = report(vec![account.clone()], 0.0).to_string();
    assert!(shown.contains("  0  (up to 10 more may be missing"), "{shown}");
    account.kernel.seen = 1001;
    account.kernel.lost_buffer_full = 1;
    account.suggested_size = Some(8192);
    let error = report(vec![account], 0.0).verdict().expect("nothing may be lost");
    assert!(error.message.starts_with("1 of 1001 events were lost, and up to 10 more may be missing"), "{error}");
    let hint = error.hint.expect("a hint");
    assert!(hint.contains("8KiB") && hint.contains("kernels from 7.0 on"), "{hint}");
}

#[test]
fn an_end_that_no_hook_saw_counts_as_an_upper_bound() {
    let mut account = account(1000, 0, 1000, 1000);
    account.maps[0].unseen = 10;
    assert!(account.reconciles(), "such a request is no event yet");
    assert!(report(vec![account.clone()], 0.01).verdict().is_none());
    let error = report(vec![account.clone()], 0.0).verdict().expect("nothing may be lost");
    assert_eq!(error.kind, Kind::Loss);
    assert!(error.message.starts_with("up to 10 of 1010 events may be missing (0.99%; max_loss is 0%)"), "{error}");
    assert!(error.hint.expect("a hint").contains("hides the end of some requests"));
    let shown = report(vec![account], 0.0).to_string();
    assert!(shown.contains("  (up to 10 more may be missing: no hook saw their end)"), "{shown}");
}

#[test]
fn what_is_in_flight_is_counted_and_is_no_loss() {
    let mut account = account(1000, 0, 1000, 1000);
    assert_eq!(account.in_flight(), None);
    account.maps[0].in_flight = Some(("requests under way".into(), 0));
    assert!(account.in_flight() == Some(0) && !report(vec![account.clone()], 0.0).to_string().contains("under way"));
    account.maps[0].in_flight = Some(("requests under way".into(), 3));
    let report = report(vec![account], 0.0);
    assert!(report.verdict().is_none());
    assert!(report.to_string().contains("  (requests under way at the end: 3)"), "{report}");
}

#[test]
fn a_full_map_is_named_with_a_size_that_helps() {
    let with = |insert_failures| {
        let mut account = account(100, 0, 100 - insert_failures, 100 - insert_failures);
        account.kernel.lost_map_full = insert_failures;
        account.maps[0].insert_failures = insert_failures;
        report(vec![account], 0.0)
    };
    let report = with(5);
    assert!(report.to_string().contains("  5  (5: the map `inflight` was full)"), "{report}");
    let hint = |report: &Report| report.verdict().expect("nothing may be lost").hint.expect("a hint");
    assert_eq!(hint(&report), "for slow-io, try maps: {inflight: 32}; or use filters that drop more events");
    assert!(hint(&with(90)).contains("inflight: 64"), "{}", hint(&with(90)));
    // Two full maps of a probe are one line of its config
    let mut two = with(5);
    let other = MapAccount { name: "stacks".into(), ..two.accounts[0].maps[0].clone() };
    two.accounts[0].maps.push(other);
    assert_eq!(hint(&two), "for slow-io, try maps: {inflight: 32, stacks: 32}; or use filters that drop more events");
}

#[test]
fn an_aggregate_is_judged_by_the_events_in_its_rows() {
    let mut aggregate = account(100, 0, 7, 7);
    aggregate.counted = Some(90);
    assert!(!aggregate.reconciles(), "ten are nowhere");
    aggregate.kernel.lost_map_full = 10;
    assert!(aggregate.reconciles());
    let shown = report(vec![aggregate], 0.0).to_string();
    assert!(shown.contains("slow-io           7           7          10  (rows of 90 events)"), "{shown}");
}

#[test]
fn a_person_reads_the_cause_beside_the_number() {
    let shown = report(vec![account(100, 10, 90, 90), account(5, 0, 4, 4)], 0.0).to_string();
    assert!(shown.starts_with("finished after 1.2s: interrupted\n"), "{shown}");
    assert!(shown.contains("slow-io          90          90          10  (10: the buffer was full)"), "{shown}");
    assert!(
        shown.ends_with("(the counts do not reconcile: the kernel counted 5 events, userspace accounts for 4)"),
        "{shown}"
    );
}

#[test]
fn counts_that_do_not_reconcile_are_an_error_of_their_own() {
    let error =
        report(vec![account(100, 0, 100, 100), account(100, 0, 99, 99)], 1.0).verdict().expect("one is missing");
    assert_eq!((error.kind, error.kind.code()), (Kind::Unreconciled, 7));
    let words = "the counts of kernel and userspace do not reconcile: probe `slow-io`: the kernel counted 100 events, \
                 userspace accounts for 99";
    assert_eq!(error.message, words);
    let error = report(vec![account(100, 0, 100, 99)], 0.0).verdict().expect("one is missing");
    assert!(error.message.ends_with("100 records were received, 99 are accounted for"), "{error}");
    let mut told = account(100, 1, 99, 99);
    told.perf_lost = Some(2);
    let error = report(vec![told], 1.0).verdict().expect("one is missing");
    assert!(error.message.ends_with("the kernel reported 2 lost records, the program counted 1"), "{error}");
    // Worse than a loss, whose count it makes uncertain; a failure explains it
    let error = report(vec![account(100, 10, 80, 80)], 0.0).verdict().expect("ten are missing");
    assert_eq!(error.kind, Kind::Unreconciled);
    assert!(error.message.ends_with("; besides, 10 of 100 events were lost (10.00%; max_loss is 0%)"), "{error}");
    let mut failed = report(vec![account(100, 10, 80, 80)], 0.0);
    failed.failure = Some(Error::failed("the disk is full"));
    assert_eq!(failed.verdict().expect("it failed").kind, Kind::Failed);
}

/// The counts that wrapped around made up for each other, and let everything pass.
#[test]
fn no_count_can_run_over() {
    let extremes = [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    for seen in extremes {
        for other in extremes {
            let mut counts = account(seen, other, other, other);
            counts.kernel.lost_map_full = other;
            (counts.kernel.lost_other, counts.lost_queue_full, counts.lost_other) = (other, other, other);
            (counts.warmup, counts.recursion_misses, counts.after_window, counts.peak_unread) =
                (other, seen, other, other);
            assert_eq!(counts.reconciles(), (seen, other) == (0, 0), "{seen} {other}");
            let report = report(vec![counts.clone(), counts], 0.5);
            assert_eq!(report.verdict().is_none(), (seen, other) == (0, 0), "{seen} {other}");
            assert!(!report.to_string().is_empty());
        }
    }
    // 2⁶³ + 2⁶³ is 0 in 64 bits
    let mut counts = account(5, 0, 5, 5);
    (counts.warmup, counts.kernel.lost_map_full) = (1 << 63, 1 << 63);
    assert!(!counts.reconciles());
    // More before the window than there was at all
    let mut counts = account(10, 5, 0, 0);
    counts.warmup = 11;
    let error = report(vec![counts], 0.9).verdict().expect("it does not add up");
    assert_eq!(error.kind, Kind::Unreconciled);
}

#[test]
fn a_share_is_within_a_bound_that_is_written_like_it() {
    for tenths in 1..=1000u64 {
        // As a config has it: `0.7%`
        let text = format!("{}.{}%", tenths / 10, tenths % 10);
        let share = crate::config::quantity::parse_percent(&text).expect("a share");
        assert!(is_within(tenths, 1000, share), "{text}");
        assert!(is_within(tenths << 40, 1000 << 40, share), "{text}");
        assert!(tenths == 1000 || !is_within(tenths + 1, 1000, share), "{text}");
    }
    assert!(!is_within(1, u64::MAX, 0.0) && is_within(u64::MAX, u64::MAX, 1.0) && !is_within(1, 0, 1.0));
}

#[test]
fn events_that_lack_a_part_count_against_max_loss() {
    let mut account = account(100, 0, 100, 100);
    account.maps[0].insert_failures = 5;
    assert_eq!(account.incomplete(), 5, "none of them is lost");
    let report = report(vec![account.clone()], 0.0);
    let error = report.verdict().expect("it is incomplete");
    assert_eq!(error.kind, Kind::Loss);
    assert!(error.message.starts_with("5 of 100 events lack a stack or a time (5.00%"), "{error}");
    assert!(error.hint.is_some_and(|hint| hint.contains("maps: {inflight: 32}")));
    account.kernel.lost_map_full = 5;
    assert_eq!(account.incomplete(), 0, "they are lost");
}
