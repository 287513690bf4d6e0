use super::*;

struct OnlyTargets(&'static [&'static str]);

impl AttachTargets for OnlyTargets {
    fn missing(&self, section: &str) -> Option<String> {
        (!self.0.contains(&section)).then(|| format!("there is no {section}"))
    }
}

fn hook(section: &str, alternative: Option<(&str, &str)>, optional: bool) -> Hook {
    Hook {
        name: section.into(),
        section: section.into(),
        optional,
        skip_if: None,
        alternative: alternative.map(|(group, variant)| (group.into(), variant.into())),
        perf_event: None,
    }
}

fn three() -> [Hook; 4] {
    [
        hook("fentry/a", Some(("a", "fentry")), false),
        hook("fexit/a", Some(("a", "fentry")), false),
        hook("kprobe/a", Some(("a", "kprobe")), false),
        hook("tp_btf/b", None, true),
    ]
}

fn chosen(places: &OnlyTargets, refused: &mut Vec<VariantRejection>) -> Result<HookChoice> {
    let hooks = three();
    choose("p", "6.1", &hooks.iter().collect::<Vec<_>>(), places, refused)
}

fn refusal(variant: &str, cause: RejectionCause) -> VariantRejection {
    VariantRejection { group: "a".into(), variant: variant.into(), reason: "it won't".into(), cause }
}

#[test]
fn the_first_variant_that_is_whole_is_taken_and_only_that() {
    let all = OnlyTargets(&["fentry/a", "fexit/a", "kprobe/a", "tp_btf/b"]);
    assert_eq!(chosen(&all, &mut Vec::new()).unwrap().hooks, ["fentry/a", "fexit/a", "tp_btf/b"]);
    let mut refused = Vec::new();
    let half = OnlyTargets(&["fentry/a", "kprobe/a"]);
    assert_eq!(chosen(&half, &mut refused).unwrap().hooks, ["kprobe/a"], "half a variant is none");
    assert_eq!(reasons(refused.iter()), "not by fentry: there is no fexit/a");
    let mut refused = vec![refusal("fentry", RejectionCause::Refused)];
    assert_eq!(chosen(&all, &mut refused).unwrap().variants["a"], "kprobe");
    let mut refused = Vec::new();
    assert_eq!(chosen(&OnlyTargets(&["fentry/a", "fexit/a"]), &mut refused).unwrap().hooks, ["fentry/a", "fexit/a"]);
    assert_eq!(refused, [], "that a later choice is missing is no fallback");
}

#[test]
fn without_a_variant_left_the_error_has_every_reason() {
    let error = chosen(&OnlyTargets(&["tp_btf/b"]), &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported);
    let says = "this kernel (6.1) can't run program `p`: not by fentry: there is no fentry/a; not by kprobe: there is \
                no kprobe/a";
    assert_eq!(error.message, says);
    let needed = hook("tp_btf/b", None, false);
    let error = choose("p", "6.1", &[&needed], &OnlyTargets(&[]), &mut Vec::new()).unwrap_err();
    assert!(error.message.ends_with("there is no tp_btf/b, which hook `tp_btf/b` needs"), "{error}");
}
#[test]
fn the_verdict_follows_from_why_each_variant_was_not_taken() {
    let all = OnlyTargets(&["fentry/a", "fexit/a", "kprobe/a", "tp_btf/b"]);
    let ends = |first, second| {
        let error = chosen(&all, &mut vec![refusal("fentry", first), refusal("kprobe", second)]).unwrap_err();
        assert!(error.message.ends_with("not by fentry: it won't; not by kprobe: it won't"), "{error}");
        (error.kind, Verdict::of(&error))
    };
    assert_eq!(ends(RejectionCause::Missing, RejectionCause::Refused), (Kind::Unsupported, Some(Verdict::Unsupported)));
    assert_eq!(ends(RejectionCause::Judged, RejectionCause::Missing), (Kind::Broken, Some(Verdict::Broken)));
    assert_eq!(ends(RejectionCause::Refused, RejectionCause::Judged), (Kind::Broken, Some(Verdict::Broken)));
    assert_eq!(
        ends(RejectionCause::Forbidden, RejectionCause::Judged),
        (Kind::NotPermitted, None),
        "that is for the user to mend"
    );
    let of = |kind, rights| RejectionCause::of(&Error::new(kind, ""), rights);
    assert_eq!(of(Kind::Broken, true), RejectionCause::Judged);
    assert_eq!(of(Kind::NotPermitted, false), RejectionCause::Forbidden);
    assert_eq!(of(Kind::NotPermitted, true), RejectionCause::Refused, "lockdown: no right helps");
    assert_eq!(of(Kind::Unsupported, false), RejectionCause::Refused);
}
