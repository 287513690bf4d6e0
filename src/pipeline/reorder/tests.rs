use super::*;

fn all(buffer: &mut ReorderBuffer, read_at: u64) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| buffer.pop(read_at)).collect()
}

#[test]
fn records_go_out_in_order_once_nothing_can_overtake_them() {
    let mut buffer = ReorderBuffer::new(10);
    for ts in [30, 10, 20] {
        buffer.push(ts, &[ts as u8]);
    }
    assert_eq!(all(&mut buffer, 30), [[10], [20]], "30 may be overtaken by 21");
    buffer.push(21, &[21]);
    assert_eq!(all(&mut buffer, 45), [[21], [30]]);
    assert_eq!(buffer.late(), 0);
}

#[test]
fn a_late_record_is_counted_and_not_lost() {
    let mut buffer = ReorderBuffer::new(10);
    buffer.push(50, &[50]);
    assert_eq!(all(&mut buffer, 60), [[50]]);
    buffer.push(40, &[40]);
    assert_eq!(all(&mut buffer, u64::MAX), [[40]]);
    assert_eq!(buffer.late(), 1);
}

#[test]
fn records_of_the_same_time_keep_their_order() {
    let mut buffer = ReorderBuffer::new(0);
    buffer.push(5, b"b");
    buffer.push(5, b"a");
    assert_eq!(all(&mut buffer, u64::MAX), [b"b", b"a"]);
}
