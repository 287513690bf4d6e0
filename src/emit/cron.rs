//! A file for `/etc/cron.d`.

use std::fmt::Write as _;

use super::folders::CaptureDirs;
use super::{StartOptions, UnitFile, quote, schedule};
use crate::error::{Error, Kind, Result};
use crate::files::target::is_standard_stream;
use crate::plan::Plan;

/// cron passes over files whose names have anything else in them.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// What cron reads: a line for each of the moments that its notation takes a line of its own for.
///
/// # Errors
/// [`Kind::Config`] if the plan says no schedule, if the folder of a file is not known, or if something can't be written into
/// a crontab.
pub fn cron(plan: &Plan, start: &StartOptions) -> Result<Vec<UnitFile>> {
    start.check()?;
    let schedule = schedule(plan)?;
    CaptureDirs::of(plan, start.report.as_deref())?;
    if !is_name(&start.unit) {
        let what = format!("`{}` is no name for a file of cron: it passes over it", quote::shown(&start.unit));
        return Err(Error::new(Kind::Config, what).hint("letters, digits, `_` and `-` are what it takes: --unit NAME"));
    }
    let mut words: Vec<String> = Vec::new();
    if !start.environment.is_empty() {
        words.push("env".into());
        words.extend(start.environment.iter().map(|(name, value)| format!("{name}={}", quote::shell(value))));
    }
    words.extend(start.command().into_iter().map(quote::shell));
    let command = words.join(" ");
    // What a backslash means, not all crons agree about
    if command.contains('\\') {
        let what = format!("there is a backslash in `{}`, which crons read in different ways", quote::shown(&command));
        return Err(Error::new(Kind::Config, what).hint("name the file, or the value, otherwise"));
    }
    let mut text = format!(
        "# {}: {schedule}, local time. Made by `ebpf-run emit cron`.\n\
         # A run says nothing as long as all is well, and cron mails to MAILTO what it says otherwise. cron itself takes no\n\
         # notice of how a run ends; 6 means that it was skipped, because another one held the lock.\n",
        quote::words(&plan.name).replace("%%", "%")
    );
    let to_stdout: Vec<&str> =
        plan.sinks.iter().filter(|sink| is_standard_stream(&sink.path)).map(|sink| sink.name.as_str()).collect();
    if !to_stdout.is_empty() {
        let names = quote::words(&to_stdout.join(", ")).replace("%%", "%");
        writeln!(text, "# Records of sink {names} go to standard output: cron mails them.")
            .expect("a String takes all");
    }
    text += "MAILTO=root\nSHELL=/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";
    for fields in schedule.cron() {
        writeln!(text, "{fields} root {}", quote::crontab(&command)).expect("a String takes all");
    }
    Ok(vec![UnitFile { folder: "/etc/cron.d", name: start.unit.clone(), text }])
}
