use super::*;

fn found(passwd: &[u8], name: &str) -> Option<u32> {
    // A small buffer, so that lines do not end with it
    number_of(BufReader::with_capacity(16, passwd), &restore(name)).expect("memory can be read")
}

#[test]
fn a_user_is_found_by_the_whole_name() {
    let passwd = b"root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/:/x\nwww-data:x:34:33::/:/x\nodd\n";
    assert_eq!(found(passwd, "root"), Some(0));
    assert_eq!(found(passwd, "www-data"), Some(34));
    assert_eq!(found(passwd, "ww"), None);
    assert_eq!(found(passwd, "odd"), None);
    assert!(user("no-such-user-here").unwrap_err().hint.unwrap().contains("id -u no-such-user-here"));
}

#[test]
fn invalid_lines_hide_no_others() {
    let mut passwd = b"j\xf6rg:x:1500:1500:J\xf6rg:/:/bin/sh\nnul\0:\0:\0:\0\n\n:::\n::1:\nlong:x:7:".to_vec();
    passwd.extend(vec![b','; 3 * LINE_BEGINNING as usize]);
    passwd.extend(b"\n# no:x:8:\n+nis:x:9:\n-nis::9:\n+::::::\nbad:x:4294967296:\nbad:x:-1:\nbad:x:+3:\nbad:x::\n");
    passwd.extend(b"bad:x:4294967295:\nbad:x:12:\nbad:x:13:\r\n  in:x:14:\r\nend:x:15");
    let expected = [
        ("jörg", None),
        ("j\u{eff6}rg", Some(1500)), // the byte 0xf6, as fields show it
        ("long", Some(7)),
        ("# no", None),
        ("+nis", None),
        ("nis", None),
        ("+", None),
        ("bad", Some(12)),
        ("in", Some(14)),
        ("end", Some(15)),
    ];
    for (name, number) in expected {
        assert_eq!(found(&passwd, name), number, "{name}");
    }
    let endless = vec![b'x'; 10 * LINE_BEGINNING as usize];
    assert_eq!(found(&endless, "x"), None);
    assert_eq!(found(b"", "x"), None);
}

#[test]
fn a_unit_is_the_one_folder_of_its_name() {
    let root = tempfile::tempdir().expect("a directory");
    for path in ["system.slice/a.service/sub", "system.slice/b.service", "user.slice/b.service"] {
        fs::create_dir_all(root.path().join(path)).expect("a directory");
    }
    let found = unit(root.path(), "a.service").expect("it is there");
    assert!(found.ends_with("system.slice/a.service"));
    let bytes = super::found(root.path(), &found).expect("it is there").bytes();
    assert_eq!(bytes[8..], [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[..8], fs::metadata(&found).unwrap().ino().to_ne_bytes());
    let error = unit(root.path(), "b.service").unwrap_err();
    assert!(error.message.contains("/system.slice/b.service") && error.hint.unwrap().contains("`cgroup`"));
    assert!(unit(root.path(), "c.service").unwrap_err().message.contains("no cgroup"));
    let nowhere = LookupName::Cgroup("/x/y".into());
    let path = directory(root.path(), &nowhere).expect("any path is one");
    assert!(super::found(root.path(), &path).unwrap_err().message.contains("`/x/y`"));
}

#[test]
fn names_that_are_not_utf_8_hide_no_unit_and_can_be_named() {
    let root = tempfile::tempdir().expect("a directory");
    let odd = root.path().join(OsStr::from_bytes(b"\xff\xfe.slice"));
    fs::create_dir_all(odd.join("a.service")).expect("a directory");
    fs::create_dir_all(odd.join(OsStr::from_bytes(b"b\xe9.service"))).expect("a directory");
    assert_eq!(unit(root.path(), "a.service").expect("it is there"), odd.join("a.service"));
    assert!(unit(root.path(), "b\u{efe9}.service").expect("it is there").starts_with(odd));
}

#[test]
fn a_unit_of_that_name_below_another_user_s_cgroup_does_not_count() {
    let root = tempfile::tempdir().expect("a directory");
    let (system, delegated) = ("system.slice/a.service", "user.slice/user@1.service");
    for path in [system, "user.slice/user@1.service/a.service", "user.slice/user@1.service/own.service"] {
        fs::create_dir_all(root.path().join(path)).expect("a directory");
    }
    let given = std::os::unix::fs::chown(root.path().join(delegated), Some(65534), None);
    if given.is_err() {
        eprintln!("SKIPPED: only root can give a directory away");
        return;
    }
    assert!(unit(root.path(), "a.service").expect("one counts").ends_with(system));
    assert!(unit(root.path(), "own.service").expect("it is nowhere else").starts_with(root.path().join(delegated)));
}

#[test]
fn a_cgroup_is_laid_out_as_in_the_header() {
    let members = [("id", 0, 8), ("level", 8, 4), ("unused", 12, 4)];
    crate::catalog::c_api::expect_members("execsnoop", "runner_cgroup", &members);
    let bytes = Cgroup { id: 1, level: 2 }.bytes();
    assert_eq!(bytes, [&1u64.to_ne_bytes()[..], &2u32.to_ne_bytes(), &[0; 4]].concat());
}
