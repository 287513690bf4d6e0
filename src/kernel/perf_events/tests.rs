use super::*;

#[test]
fn lists_of_cpus_have_ranges() {
    assert_eq!(parse_list("0-2,5,7-8\n"), Some(vec![0, 1, 2, 5, 7, 8]));
    assert_eq!(parse_list("0\n"), Some(vec![0]));
    assert_eq!(parse_list(""), None);
}

#[test]
fn each_refusal_has_its_own_words() {
    let rate = Rate { value: 99_999, frequency: true };
    let says = |errno| explain("cycles", rate, &io::Error::from_raw_os_error(errno));
    assert_eq!(says(libc_errno::ENOENT).unwrap(), "this machine has no counter `cycles` (ENOENT)");
    assert!(says(libc_errno::EINVAL).unwrap().contains("99999 times a second"));
    assert!(says(libc_errno::EBUSY).unwrap().contains("can't be opened"));
    assert_eq!(says(libc_errno::EMFILE).unwrap_err().kind, Kind::Failed, "a limit says nothing about the machine");
    let error = says(libc_errno::EACCES).unwrap_err();
    assert_eq!(error.kind, Kind::NotPermitted);
    assert!(error.hint.unwrap().contains("kernel.perf_event_paranoid"));
}
