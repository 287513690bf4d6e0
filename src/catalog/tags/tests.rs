use super::*;

#[test]
fn an_unknown_tag_is_an_error() {
    let mut tags = Tags::default();
    assert!(tags.add("dco:typo").is_err());
    assert!(tags.add("as:kitme").is_err());
    assert!(tags.add("unit:parsec").is_err());
    assert!(tags.add("internal:x").is_err());
    assert!(tags.add("skip_if:failed").is_err());
    assert!(tags.add("in_flight:").is_err());
    assert!(tags.add("sees:").is_err() && tags.add("owners:a task").is_err());
    assert!(tags.add("try:reboot").is_err() && tags.add("try:").is_err());
    for bad in ["connect", "connect/", "/fentry", "connect/a b", "connect/a/b", "Connect/fentry"] {
        assert!(tags.add(&format!("alternative:{bad}")).is_err(), "{bad}");
    }
    assert!(tags.add("alternative:connect/fentry").is_ok());
    assert_eq!(tags.alternative, Some(("connect".into(), "fentry".into())));
    assert!(tags.add("perf_event:cycles|cpu_clock,event").is_err());
    assert!(tags.add("perf_event:cycles|cpu_clock,event,rate").is_ok());
    assert_eq!(tags.perf_event.as_ref().map(|tag| tag.sources.len()), Some(2));
    for load in Load::ALL {
        assert!(tags.add(&format!("try:{}", load.name())).is_ok());
        assert_eq!(tags.load, Some(load));
    }
    assert!(tags.add("doc:anything: with a colon").is_ok());
    assert_eq!(tags.doc.as_deref(), Some("anything: with a colon"));
    assert!(tags.add("sees:one: with a colon").is_ok() && tags.add("sees:two").is_ok());
    assert_eq!(tags.accuracy.phrases("sees"), ["one: with a colon", "two"]);
}
