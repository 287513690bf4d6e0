use super::*;

#[test]
fn one_s_own_vdso_has_names() {
    let Some(own) = read_own() else { panic!("this machine maps no vDSO") };
    assert!(own.functions.len() > 0);
    let mut answers = vec![Err(UnresolvedCause::NotMapped)];
    names(0x1000, &[0x1000], &mut answers);
    assert_eq!(answers, [Err(UnresolvedCause::NoSymbol)], "a 32-bit process");
}
