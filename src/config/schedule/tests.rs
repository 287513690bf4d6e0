use super::*;

#[test]
fn times_of_the_day_have_two_digits_each() {
    assert_eq!(parse_time_of_day("02:30"), Ok(TimeOfDay { hour: 2, minute: 30 }));
    assert_eq!(parse_time_of_day("23:59").map(|time| time.to_string()), Ok("23:59".into()));
    for wrong in ["2:30", "24:00", "02:60", "0230", "02:30:00", "+2:30", "2h", "", ":", "02:"] {
        let message = parse_time_of_day(wrong).expect_err("it is wrong");
        assert!(message.contains("\"02:30\""), "{message}");
    }
}
