use super::*;
use crate::catalog::c_api;

#[test]
fn stacks_are_those_of_the_header() {
    assert_eq!(FRAMES as u64, c_api::defined("STACK_FRAMES"));
    assert_eq!(STACK_NONE, c_api::defined("STACK_NONE"));
    c_api::expect_members("profile", "runner_stack", &[("frames", 0, 8 * FRAMES)]);
}
