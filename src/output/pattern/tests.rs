use super::*;

fn pattern(source: &str) -> PathPattern {
    let labels = [("db".to_owned(), "db1".to_owned())].into();
    let globals =
        Globals { name: "io".into(), host: "web2".into(), start: 1_767_225_600_000_000_000, labels, probe: None };
    PathPattern::new(source, &Arc::new(globals)).expect("it can be told")
}

#[test]
fn files_of_other_starts_match_and_nobody_elses() {
    let pattern = pattern("/var/log/{{ name }}-{{ labels.db }}-{{ start | date('%Y%m%dT%H%M%SZ') }}.csv");
    assert_eq!(pattern.strip("io-db1-20260101T000000Z.csv"), Some(""));
    assert_eq!(pattern.strip("io-db1-20251224T120001Z.csv.zst"), Some(".zst"));
    for other in ["io-db2-20251224T120001Z.csv", "io-db1-2025.csv", "io-db1-today.csv", "io-db1-20251224T120001Z.jsonl"]
    {
        assert_eq!(pattern.strip(other), None, "{other}");
    }
}

#[test]
fn digits_that_are_not_the_start_s_are_as_they_are() {
    let pattern = pattern("{{ host }}-1-{{ start | date('%s') }}");
    assert_eq!(pattern.strip("web2-1-1700000000"), Some(""));
    assert_eq!(pattern.strip("web3-1-1700000000"), None);
    assert_eq!(pattern.strip("web2-2-1700000000"), None);
}

#[test]
fn a_start_in_the_folder_and_statements_can_t_be_told() {
    assert!(!PathPattern::is_possible("/x/{{ start | date('%Y') }}/a"));
    assert!(!PathPattern::is_possible("/x/{% if name %}a{% endif %}"));
    assert!(PathPattern::is_possible("/x/{{ name }}/a") && PathPattern::is_possible("a"));
    assert!(PathPattern::uses_start("{{ start | date('%Y') }}"));
    assert!(!PathPattern::uses_start("/start/{{ name }}"));
}
