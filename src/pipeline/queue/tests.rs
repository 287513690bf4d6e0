use super::*;
use crate::pipeline::batch::{Gap, Item};

#[test]
fn records_come_out_as_they_went_in() {
    let (mut sender, queue) = queue(vec![1, 1], QUEUE_BYTES, None, false);
    sender.push(0, b"one");
    sender.push(1, b"three");
    sender.flush();
    drop(sender);
    let batch = queue.next().expect("a batch");
    let pieces: Vec<_> = batch.items().collect();
    assert_eq!(pieces, [(0, Item::Record(b"one")), (1, Item::Record(b"three"))]);
    queue.done(batch);
    assert!(queue.next().is_none());
}

#[test]
fn a_full_queue_drops_and_counts_and_takes_again_when_there_is_room() {
    let (mut sender, queue) = queue(vec![1], 50, None, false);
    for _ in 0..3 {
        sender.push(0, b"12345678");
        sender.flush();
    }
    assert_eq!(sender.counts()[0], Received { records: 3, lost_queue_full: 2, bytes: 24, ..Received::default() });
    queue.done(queue.next().expect("the first batch"));
    sender.push(0, b"12345678");
    sender.flush();
    assert_eq!(sender.counts()[0].lost_queue_full, 2);
    let batch = queue.next().expect("the next batch");
    let gap = Gap { lost: 2, cause: LossCause::Queue };
    assert_eq!(batch.items().nth(1), Some((0, Item::Gap(gap))), "the stream says what is missing");
}

#[test]
fn drops_of_the_last_batch_are_reported() {
    let (mut sender, queue) = queue(vec![1], 50, None, false);
    for _ in 0..3 {
        sender.push(0, b"12345678");
        sender.flush();
    }
    assert_eq!(sender.finish()[0].lost_queue_full, 2);
    queue.done(queue.next().expect("the first batch"));
    let batch = queue.next().expect("a batch of nothing but a gap");
    let gap = Gap { lost: 2, cause: LossCause::Queue };
    assert_eq!(batch.items().collect::<Vec<_>>(), [(0, Item::Gap(gap))]);
}

#[test]
fn the_window_accepts_at_most_max_events() {
    let (mut sender, _queue) = queue(vec![1], QUEUE_BYTES, Some(2), false);
    (0..5).for_each(|_| sender.push(0, b"x"));
    assert!(sender.is_full());
    assert_eq!(sender.counts()[0], Received { records: 2, after_end: 3, bytes: 2, ..Received::default() });
}

#[test]
fn two_ends_of_a_queue_share_its_bound_and_its_end() {
    let (mut reader, queue) = queue(vec![1, 1], 50, None, false);
    let mut other = reader.another_sender();
    reader.push(0, b"12345678");
    reader.flush();
    other.push_row(1, b"12345678");
    other.flush();
    assert_eq!(other.counts()[1].lost_queue_full, 1, "the room is taken already");
    let batch = queue.next().expect("a batch");
    assert!(batch.read_at > 0);
    queue.done(batch);
    other.push_row(1, b"12345678");
    other.flush();
    let batch = queue.next().expect("a batch");
    assert_eq!(batch.read_at, 0, "it knows nothing of the buffers");
    drop(reader);
    assert_eq!(other.finish()[1].records, 2);
    assert!(queue.next().is_none());
}

#[test]
fn records_that_are_too_short_are_never_decoded() {
    let (mut sender, queue) = queue(vec![8], QUEUE_BYTES, None, false);
    sender.push(0, b"short");
    sender.flush();
    assert_eq!(sender.counts()[0].malformed, 1);
    drop(sender);
    assert!(queue.next().is_none());
}
