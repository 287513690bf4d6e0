use super::*;

fn refused(host: &Host, errno: i32, log: &str) -> Error {
    let error = libbpf_rs::Error::from_raw_os_error(errno);
    explain(host, Stage::Load, "biosnoop", None, &error, log)
}

#[test]
fn each_refusal_has_its_own_words() {
    let host = Host { release: "5.4.0".into(), ..Host::default() };
    let log = "libbpf: prog 'rq_issue': BPF program load failed: -EINVAL\nlibbpf: prog 'rq_issue': -- BEGIN PROG \
               LOAD LOG --\n12: (85) call bpf_ringbuf_reserve#131\ninvalid func unknown#131\nprocessed 9 insns";
    let error = refused(&host, 22, log);
    assert_eq!(error.kind, Kind::Unsupported);
    assert_eq!(
        error.message,
        "this kernel (5.4.0) refuses hook `rq_issue` of program `biosnoop`: invalid func unknown#131"
    );
    assert!(!error.message.contains("libbpf") && error.detail.unwrap().contains("BEGIN PROG LOAD LOG"));

    assert_eq!(refused(&host, 1, "").kind, Kind::NotPermitted);
    assert_eq!(refused(&host, 11, "").hint.as_deref(), Some("try again"));
    for limit in [23, 24] {
        let error = refused(&host, limit, log);
        assert_eq!(error.kind, Kind::Failed, "a limit says nothing about the kernel: {error}");
        assert!(error.message.contains("limit of open files") && error.hint.is_some(), "{error}");
    }
    let log = format!("{log}\nfd 12 is not pointing to valid bpf_map\nprocessed 0 insns");
    assert_eq!(refused(&host, 22, &log).kind, Kind::Failed);
    let error = refused(&host, 7, "libbpf: map 'inflight': failed to create: -E2BIG\n");
    assert_eq!(error.kind, Kind::Failed);
    assert!(error.message.contains("map `inflight` of program `biosnoop` can't be created"), "{error}");
    let memlock = "libbpf: Error in bpf_create_map_xattr(events): Operation not permitted. Try increasing ulimit -l";
    assert!(!refused(&host, 1, memlock).hint.unwrap().contains("ulimit"), "libbpf only guesses");
    let limited = Host { memlock: true, ..host.clone() };
    assert!(refused(&limited, 1, memlock).hint.unwrap().contains("ulimit -l unlimited"));
    let inside = Host { user_namespace: true, ..host.clone() };
    assert!(refused(&inside, 1, memlock).hint.unwrap().contains("user namespace"));
    let filtered = Host { seccomp: true, ..host.clone() };
    assert!(refused(&filtered, 1, memlock).hint.unwrap().contains("seccomp"));
    let error = refused(&host, 22, "program of this type cannot use helper bpf_probe_read#4");
    assert_eq!(error.kind, Kind::NotPermitted, "lockdown without its file");
    let judged = "libbpf: prog 'x': BPF program load failed: -EACCES\nlibbpf: prog 'x': -- BEGIN PROG LOAD LOG --\n\
                  R0 invalid mem access 'scalar'\nprocessed 9 insns (limit 1000000)\n-- END PROG LOAD LOG --\n";
    let error = refused(&host, 13, judged);
    assert_eq!(error.kind, Kind::Broken, "a fault of the program is no lack of rights: {error}");
    assert!(error.message.ends_with("refuses hook `x` of program `biosnoop`: R0 invalid mem access 'scalar'"));
    let lacking = judged.replace("R0 invalid mem access 'scalar'", "failed to resolve CO-RE relocation <byte_off> x");
    assert_eq!(refused(&host, 22, &lacking).kind, Kind::Unsupported, "the kernel's types are others");
    let locked = Host { lockdown: Some("confidentiality".into()), ..host };
    let error = refused(&locked, 22, "program of this type cannot use helper bpf_probe_read_kernel#113");
    assert_eq!(error.kind, Kind::NotPermitted);
    assert!(error.message.contains("locked down"), "{error}");
}

#[test]
fn a_rejected_variant_has_a_plain_reason() {
    let none = Host { capabilities: u64::MAX, ..Host::default() };
    let says = |host: &Host, section, kind| in_words(host, section, kind);
    assert_eq!(says(&none, "kprobe/do_exit", ErrorKind::NotFound), Some("this kernel has no kprobes"));
    let some = Host { kprobes: true, ..none.clone() };
    assert_eq!(says(&some, "kprobe/do_exit", ErrorKind::NotFound), None);
    assert!(says(&some, "fentry/do_exit", ErrorKind::PermissionDenied).unwrap().contains("does not allow fentry"));
    let user = Host { capabilities: 0, ..none };
    assert_eq!(says(&user, "fentry/do_exit", ErrorKind::PermissionDenied), None, "a right is missing");
}
