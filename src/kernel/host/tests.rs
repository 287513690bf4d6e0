use super::*;

#[test]
fn facts_are_read_from_what_the_kernel_writes() {
    let status = b"Name:\t\xc3\nCapPrm:\t0\nCapEff:\t000000c000000000\nSeccomp:\t2\nSeccomp_filters:\t0\n";
    assert_eq!(value_of(status, "CapEff").as_deref(), Some("000000c000000000"), "whatever the name is");
    assert_eq!(value_of(status, "Seccomp").as_deref(), Some("2"));
    assert_eq!(value_of(status, "Cap"), None);
    assert_eq!(value_of(b"Name:\tCapEff:\\nCapEff:\t1\nCapEff:\t0\n", "CapEff").as_deref(), Some("0"));
    assert_eq!(lockdown_mode("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
    assert_eq!(lockdown_mode(""), None);
    let root = Host { capabilities: 1 << CAP_SYS_ADMIN, ..Host::default() };
    assert!(root.has_all_rights());
    assert!(!Host { user_namespace: true, ..root.clone() }.has_all_rights());
    assert!(!Host { seccomp: true, ..root }.has_all_rights());
    assert!(!Host { capabilities: 1 << CAP_BPF | 1 << CAP_PERFMON, ..Host::default() }.has_all_rights());
    assert!(maps_everyone("         0          0 4294967295\n") && !maps_everyone("0 1000 1\n"));
    assert!(before_5_11("5.10.0-36-amd64") && before_5_11("4.19") && !before_5_11("5.11.0"));
    assert!(!before_5_11("7.3-amd64") && !before_5_11("6.1.0"));
}

#[test]
fn the_host_s_name_is_a_file_s_name() {
    for (name, safe) in [
        (&b"web1.example.org"[..], "web1.example.org"),
        ("größe".as_bytes(), "größe"),
        (b"..", "_."),
        (b"../../etc/x", "_._.._etc_x"),
        (b".", "_"),
        (b"", "_"),
        (b"a/b", "a_b"),
        (b"a\nb\x1b[m c", "a_b_[m_c"),
        (b"caf\xe9", "caf_"),
        ("a\u{202e}b\u{2028}".as_bytes(), "a_b_"),
        (b"{{ x }}", "{{_x_}}"),
    ] {
        assert_eq!(file_name(name), safe);
    }
}

#[test]
fn what_is_missing_is_named() {
    let able = Host { capabilities: 1 << CAP_BPF | 1 << CAP_PERFMON, btf: true, ..Host::default() };
    assert!(able.check().is_ok());
    assert!(Host { capabilities: 1 << CAP_SYS_ADMIN, ..able.clone() }.check().is_ok());
    let error = Host { capabilities: 1 << CAP_BPF, ..able.clone() }.check().unwrap_err();
    assert_eq!(error.kind, Kind::NotPermitted);
    assert!(error.message.ends_with("requires CAP_PERFMON"), "{error}");
    let error = Host { btf: false, ..able }.check().unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported);
    assert!(error.message.contains(VMLINUX_BTF));
}
