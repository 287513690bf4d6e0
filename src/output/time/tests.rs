use super::*;

fn rfc3339(time: i64) -> String {
    let mut out = String::new();
    push_rfc3339(time, &mut out);
    out
}

#[test]
fn nanoseconds_are_kept_across_the_cache() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
    assert_eq!(rfc3339(1_763_704_800_123_456_789), "2025-11-21T06:00:00.123456789Z");
    assert_eq!(rfc3339(1_763_704_800_000_000_001), "2025-11-21T06:00:00.000000001Z");
    assert_eq!(rfc3339(1_763_704_799_999_999_999), "2025-11-21T05:59:59.999999999Z");
    assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
}

#[test]
fn a_zone_is_unknown_only_where_one_is_set_that_is_not_utc() {
    let scratch = tempfile::tempdir().expect("a directory");
    let link = |target: &str| {
        let path = scratch.path().join("localtime");
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(target, &path).expect("a link");
        path
    };
    let none = scratch.path().join("none");
    let tz = |name: &str| unknown(Some(name.into()), &none);
    assert_eq!(tz("Europe/Nowhere").as_deref(), Some("TZ=Europe/Nowhere"));
    assert_eq!(tz(":/no/file").as_deref(), Some("TZ=:/no/file"));
    assert_eq!((tz("UTC"), tz(":Etc/UTC"), tz("/usr/share/zoneinfo/Zulu")), (None, None, None));
    assert_eq!(unknown(None, &none), None, "UTC by convention");
    let berlin = unknown(None, &link("../usr/share/zoneinfo/Europe/Berlin"));
    assert_eq!(berlin.as_deref(), Some("/etc/localtime=../usr/share/zoneinfo/Europe/Berlin"));
    assert_eq!(unknown(None, &link("/usr/share/zoneinfo/Etc/UTC")), None, "an image without tzdata");
    std::fs::write(&none, "no time zone").expect("a file");
    assert_eq!(unknown(None, &none).as_deref(), Some("/etc/localtime is not a time zone"));
}

#[test]
fn dates_follow_strftime() {
    let mut out = String::new();
    push_date(1_763_704_800_000_000_000, "%Y%m%dT%H%M%SZ", false, &mut out).expect("a date format");
    assert_eq!(out, "20251121T060000Z");
    assert!(push_date(0, "%!", false, &mut out).is_err());
}
