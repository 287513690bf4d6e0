//! A service of systemd, and the timer that starts it.

use std::fmt::Write as _;
use std::time::Duration;

use super::folders::CaptureDirs;
use super::{StartOptions, UnitFile, memory, quote, schedule};
use crate::config::quantity::Bytes;
use crate::config::window::OnLocked;
use crate::error::{Error, Kind, Result};
use crate::plan::{Capability, HostRestrictions, Plan, Requirements};

/// For the report, flushing and compressing, beside what `drain` gives the sinks.
const MARGIN: Duration = Duration::from_secs(30);
/// How long an end may take that the config sets no limit to.
const PATIENCE: Duration = Duration::from_secs(300);
/// The name of the user that systemd makes for captures: one for all of them, as they may share folders.
const DYNAMIC: &str = "ebpf-run";
/// The longest name that leaves room for an ending.
const MAX_NAME: usize = 200;

/// Who a service runs as.
#[derive(Debug, PartialEq, Eq)]
enum ServiceUser {
    /// A user that is there only while the service runs.
    Dynamic,
    /// A user that is there.
    User(String),
    /// Root, with no more capabilities than the others; the reasons why.
    Root(Vec<String>),
}

/// A service and a timer.
///
/// # Errors
/// [`Kind::Config`] if the plan says no schedule, if the folder of a file is not known, or if something can't be written into
/// a unit.
pub fn systemd(plan: &Plan, start: &StartOptions) -> Result<Vec<UnitFile>> {
    start.check()?;
    let schedule = schedule(plan)?;
    let folders = CaptureDirs::of(plan, start.report.as_deref())?;
    let plain = |c: char| c.is_ascii_alphanumeric() || ":_.-".contains(c);
    let name = &start.unit;
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.chars().all(plain) {
        let what = format!("`{}` is no name for a unit", quote::shown(name));
        return Err(Error::new(Kind::Config, what)
            .hint("letters, digits, `:`, `_`, `.` and `-` are what one may have: --unit NAME"));
    }
    if let Some(user) = &start.user
        && (user.is_empty() || !user.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)))
    {
        return Err(Error::new(Kind::Config, format!("`{}` is no user's name or number", quote::shown(user))));
    }
    if !start.binary.starts_with('/') {
        let what = format!("systemd starts what has a whole path, and `{}` is none", quote::shown(&start.binary));
        return Err(Error::new(Kind::Config, what).hint("--binary /usr/bin/ebpf-run"));
    }
    if start.binary.contains(['"', '\'', '\\']) {
        let what = format!("systemd starts nothing with quotes or a backslash in its path, such as `{}`", start.binary);
        return Err(
            Error::new(Kind::Config, what).hint("put ebpf-run into another place, and say which: --binary PATH")
        );
    }
    let folder = "/etc/systemd/system";
    let service = UnitFile { folder, name: format!("{name}.service"), text: service(plan, start, &folders) };
    let mut text = format!(
        "# Made by `ebpf-run emit systemd`.\n[Unit]\nDescription=Starts the eBPF capture {} {schedule}\n\n[Timer]\n",
        quote::words(&plan.name)
    );
    for calendar in schedule.calendar() {
        writeln!(text, "OnCalendar={calendar}").expect("a String takes all");
    }
    text += "# On time; by default systemd may be a minute late\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n";
    Ok(vec![service, UnitFile { folder, name: format!("{name}.timer"), text }])
}

fn who(plan: &Plan, start: &StartOptions, folders: &CaptureDirs) -> ServiceUser {
    if let Some(user) = start.user.as_ref().filter(|user| *user != "root" && *user != "0") {
        return ServiceUser::User(user.clone());
    }
    let mut why = Vec::new();
    for (folder, what) in &folders.others {
        why.push(format!("{what} is in {folder}, which is not systemd's to hand over"));
    }
    for sink in &plan.sinks {
        let files = &sink.files;
        if files.owner.is_some() || files.group.is_some() {
            why.push(format!(
                "the files of sink `{}` are for others, who can't look into the folders of such a user",
                sink.name
            ));
        }
    }
    if start.user.is_none() && why.is_empty() { ServiceUser::Dynamic } else { ServiceUser::Root(why) }
}

/// What the capture needs on any kernel, each with the reason.
fn capabilities(plan: &Plan, start: &StartOptions, who: &ServiceUser) -> Vec<(Capability, &'static str)> {
    // tracefs belongs to root, who needs no capability to look into it
    let closed_tracefs = !matches!(who, ServiceUser::Root(_));
    let gates = HostRestrictions { strict_perf_events: start.strict_perf_events, closed_tracefs };
    let needs = Requirements::anywhere(plan).capabilities(gates);
    let mut all: Vec<(Capability, &str)> = needs.iter().map(|need| (need.capability, need.what)).collect();
    if plan.sinks.iter().any(|sink| sink.files.owner.is_some() || sink.files.group.is_some()) {
        all.push((Capability::Chown, "gives files their owner and group"));
    }
    all.sort_unstable();
    all.dedup_by_key(|(capability, _)| *capability);
    all
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

fn service(plan: &Plan, start: &StartOptions, folders: &CaptureDirs) -> String {
    let mut out = UnitLines::default();
    let window = &plan.window;
    out.put("# Made by `ebpf-run emit systemd`: make it anew when the config changes.");
    out.put("[Unit]");
    let about = start.description.as_deref().map(|text| format!(": {}", quote::words(text))).unwrap_or_default();
    out.put(&format!("Description=eBPF capture {}{}", quote::words(&plan.name), about.trim_end_matches(": ")));
    let others: Vec<&str> = folders.others.iter().map(|(folder, _)| folder.as_str()).collect();
    if !others.is_empty() {
        out.set("RequiresMountsFor", &others.iter().map(|folder| quote::path(folder)).collect::<Vec<_>>().join(" "));
    }

    out.put("\n[Service]\nType=oneshot");
    for (name, value) in &start.environment {
        out.set("Environment", &quote::path(&format!("{name}={value}")));
    }
    let command = start.command();
    // A `$` in the path of what is started stands for itself, and not for a variable
    let arguments = command[1..].iter().map(|word| quote::argument(word));
    let words: Vec<String> = std::iter::once(quote::path(command[0])).chain(arguments).collect();
    out.set("ExecStart", &words.join(" "));
    if window.lock.is_some() && window.on_locked == OnLocked::Skip {
        out.put("# Another run holds the lock: this window is skipped");
        out.set("SuccessExitStatus", "6");
    }
    let end = window.drain.map_or(PATIENCE, |drain| drain + MARGIN);
    match window.duration {
        Some(duration) if window.on_locked != OnLocked::Wait => {
            let delay = window.align.unwrap_or_default() + window.splay + window.warmup;
            out.put("# What the window may take, and its end");
            out.set("TimeoutStartSec", &seconds(delay + duration + end));
        }
        _ => out.set("TimeoutStartSec", "infinity"),
    }
    out.set("TimeoutStopSec", &seconds(end));

    out.put("");
    let who = who(plan, start, folders);
    match &who {
        ServiceUser::Dynamic => {
            out.put("# A user of its own, who is there only while a capture runs");
            out.set("DynamicUser", "yes");
            out.set("User", DYNAMIC);
        }
        ServiceUser::User(name) => out.set("User", name),
        ServiceUser::Root(why) => {
            out.put("# Root, without root's capabilities but those below");
            why.iter().for_each(|why| out.put(&format!("# - {}", quote::shown(why))));
            out.set("User", "root");
        }
    }
    for (setting, names) in &folders.own {
        out.set(setting, &names.iter().map(String::as_str).collect::<Vec<_>>().join(" "));
        if *setting == "RuntimeDirectory" {
            // What is in it is for the next run too, and perhaps for another capture's
            out.set("RuntimeDirectoryPreserve", "yes");
        }
    }
    if !others.is_empty() {
        // One that is not there is for the runner to tell, which says what to do
        let paths = others.iter().map(|folder| quote::path(&format!("-{folder}")));
        out.set("ReadWritePaths", &paths.collect::<Vec<_>>().join(" "));
    }
    let capabilities = capabilities(plan, start, &who);
    capabilities.iter().for_each(|(capability, what)| out.put(&format!("# {}: {what}", capability.name())));
    let names: Vec<&str> = capabilities.iter().map(|(capability, _)| capability.name()).collect();
    out.set("CapabilityBoundingSet", &names.join(" "));
    if !matches!(who, ServiceUser::Root(_)) {
        out.set("AmbientCapabilities", &names.join(" "));
    }
    limits(&mut out, plan, start);
    sandbox(&mut out, Requirements::anywhere(plan));
    out.0
}

fn limits(out: &mut UnitLines, plan: &Plan, start: &StartOptions) {
    out.put("\n# The reader may go before others, and what the kernel keeps for it is no matter of locked memory (before 5.11)");
    out.put("LimitNICE=-15\nLimitMEMLOCK=infinity");
    let buffers = Bytes(plan.probes.iter().map(|probe| probe.buffer_memory(start.cpus)).sum());
    out.put(&format!("# Buffers ({buffers}), maps, 64MiB that may wait to be written, and room for the rest"));
    out.set("MemoryMax", &format!("{}M", memory::limit(plan, start.cpus) >> 20));
    out.set("TasksMax", "64");
}

/// What a capture never does, and what it never sees.
fn sandbox(out: &mut UnitLines, uses: Requirements) {
    let yes = |needed: bool| if needed { "no" } else { "yes" };
    out.put(
        "\nNoNewPrivileges=yes\nUMask=0027\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes",
    );
    out.put("PrivateNetwork=yes\nIPAddressDeny=any\nRestrictAddressFamilies=none");
    out.put("ProtectClock=yes\nProtectHostname=yes\nProtectControlGroups=yes\nProtectKernelModules=yes");
    if uses.kernel_stacks || uses.functions {
        out.put("# /proc/kallsyms is read, which these two would close");
    }
    out.set("ProtectKernelTunables", yes(uses.kernel_stacks || uses.functions));
    out.set("ProtectKernelLogs", yes(uses.kernel_stacks));
    // Names in stacks come from the processes' own files
    out.set("ProtectProc", if uses.user_stacks { "default" } else { "invisible" });
    out.put("LockPersonality=yes\nMemoryDenyWriteExecute=yes\nRestrictNamespaces=yes\nRestrictRealtime=yes");
    out.put("RestrictSUIDSGID=yes\nRemoveIPC=yes\nKeyringMode=private\nSystemCallArchitectures=native");
    out.put("SystemCallFilter=@system-service bpf perf_event_open\nSystemCallFilter=~@keyring @memlock");
    out.put("SystemCallErrorNumber=EPERM");
}

/// The lines of a unit.
#[derive(Debug, Default)]
struct UnitLines(String);

impl UnitLines {
    fn put(&mut self, line: &str) {
        self.0 += line;
        self.0.push('\n');
    }

    fn set(&mut self, key: &str, value: &str) {
        self.put(&format!("{key}={value}"));
    }
}
