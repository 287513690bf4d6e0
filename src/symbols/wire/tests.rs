use super::*;

const IMAGE: Image = Image { pid: 7, exe: 8, layout: u64::MAX };

#[test]
fn requests_and_answers_arrive_as_they_were_sent() {
    let mut bytes = Vec::new();
    let allowance = Duration::from_millis(1500);
    send_request(&mut bytes, &IMAGE, &[1, u64::MAX], allowance).expect("a vector takes it");
    send_request(&mut bytes, &IMAGE, &[], allowance).expect("a vector takes it");
    let request = |addresses| Some(Request { image: IMAGE, addresses, allowance });
    let mut from = bytes.as_slice();
    assert_eq!(receive_request(&mut from).expect("valid"), request(vec![1, u64::MAX]));
    assert_eq!(receive_request(&mut from).expect("valid"), request(vec![]));
    assert_eq!(receive_request(&mut from).expect("the end"), None);

    let mut answers: Vec<Answer> = UnresolvedCause::ALL.into_iter().map(Err).collect();
    answers.extend([Ok(b"main".to_vec()), Ok(Vec::new()), Ok(vec![0xff; MAX_NAME])]);
    let mut bytes = Vec::new();
    send_answers(&mut bytes, &answers).expect("a vector takes it");
    assert_eq!(receive_answers(&mut bytes.as_slice(), answers.len()).expect("valid"), answers);
    let mut bytes = Vec::new();
    send_answers(&mut bytes, &[Ok(vec![b'x'; MAX_NAME + 1])]).expect("a vector takes it");
    assert_eq!(receive_answers(&mut bytes.as_slice(), 1).expect("valid"), [Ok(vec![b'x'; MAX_NAME])]);
}

#[test]
fn invalid_messages_are_errors_and_allocate_nothing() {
    let mut request = Vec::new();
    send_request(&mut request, &IMAGE, &[], Duration::ZERO).expect("a vector takes it");
    request[16..20].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert!(receive_request(&mut request.as_slice()).is_err());
    for bad in [&[200][..], &[0], &[0, 1], &[0, 0xff, 0xff], &[0, 2, 0, b'x'], &[]] {
        assert!(receive_answers(&mut &bad[..], 1).is_err(), "{bad:?}");
    }
}
