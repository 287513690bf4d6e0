//! What has to hold after a window, whatever the attackers did.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value as Json;

use crate::place::{CALLER, MARKER, Place, WITNESS};
use crate::sys;
use crate::window::{GRACE, Ran, Setting, Window};

/// Bytes of memory that the runner may have had: buffers, what waits for sinks, and its own.
const RUNNER: u64 = 256 << 20;
/// Bytes of memory that one of its children may have had: the limit of the symbol worker, and the program itself.
const CHILD: u64 = 320 << 20;

/// Configs in whose plain windows something is captured: `ordinary` and the witness do it many times a second.
const BUSY: &[&str] = &[
    "cachestat",
    "execsnoop",
    "exitsnoop",
    "opensnoop",
    "profile",
    "runqlat",
    "sigsnoop",
    "syscount",
    "tcpconnect",
    "tcplife",
];

/// Samples of a program, and those of them that have the name of its function.
#[derive(Clone, Copy, Debug, Default)]
pub struct Named {
    pub samples: u64,
    pub named: u64,
}

impl Named {
    pub fn add(&mut self, other: Named) {
        self.samples += other.samples;
        self.named += other.named;
    }

    /// Enough samples to expect names, and no name.
    pub fn is_blind(self) -> bool {
        self.samples > 50 && self.named == 0
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.named, self.samples)
    }
}

/// What the outputs of a window had.
#[derive(Debug, Default)]
pub struct Found {
    pub rows: u64,
    /// Samples of the witness, and of the program that calls odd code; with how many that have its function.
    pub witness: Named,
    pub caller: Named,
    pub unsupported: bool,
}

/// The files of root that attackers lead to, watched with inotify.
#[derive(Debug)]
pub struct Decoys(File);

impl Decoys {
    pub fn watch(place: &Place) -> io::Result<Self> {
        let path = sys::c(place.path("secret"));
        let mask = libc::IN_OPEN | libc::IN_ACCESS | libc::IN_MODIFY | libc::IN_ATTRIB | libc::IN_CREATE;
        let mask = mask | libc::IN_DELETE | libc::IN_MOVE;
        // SAFETY: the descriptor is new and has one owner; the path outlives the call
        unsafe {
            let fd = sys::ok(libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC))?;
            let file = File::from_raw_fd(fd);
            sys::ok(libc::inotify_add_watch(file.as_raw_fd(), path.as_ptr(), mask))?;
            Ok(Decoys(file))
        }
    }

    /// The names of files that something was done to, and the events.
    fn touched(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let mut found = Vec::new();
        while let Ok(len) = (&self.0).read(&mut buffer) {
            let mut at = 0;
            while at + 16 <= len {
                let word =
                    |place: usize| u32::from_ne_bytes(buffer[at + place..at + place + 4].try_into().expect("four"));
                let (mask, size) = (word(4), word(12) as usize);
                let name = String::from_utf8_lossy(&buffer[at + 16..at + 16 + size]);
                let name = name.trim_end_matches('\0');
                if !name.is_empty() {
                    found.push(format!("{name} (inotify events {mask:#x})"));
                }
                at += 16 + size;
            }
        }
        found
    }
}

/// Everything that is wrong after a window.
pub fn judge(window: &Window, ran: &Ran, place: &Place, decoys: &Decoys) -> io::Result<(Found, Vec<String>)> {
    let mut judge = Judge { window, ran, place, found: Found::default(), wrong: Vec::new() };
    let touched = decoys.touched(); // before anything here reads a file
    if !touched.is_empty() {
        judge.wrong(format!("files that only root can read were opened or changed: {touched:?}"));
    }
    judge.end()?;
    judge.directories()?;
    judge.contents()?;
    if ran.hung.is_none() && ran.signal.is_none() {
        judge.report()?;
    }
    let left = ran.watch.left();
    if !left.is_empty() {
        judge.wrong(format!("BPF objects are left: {left:?}"));
    }
    Ok((judge.found, judge.wrong))
}

struct Judge<'a> {
    window: &'a Window,
    ran: &'a Ran,
    place: &'a Place,
    found: Found,
    wrong: Vec<String>,
}

impl Judge<'_> {
    fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    fn complete(&self) -> bool {
        matches!(self.ran.code, Some(0 | 3))
    }

    /// The end of the process: its time, its code, its words, its memory, its children.
    fn end(&mut self) -> io::Result<()> {
        let words = fs::read(self.place.path("record/stderr"))?;
        let words = String::from_utf8_lossy(&words).into_owned();
        let setting = self.window.setting;
        if let Some(threads) = &self.ran.hung {
            self.wrong(format!("it did not end within {} s of the end of its window:\n{threads}", GRACE.as_secs()));
        } else if let Some(signal) = self.ran.signal {
            self.wrong(format!("signal {signal} ended it"));
        } else if let Some(code) = self.ran.code {
            if code == 4 && self.ran.doctor == Some(4) {
                self.found.unsupported = true;
            } else if !setting.codes().contains(&code) {
                self.wrong(format!("exit code {code}, of which {:?} are possible", setting.codes()));
            }
            if ![0, 3].contains(&code) && !words.contains("ebpf-run: error:") {
                self.wrong(format!("exit code {code} without a message"));
            }
        }
        for word in ["panicked", "do not balance", "bug"] {
            if words.contains(word) {
                self.wrong(format!("standard error has `{word}`"));
            }
        }
        let watch = &self.ran.watch;
        for (who, peak, most) in [("the runner", watch.runner, RUNNER), ("a child of the runner", watch.child, CHILD)] {
            if peak > most {
                self.wrong(format!("{who} took {} MiB", peak >> 20));
            }
        }
        if self.ran.waiting > 0 {
            self.wrong(format!("{} processes of the run wait for a FUSE server after its end", self.ran.waiting));
        }
        if !self.ran.left.is_empty() {
            self.wrong(format!("processes are left: {:?}", self.ran.left));
        }
        Ok(())
    }

    /// No file but those of the sinks, each in its place.
    fn directories(&mut self) -> io::Result<()> {
        for name in ["cwd", "tmp"] {
            let names = names(&self.place.path(name))?;
            if !names.is_empty() {
                self.wrong(format!("{name} has {names:?}"));
            }
        }
        for entry in fs::read_dir(self.place.path("evil"))? {
            let entry = entry?;
            if entry.metadata()?.uid() == 0 {
                self.wrong(format!("a file of root is where another user's link leads: {}", entry.path().display()));
            }
        }
        let ours = match self.window.setting {
            Setting::FullDisk => "small",
            Setting::SwappedLink => "good",
            Setting::UsersDirectory => "links",
            _ => "out",
        };
        for name in ["out", "good", "small"] {
            for found in names(&self.place.path(name))? {
                let partial = found.strip_suffix(".partial").filter(|_| !self.complete());
                let is_sink = ["rows.jsonl", "rows.csv"].contains(&partial.unwrap_or(&found));
                if !(name == ours && is_sink || found == "filler") {
                    self.wrong(format!("{name} has {found}"));
                }
            }
        }
        let known = ["report.json", "stdout", "stderr", "attacks.log", "attackers.stderr"];
        for found in names(&self.place.path("record"))? {
            if !known.contains(&found.as_str()) {
                self.wrong(format!("beside the report there is {found}"));
            }
        }
        Ok(())
    }

    /// Whole lines, and nothing of the decoys.
    fn contents(&mut self) -> io::Result<()> {
        let directory = self.place.path(match self.window.setting {
            Setting::FullDisk => "small",
            Setting::SwappedLink => "good",
            Setting::UsersDirectory => return self.streams(), // who knows whose files they are
            _ => "out",
        });
        for name in names(&directory)? {
            let path = directory.join(&name);
            if name == "filler" || !fs::symlink_metadata(&path)?.is_file() {
                continue;
            }
            let content = fs::read(&path)?;
            if contains(&content, MARKER.as_bytes()) {
                self.wrong(format!("{name} has what only a file of root has"));
            }
            let whole = !name.ends_with(".partial");
            let end = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if whole && end != content.len() {
                self.wrong(format!("the last line of {name} is cut"));
            }
            match std::str::from_utf8(&content[..end]) {
                Err(error) => self.wrong(format!("{name}: {error}")),
                Ok(text) if name.starts_with("rows.jsonl") => self.json_lines(&name, text),
                Ok(text) => self.table(&name, text, whole),
            }
        }
        self.streams()
    }

    fn json_lines(&mut self, name: &str, text: &str) {
        for line in text.lines() {
            let Ok(row) = serde_json::from_str::<Json>(line) else {
                self.wrong(format!("{name}: no JSON: {}", line.chars().take(200).collect::<String>()));
                return;
            };
            self.found.rows += 1;
            self.names(&row);
        }
    }

    /// Functions of the programs are called after them: a stack of one program never has a function of another.
    fn names(&mut self, row: &Json) {
        let (Some(comm), Some(stack)) = (row["comm"].as_str(), row["user_stack"].as_array()) else { return };
        let names: Vec<&str> =
            stack.iter().filter_map(Json::as_str).filter_map(|name| name.strip_prefix("of_hx-")).collect();
        let own = comm.strip_prefix("hx-").unwrap_or_default();
        if let Some(other) = names.iter().find(|name| **name != own) {
            self.wrong(format!("a stack of {comm} has the function of hx-{other}: {row}"));
        }
        let samples = row["samples"].as_u64().unwrap_or(1);
        let named = Named { samples, named: if names.is_empty() { 0 } else { samples } };
        match comm {
            WITNESS => self.found.witness.add(named),
            CALLER => self.found.caller.add(named),
            _ => {}
        }
    }

    /// In a file that is not whole, the last record may be cut: a quoted cell may have lines of its own.
    fn table(&mut self, name: &str, text: &str, whole: bool) {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let mut records = reader.records().peekable();
        while let Some(record) = records.next() {
            let is_cut = !whole && records.peek().is_none();
            if let Err(error) = record
                && !is_cut
            {
                self.wrong(format!("{name}: {error}"));
                return;
            }
        }
    }

    /// What the shipped config prints, and the messages.
    fn streams(&mut self) -> io::Result<()> {
        for name in ["stdout", "stderr"] {
            let content = fs::read(self.place.path("record").join(name))?;
            if contains(&content, MARKER.as_bytes()) {
                self.wrong(format!("{name} has what only a file of root has"));
            }
            let control = |character: char| character.is_control() && !['\n', '\t'].contains(&character);
            match String::from_utf8(content) {
                Ok(text) if text.contains(control) => self.wrong(format!("{name} has control characters")),
                Ok(_) => {}
                Err(_) if self.complete() => self.wrong(format!("{name} is not UTF-8")),
                Err(_) => {} // a limit on its size cut it
            }
        }
        Ok(())
    }

    /// The report is whole, agrees with itself, with the exit code and with the files.
    fn report(&mut self) -> io::Result<()> {
        let path = self.place.path("record/report.json");
        if !path.exists() {
            if self.complete() {
                self.wrong("there is no report");
            }
            return Ok(());
        }
        let text = fs::read_to_string(path)?;
        if text.contains(MARKER) {
            self.wrong("the report has what only a file of root has");
        }
        let report: Json = match serde_json::from_str(&text) {
            Ok(report) => report,
            Err(error) => {
                self.wrong(format!("the report: {error}"));
                return Ok(());
            }
        };
        if report["exit_code"] != Json::from(self.ran.code) {
            self.wrong(format!("the report has exit code {}", report["exit_code"]));
        }
        if report["reconciles"] != true {
            self.wrong("the report does not balance");
        }
        let mut lost = 0;
        for probe in report["probes"].as_array().into_iter().flatten() {
            self.probe(probe, &report["window"]["ended_by"]);
            let number = |name: &str| probe[name].as_u64().unwrap_or(0);
            lost += ["lost", "recursion_misses", "unseen", "incomplete"].into_iter().map(number).sum::<u64>();
        }
        if self.complete() && (self.ran.code == Some(3)) != (lost > 0) {
            self.wrong(format!("exit code {:?} with {lost} lost", self.ran.code));
        }
        if !self.window.setting.is_others() {
            for file in report["files"].as_array().into_iter().flatten() {
                self.file(file);
            }
        }
        Ok(())
    }

    fn probe(&mut self, probe: &Json, ended_by: &Json) {
        let number = |key: &str| probe[key].as_u64();
        let sum = |keys: &[&str]| keys.iter().map(|key| number(key)).sum::<Option<u64>>();
        let causes = sum(&["lost_buffer_full", "lost_map_full", "lost_sink", "lost_other"]);
        if causes != number("lost") {
            self.wrong(format!("the causes of the losses are {causes:?}: {probe}"));
        }
        let parts = sum(&["written", "warmup", "after_window", "discarded", "lost"]);
        let has_records = !probe["buffer"].is_null();
        if has_records && self.complete() && ended_by == "duration" && parts != number("seen") {
            self.wrong(format!("the parts of `seen` are {parts:?}: {probe}"));
        }
        let plain = self.window.setting == Setting::Plain && self.complete();
        if plain && BUSY.contains(&self.window.config.as_str()) && number("seen") == Some(0) {
            self.wrong("it captured nothing");
        }
    }

    fn file(&mut self, file: &Json) {
        let (Some(path), Some(bytes)) = (file["path"].as_str(), file["bytes"].as_u64()) else { return };
        let size = fs::symlink_metadata(Path::new(path)).map(|found| found.len());
        if file["complete"] == true && !matches!(size, Ok(size) if size == bytes) {
            self.wrong(format!("{path} is whole with {bytes} bytes by the report, and has {size:?}"));
        }
    }
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}
