//! The directories that a capture writes to, as far as they are known before it runs, and which of them systemd can
//! create.

use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::files::target::is_standard_stream;
use crate::output::Globals;
use crate::output::pattern::known_beginning;
use crate::plan::Plan;

/// The prefix of this project's own directories: systemd must not change the owner of others.
const OURS: &str = "ebpf-run";

/// The directories of a capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CaptureDirs {
    /// Directories that systemd creates for the service, by their setting: names below the setting's directory.
    pub own: Vec<(&'static str, BTreeSet<String>)>,
    /// Existing directories, each with the files that are in it.
    pub others: Vec<(String, String)>,
}

/// The settings with which systemd creates directories, and their parent directories.
const SETTINGS: &[(&str, &str)] = &[
    ("StateDirectory", "/var/lib"),
    ("LogsDirectory", "/var/log"),
    ("CacheDirectory", "/var/cache"),
    ("RuntimeDirectory", "/run"),
];

/// Why a service can't use `path`: `in a home directory`; `None` if it can.
pub(super) fn hidden(path: &str) -> Option<&'static str> {
    let under = |folder: &str| Path::new(path).starts_with(folder);
    if ["/home", "/root", "/run/user"].iter().any(|folder| under(folder)) {
        Some("in a home directory, which services can't access")
    } else if ["/tmp", "/var/tmp"].iter().any(|folder| under(folder)) {
        Some("in a directory for temporary files, which is private to each service")
    } else if ["/dev", "/proc", "/sys"].iter().any(|folder| under(folder)) {
        Some("in a directory that can't hold files")
    } else {
        None
    }
}

impl CaptureDirs {
    /// The directories of the sinks' files, of the lock and of the report.
    ///
    /// # Errors
    /// If one is not known, or if a service can't use it.
    pub fn of(plan: &Plan, report: Option<&str>) -> Result<Self> {
        let mut paths: Vec<(String, &str, Option<String>)> = Vec::new();
        for sink in &plan.sinks {
            paths.push((format!("sink `{}`", sink.name), &sink.path, sink.probe.clone()));
        }
        paths.extend(plan.window.lock.as_deref().map(|lock| ("the lock".to_owned(), lock, None)));
        paths.extend(report.map(|report| ("the report".to_owned(), report, None)));
        let mut folders = CaptureDirs::default();
        for (what, template, probe) in paths {
            if is_standard_stream(template) {
                continue;
            }
            let globals =
                Globals { name: plan.name.clone(), host: String::new(), start: 0, labels: plan.labels.clone(), probe };
            let known = known_beginning(template, &Arc::new(globals));
            let wrong = |why: &str, hint: &str| {
                Error::new(Kind::Config, format!("{what}: `{template}` {why}")).hint(hint.to_owned())
            };
            let usual = format!("/var/log/{OURS}/ is the usual directory for files of captures");
            if !known.starts_with('/') {
                return Err(wrong(
                    "is not absolute: systemd and cron start captures in no particular directory",
                    &usual,
                ));
            }
            if known.chars().any(char::is_control) {
                return Err(wrong("contains a control character", "use another path"));
            }
            let folder = known.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut names = Vec::new();
            for component in Path::new(folder).components() {
                match component {
                    Component::Normal(name) => names.push(name.to_str().unwrap_or_default()),
                    Component::ParentDir => return Err(wrong("contains `..`", "write the path without `..`")),
                    _ => {}
                }
            }
            let folder = format!("/{}", names.join("/"));
            if names.is_empty() {
                return Err(wrong("is in `/`, or in a directory that is known only when the capture runs", &usual));
            }
            if let Some(why) = hidden(&folder) {
                return Err(wrong(&format!("is {why}"), &usual));
            }
            folders.add(folder, what);
        }
        Ok(folders)
    }

    fn add(&mut self, folder: String, what: String) {
        let own = SETTINGS.iter().find_map(|(setting, parent)| {
            let rest = folder.strip_prefix(parent)?.strip_prefix('/')?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
            let first = rest.split('/').next().unwrap_or_default();
            let ours = first == OURS || first.strip_prefix(OURS).is_some_and(|rest| rest.starts_with(['-', '.']));
            (ours && rest.chars().all(plain)).then(|| (*setting, rest.to_owned()))
        });
        match own {
            Some((setting, name)) => {
                let names = match self.own.iter_mut().find(|(known, _)| *known == setting) {
                    Some((_, names)) => names,
                    None => {
                        self.own.push((setting, BTreeSet::new()));
                        &mut self.own.last_mut().expect("it was pushed").1
                    }
                };
                // Each directory on the path is created as well
                let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
                names.extend(ends.map(|end| name[..end].to_owned()));
            }
            None => {
                if !self.others.iter().any(|(known, _)| *known == folder) {
                    self.others.push((folder, what));
                }
            }
        }
    }
}
