use std::process::Command;

use super::*;

fn every(minutes: u32, days: &[Day]) -> SchedulePlan {
    SchedulePlan { starts: Starts::Every(minutes), days: days.iter().copied().collect() }
}

fn at(times: &[(u32, u32)], days: &[Day]) -> SchedulePlan {
    let times = times.iter().map(|(hour, minute)| TimeOfDay { hour: *hour, minute: *minute }).collect();
    SchedulePlan { starts: Starts::At(times), days: days.iter().copied().collect() }
}

const WORK: &[Day] = &[Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];

/// Every kind of schedule that there is.
fn all() -> Vec<SchedulePlan> {
    let mut all: Vec<SchedulePlan> = (1..=MINUTES_A_DAY)
        .filter(|count| minutes(Nanoseconds::from(Duration::from_secs(u64::from(*count) * 60))).is_some())
        .map(|minutes| every(minutes, &Day::ALL))
        .collect();
    assert_eq!(all.len(), 11 + 8, "divisors of an hour below it, and of a day in hours");
    all.push(every(20, WORK));
    all.push(every(360, &[Day::Sat, Day::Sun]));
    all.push(at(&[(2, 30)], &Day::ALL));
    all.push(at(&[(2, 30), (14, 30), (23, 5), (0, 0)], &[Day::Mon, Day::Wed, Day::Thu, Day::Sun]));
    all
}

/// The minutes of a week, from Monday on, at which it starts.
fn of_week(plan: &SchedulePlan) -> Vec<u32> {
    plan.days.iter().flat_map(|day| plan.moments().into_iter().map(|at| *day as u32 * MINUTES_A_DAY + at)).collect()
}

/// The values of a field of cron, by its manual: `*`, `*/n`, numbers, ranges, lists of them.
fn field(text: &str, max: u32) -> Vec<u32> {
    let part = |part: &str| -> Vec<u32> {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let number = |text: &str| text.parse::<u32>().expect("a number");
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first), number(last)),
            None if range == "*" => (0, max),
            None => (number(range), number(range)),
        };
        (first..=last).step_by(number(step) as usize).collect()
    };
    text.split(',').flat_map(part).collect()
}

#[test]
fn cron_starts_just_when_the_schedule_says() {
    for plan in all() {
        let mut starts = BTreeSet::new();
        for line in plan.cron() {
            let fields: Vec<&str> = line.split(' ').collect();
            assert_eq!(fields[2..4], ["*", "*"]);
            for day in field(fields[4], 6) {
                for hour in field(fields[1], 23) {
                    let day = (day + 6) % 7;
                    starts.extend(
                        field(fields[0], 59).into_iter().map(|minute| day * MINUTES_A_DAY + hour * 60 + minute),
                    );
                }
            }
        }
        assert_eq!(starts.into_iter().collect::<Vec<_>>(), of_week(&plan), "{plan}");
    }
}

/// systemd itself says when.
#[test]
fn timers_start_just_when_the_schedule_says() {
    let sunday = jiff::civil::date(2026, 1, 4).at(23, 59, 59, 0);
    let monday = sunday + jiff::Span::new().seconds(1);
    for plan in all() {
        let calendar = plan.calendar();
        // Enough for a week of each expression, so that all of the week's are among them
        let iterations = format!("--iterations={}", of_week(&plan).len().min(400));
        let base = format!("--base-time={sunday}").replace('T', " ");
        let mut command = Command::new("systemd-analyze");
        command.env("TZ", "UTC").env("LC_ALL", "C").args(["calendar", &iterations, &base]).args(&calendar);
        let Ok(output) = command.output() else {
            eprintln!("skipped: there is no systemd-analyze here");
            return;
        };
        assert!(output.status.success(), "{calendar:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let mut starts = BTreeSet::new();
        for line in text.lines() {
            let Some((_, moment)) = line.split_once("Next elapse: ").or_else(|| line.split_once("Iter. #")) else {
                continue;
            };
            let words: Vec<&str> = moment.split_whitespace().collect();
            let [.., date, time, "UTC"] = words.as_slice() else { continue };
            let moment: jiff::civil::DateTime = format!("{date}T{time}").parse().expect("a time");
            let since = (moment - monday).total((jiff::Unit::Minute, jiff::SpanRelativeTo::days_are_24_hours()));
            starts.insert(since.expect("it is short") as u32);
        }
        let expected: Vec<u32> = of_week(&plan).into_iter().take(400).collect();
        let found: Vec<u32> = starts.into_iter().take(expected.len()).collect();
        assert_eq!(found, expected, "{plan}: {calendar:?}\n{text}");
    }
}

#[test]
fn the_shortest_time_between_two_starts_is_found() {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!(every(15, WORK).shortest(), Duration::from_secs(900));
    assert_eq!(every(MINUTES_A_DAY, &Day::ALL).shortest(), hours(24));
    assert_eq!(at(&[(2, 0)], &[Day::Mon]).shortest(), hours(7 * 24));
    assert_eq!(at(&[(2, 0)], &[Day::Mon, Day::Thu]).shortest(), hours(3 * 24));
    assert_eq!(at(&[(1, 0), (23, 0)], &Day::ALL).shortest(), hours(2), "over midnight");
    assert_eq!(at(&[(1, 0), (23, 0)], &[Day::Mon, Day::Wed]).shortest(), hours(22));
    assert_eq!(at(&[(1, 0), (23, 0)], &[Day::Sun, Day::Mon]).shortest(), hours(2), "from one week to the next");
}

#[test]
fn what_can_t_be_said_to_both_is_none() {
    for (text, fits) in [
        ("1min", true),
        ("15min", true),
        ("7min", false),
        ("90s", false),
        ("90min", false),
        ("5h", false),
        ("6h", true),
        ("24h", true),
        ("1d", true),
        ("2d", false),
        ("0s", false),
        ("30s", false),
        ("99999d", false),
    ] {
        let parsed = crate::config::quantity::parse_duration(text).expect("a time");
        assert_eq!(minutes(Nanoseconds(parsed)).is_some(), fits, "{text}");
    }
}
