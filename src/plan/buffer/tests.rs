use super::*;
use crate::catalog::c_api::enumerator;

#[test]
fn transports_and_wakeup_flags_have_the_numbers_of_the_headers() {
    assert_eq!(Transport::Reserve as u64, enumerator("RUNNER_RESERVE"));
    assert_eq!(Transport::Output as u64, enumerator("RUNNER_OUTPUT"));
    assert_eq!(Transport::Perf as u64, enumerator("RUNNER_PERF"));
    assert_eq!(u64::from(RB_NO_WAKEUP), enumerator("BPF_RB_NO_WAKEUP"));
    assert_eq!(u64::from(RB_FORCE_WAKEUP), enumerator("BPF_RB_FORCE_WAKEUP"));
}
