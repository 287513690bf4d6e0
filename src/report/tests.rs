//! The books, and what is said of them.

use std::collections::BTreeMap;

use super::*;
use crate::kernel::{Counters, Verdict};
use crate::plan::{BufferPlan, Left, Transport, WakeupPlan};
use crate::symbols::SymbolCounts;

fn account(seen: u64, full: u64, received: u64, written: u64) -> Account {
    let kernel = Counters { seen, lost_buffer_full: full, ..Counters::default() };
    let buffer = BufferPlan {
        transport: Transport::Reserve,
        asked: 4096,
        effective: 4096,
        wakeup: WakeupPlan::Bytes(1024),
        max_latency: Duration::from_millis(100),
        left: Left::default(),
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
        after_end: 0,
        lost_queue_full: 0,
        lost_other: 0,
        unwritten: 0,
        late: 0,
        peak_unread: 0,
        lost_told: None,
        missed: 0,
        symbols: SymbolCounts::default(),
        maps: vec![MapAccount { name: "inflight".into(), max_entries: 16, refused: 0 }],
        buffer,
        memory: 4096,
        would_have_held: (full > 0).then_some(8192),
    }
}

fn report(accounts: Vec<Account>, max_loss: f64) -> Report {
    let elapsed = Duration::from_millis(1234);
    let start = Instant { wall: 0, monotonic: 0 };
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
        symbol_helpers_replaced: 0,
        files: vec![],
        template_failure: None,
        failure: None,
    }
}

#[test]
fn the_books_balance_to_the_record() {
    assert!(account(100, 10, 90, 90).balances());
    assert!(!account(100, 10, 89, 89).balances(), "one is missing on the way to userspace");
    assert!(!account(100, 10, 90, 89).balances(), "one is missing on the way to the sink");
    let mut late = account(100, 0, 90, 80);
    (late.after_end, late.unwritten) = (10, 10);
    assert!(late.balances());
    assert_eq!(late.lost(), 0, "what nobody wanted any more is not lost");
}

#[test]
fn loss_is_judged_by_its_share() {
    assert!(report(vec![account(100, 0, 100, 100)], 0.0).verdict().is_none());
    let error = report(vec![account(1000, 1, 999, 999)], 0.0).verdict().expect("nothing may be lost");
    assert_eq!(error.kind, Kind::Loss);
    assert!(error.message.contains("1 of 1000 events were lost (0.10%"), "{error}");
    assert_eq!(error.hint.unwrap(), "for slow-io, try buffer.size: 8KiB; or use filters that let less through");
    assert!(report(vec![account(1000, 1, 999, 999)], 0.001).verdict().is_none());
}

#[test]
fn what_the_kernel_left_out_counts_as_an_upper_bound() {
    let mut account = account(1000, 0, 1000, 1000);
    account.missed = 10;
    assert!(account.balances(), "the books are those of what was seen");
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
    account.would_have_held = Some(8192);
    let error = report(vec![account], 0.0).verdict().expect("nothing may be lost");
    assert!(error.message.starts_with("1 of 1001 events were lost, and up to 10 more may be missing"), "{error}");
    let hint = error.hint.expect("a hint");
    assert!(hint.contains("8KiB") && hint.contains("kernels from 7.0 on"), "{hint}");
}

#[test]
fn a_full_map_is_named_with_a_size_that_helps() {
    let with = |refused| {
        let mut account = account(100, 0, 100 - refused, 100 - refused);
        account.kernel.lost_map_full = refused;
        account.maps[0].refused = refused;
        report(vec![account], 0.0)
    };
    let report = with(5);
    assert!(report.to_string().contains("  5  (5: the map `inflight` was full)"), "{report}");
    let hint = |report: &Report| report.verdict().expect("nothing may be lost").hint.expect("a hint");
    assert_eq!(hint(&report), "for slow-io, try maps: {inflight: 32}; or use filters that let less through");
    assert!(hint(&with(90)).contains("inflight: 64"), "{}", hint(&with(90)));
}

#[test]
fn an_aggregate_is_judged_by_the_events_in_its_rows() {
    let mut aggregate = account(100, 0, 7, 7);
    aggregate.counted = Some(90);
    assert!(!aggregate.balances(), "ten are nowhere");
    aggregate.kernel.lost_map_full = 10;
    assert!(aggregate.balances());
    let shown = report(vec![aggregate], 0.0).to_string();
    assert!(shown.contains("slow-io           7           7          10  (rows of 90 events)"), "{shown}");
}

#[test]
fn a_person_reads_the_cause_beside_the_number() {
    let shown = report(vec![account(100, 10, 90, 90), account(5, 0, 4, 4)], 0.0).to_string();
    assert!(shown.starts_with("ended after 1.2s: interrupted\n"), "{shown}");
    assert!(shown.contains("slow-io          90          90          10  (10: the buffer was full)"), "{shown}");
    assert!(shown.ends_with("(the books do not balance: the kernel counted 5 events)"), "{shown}");
}
