use super::*;

const A: Option<Cgroup> = Some(Cgroup { id: 7, level: 1 });
const B: Option<Cgroup> = Some(Cgroup { id: 9, level: 1 });

fn followed() -> FollowedCgroup {
    FollowedCgroup { id: 7, ..FollowedCgroup::new("unit", &LookupName::Unit("a.service".into())) }
}

#[test]
fn a_restart_is_a_message_and_a_longer_absence_is_a_warning() {
    let (mut one, start) = (followed(), Instant::now());
    let at = |ms| start + Duration::from_millis(ms);
    assert_eq!(one.note(A, start), None);
    assert_eq!((one.note(None, at(100)), one.id), (None, 0));
    let words = "unit a.service was created again after 200ms; the filter follows it";
    assert_eq!(one.note(B, at(300)), Some(Notice::Plain(words.into())));
    assert_eq!(one.note(None, at(1000)), None);
    assert_eq!(one.note(None, at(5900)), None);
    assert!(matches!(one.note(None, at(6000)), Some(Notice::Warning(words)) if words.contains("no longer exists")));
    assert_eq!(one.note(None, at(9000)), None, "once");
    assert!(matches!(one.note(A, at(9000)), Some(Notice::Warning(words)) if words.contains("after 8s")));
    assert!(matches!(one.note(B, at(9100)), Some(Notice::Plain(_))), "between two looks");
    let account = one.account();
    assert_eq!((account.restarts, account.absent), (3, Duration::from_millis(8200)));
    assert!(account.present);
}

#[test]
fn messages_of_one_cgroup_are_limited() {
    let (mut one, now) = (followed(), Instant::now());
    let said = (0..100).filter_map(|i| one.note(if i % 2 == 0 { B } else { A }, now)).count();
    assert_eq!((said as u32, one.account().restarts), (MESSAGES, 100));
}

#[test]
fn a_unit_is_searched_for_where_it_was_and_now_and_then_elsewhere() {
    let root = tempfile::tempdir().expect("a directory");
    let path = |slice: &str| root.path().join(slice).join("a.service");
    let make = |slice| std::fs::create_dir_all(path(slice)).expect("a directory");
    let (mut one, start) = (followed(), Instant::now());
    make("x.slice");
    let first = one.look(root.path(), start).expect("it is there");
    assert_eq!((one.path.as_deref(), first.level), (Some(path("x.slice").as_path()), 2));
    std::fs::remove_dir(path("x.slice")).expect("it is empty");
    make("y.slice/z.slice");
    assert_eq!(one.look(root.path(), start + Duration::from_secs(1)), None);
    let moved = one.look(root.path(), start + Duration::from_secs(6)).expect("it is found");
    assert_eq!((one.path.as_deref(), moved.level), (Some(path("y.slice/z.slice").as_path()), 3));
}
