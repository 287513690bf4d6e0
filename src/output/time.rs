//! Wall-clock times as text. Events come in the order of time, so the text of a second is kept for the next one.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use crate::console;

const SECOND: i64 = 1_000_000_000;

/// The text of one second.
struct CachedSecond {
    second: i64,
    text: String,
}

thread_local! {
    static RFC3339: RefCell<CachedSecond> = const { RefCell::new(CachedSecond { second: i64::MIN, text: String::new() }) };
    static CLOCK: RefCell<CachedSecond> = const { RefCell::new(CachedSecond { second: i64::MIN, text: String::new() }) };
}

/// The zone of local times.
struct LocalZone {
    zone: TimeZone,
    /// The zone that the machine is set to and does not have.
    unknown: Option<String>,
}

static LOCAL: OnceLock<LocalZone> = OnceLock::new();

/// Where a machine has its time zone, unless `TZ` says another.
const LOCALTIME: &str = "/etc/localtime";

/// The machine's time zone, read once. UTC where none is set, as everywhere; and where the one that is set is not known here,
/// with a warning: the times look the same.
fn local() -> &'static TimeZone {
    let local = LOCAL.get_or_init(|| {
        let found = TimeZone::try_system().ok();
        let unknown = if found.is_none() { unknown(std::env::var_os("TZ"), Path::new(LOCALTIME)) } else { None };
        if let Some(zone) = &unknown {
            console::say(&format!(
                "ebpf-run: warning: local times are UTC: this machine does not know its time zone, {zone}; install tzdata, or \
                 set TZ to a zone of /usr/share/zoneinfo"
            ));
        }
        LocalZone { zone: found.unwrap_or(TimeZone::UTC), unknown }
    });
    &local.zone
}

/// The zone that could not be found, with where it is set. `None` if none is set, or one that is UTC: then nothing is wrong.
fn unknown(environment: Option<OsString>, localtime: &Path) -> Option<String> {
    let (set_by, name) = match environment {
        Some(name) => ("TZ", name),
        None => match std::fs::read_link(localtime) {
            Ok(target) => (LOCALTIME, target.into_os_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(_) => return Some(format!("{LOCALTIME} is not a time zone")),
        },
    };
    let name = name.to_string_lossy();
    let zone = name.rsplit_once("zoneinfo/").map_or(&*name, |(_, zone)| zone);
    (!is_utc(zone.strip_prefix(':').unwrap_or(zone))).then(|| format!("{set_by}={name}"))
}

/// Names of UTC in the time zone database.
fn is_utc(zone: &str) -> bool {
    const NAMES: &[&str] = &["UTC", "UCT", "GMT", "GMT0", "GMT+0", "GMT-0", "Greenwich", "Universal", "Zulu"];
    NAMES.contains(&zone.strip_prefix("Etc/").unwrap_or(zone))
}

/// The time zone that this machine is set to and does not have, if local times were written in UTC for that.
pub fn unknown_zone() -> Option<String> {
    LOCAL.get()?.unknown.clone()
}

/// Has local times be those of UTC in this process, whatever the machine's zone; to be called before the first of them
/// is written.
pub fn be_in_utc() {
    let _ = LOCAL.set(LocalZone { zone: TimeZone::UTC, unknown: None });
}

fn timestamp(time: i64) -> Timestamp {
    Timestamp::from_nanosecond(time.into()).expect("64 bits of nanoseconds lie within jiff's range")
}

/// Appends the text of `time`'s second, from the cache or made by `make`.
fn push_second(
    cache: &'static std::thread::LocalKey<RefCell<CachedSecond>>,
    time: i64,
    out: &mut String,
    make: impl FnOnce(Timestamp) -> String,
) {
    let second = time.div_euclid(SECOND);
    cache.with_borrow_mut(|cached| {
        if cached.second != second {
            *cached = CachedSecond { second, text: make(timestamp(second * SECOND)) };
        }
        out.push_str(&cached.text);
    });
}

/// Appends `digits` digits of `number`, with leading zeros.
fn push_digits(number: i64, digits: u32, out: &mut String) {
    for place in (0..digits).rev() {
        out.push(char::from(b'0' + (number / 10i64.pow(place) % 10) as u8));
    }
}

/// Appends `time`, nanoseconds since 1970, as RFC 3339 in UTC: `2026-11-21T06:00:00.123456789Z`.
pub fn push_rfc3339(time: i64, out: &mut String) {
    push_second(&RFC3339, time, out, |at| at.strftime("%Y-%m-%dT%H:%M:%S.").to_string());
    push_digits(time.rem_euclid(SECOND), 9, out);
    out.push('Z');
}

/// Appends `time` as the time of day here: `07:00:00.123456`.
pub fn push_clock(time: i64, out: &mut String) {
    push_second(&CLOCK, time, out, |at| at.to_zoned(local().clone()).strftime("%H:%M:%S.").to_string());
    push_digits(time.rem_euclid(SECOND) / 1_000, 6, out);
}

/// Appends `time` in the form of strftime(3), in UTC or local time.
///
/// # Errors
/// If `format` has a directive that there isn't.
pub fn push_date(time: i64, format: &str, in_local_time: bool, out: &mut String) -> Result<(), String> {
    let zone = if in_local_time { local().clone() } else { TimeZone::UTC };
    let text = strtime::format(format, &timestamp(time).to_zoned(zone))
        .map_err(|error| format!("'{format}' is not a date format: {error}"))?;
    out.push_str(&text);
    Ok(())
}

#[cfg(test)]
mod tests;
