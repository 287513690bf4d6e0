use super::*;

#[test]
fn frames_of_the_program_are_removed_and_no_others() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["bpf_prog_5f_begins", "bpf_trace_run2", "__bpf_trace_x", "submit_bio", "bpf_trace_run2"],
            &["submit_bio", "bpf_trace_run2"],
        ),
        (&["bpf_prog_5f_sub", "bpf_prog_5f_begins", "bpf_trampoline_6442", "tcp_connect"], &["tcp_connect"]),
        (&["submit_bio", "bpf_prog_5f_other"], &["submit_bio", "bpf_prog_5f_other"]),
        (&["bpf_prog_5f_alone"], &[]),
        (&[], &[]),
    ];
    for (names, wanted) in cases {
        let names: Vec<FrameName> = names.iter().map(|name| Ok(Arc::from(name.as_bytes()))).collect();
        let wanted: Vec<FrameName> = wanted.iter().map(|name| Ok(Arc::from(name.as_bytes()))).collect();
        assert_eq!(names[taken_by(&names, 0)..], wanted);
    }
    let hidden = || Err(UnresolvedCause::NoSymbol);
    let named = |name: &str| Ok(Arc::from(name.as_bytes()));
    let names = [hidden(), hidden(), named("bpf_trace_run4"), named("__schedule"), hidden()];
    assert_eq!(taken_by(&names, 1), 3, "a program and a trampoline without names");
    assert_eq!(taken_by(&names, 0), 0);
}
