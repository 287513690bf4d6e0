//! Permissions, rotation, retention and compression of a sink's files, resolved from the config.

use std::time::Duration;

use super::Planner;
use crate::config::diagnostic::Code;
use crate::config::files::{Compress, Files, parse_mode};
use crate::config::quantity::{Bytes, Nanoseconds};
use crate::config::yaml::TreeStep;
use crate::config::yaml::TreeStep::Key;
use crate::output::PathPattern;

/// Readable by the owner's group, writable by the owner.
const MODE: u32 = 0o640;
/// The smallest and youngest file that rotation makes.
const MIN_SIZE: u64 = 4 << 10;
const MIN_AGE: Duration = Duration::from_secs(1);

/// How a sink's files are made and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesPlan {
    /// Permissions.
    pub mode: u32,
    /// User by name or number.
    pub owner: Option<String>,
    /// Group by name or number.
    pub group: Option<String>,
    /// Begin another file when one has so many bytes.
    pub rotate_size: Option<u64>,
    /// Begin another file when one is so old.
    pub rotate_every: Option<Duration>,
    /// How many files stay.
    pub keep_files: Option<u32>,
    /// How old files may become.
    pub keep_age: Option<Duration>,
    /// How many bytes all files may have.
    pub keep_bytes: Option<u64>,
    /// How a file is compressed.
    pub compress: Option<Compress>,
    /// Bytes that have to be free on the file system.
    pub min_free: Option<u64>,
    /// Whether folders and links of others are all right.
    pub allow_unsafe_path: bool,
}

impl Default for FilesPlan {
    fn default() -> Self {
        FilesPlan {
            mode: MODE,
            owner: None,
            group: None,
            rotate_size: None,
            rotate_every: None,
            keep_files: None,
            keep_age: None,
            keep_bytes: None,
            compress: None,
            min_free: None,
            allow_unsafe_path: false,
        }
    }
}

impl FilesPlan {
    /// Whether a window may have several files.
    pub fn rotates(&self) -> bool {
        self.rotate_size.is_some() || self.rotate_every.is_some()
    }

    /// Whether files are removed.
    pub fn keeps(&self) -> bool {
        self.keep_files.is_some() || self.keep_age.is_some() || self.keep_bytes.is_some()
    }

    /// The plan for a person, in the words of the config, with what `from` has to say of each key; empty if all is as
    /// usual.
    pub(super) fn shown(&self, from: &dyn Fn(&str) -> String) -> String {
        let time = |time: Option<Duration>| time.map(|time| Nanoseconds::from(time).to_string());
        let size = |size: Option<u64>| size.map(|size| Bytes(size).to_string());
        let parts = [
            ("mode", (self.mode != MODE).then(|| format!("{:04o}", self.mode))),
            ("owner", self.owner.clone()),
            ("group", self.group.clone()),
            ("rotate.size", size(self.rotate_size)),
            ("rotate.every", time(self.rotate_every)),
            ("keep.files", self.keep_files.map(|files| files.to_string())),
            ("keep.age", time(self.keep_age)),
            ("keep.bytes", size(self.keep_bytes)),
            ("compress", self.compress.map(|how| how.name().to_owned())),
            ("min_free", size(self.min_free)),
            ("allow_unsafe_path", self.allow_unsafe_path.then(|| "true".into())),
        ];
        let parts: Vec<String> =
            parts.into_iter().filter_map(|(key, value)| Some(format!("{key} {}{}", value?, from(key)))).collect();
        parts.join(", ")
    }
}

impl Planner<'_> {
    /// `here` is the sink's place.
    pub(super) fn files(&mut self, here: &[TreeStep<'_>; 2], files: &Files) -> FilesPlan {
        let path = files.path.as_deref().unwrap_or("-");
        let known = !self.source.is_lost(here, "path");
        if path == "-" && known {
            let named = [
                ("mode", files.mode.is_some()),
                ("owner", files.owner.is_some()),
                ("group", files.group.is_some()),
                ("rotate", files.rotate.is_some()),
                ("keep", files.keep.is_some()),
                ("compress", files.compress.is_some()),
                ("min_free", files.min_free.is_some()),
                ("allow_unsafe_path", files.allow_unsafe_path.is_some()),
            ];
            for (key, _) in named.into_iter().filter(|(_, named)| *named) {
                let what = format!("`{key}` is for files, and this sink has no `path`: add one, or remove `{key}`");
                self.say_key(Code::WithoutFile, &[here[0], here[1], Key(key)], what);
            }
        }
        let rotate = files.rotate.unwrap_or_default();
        let keep = files.keep.unwrap_or_default();
        if rotate.size.is_some_and(|size| size.0 < MIN_SIZE) {
            let what = format!("`size` must be at least {}", Bytes(MIN_SIZE));
            self.say(Code::Rotate, &[here[0], here[1], Key("rotate"), Key("size")], what);
        }
        if rotate.every.is_some_and(|every| Duration::from(every) < MIN_AGE) {
            let what = "`every` must be at least 1s";
            self.say(Code::Rotate, &[here[0], here[1], Key("rotate"), Key("every")], what);
        }
        let plan = FilesPlan {
            mode: files.mode.as_deref().and_then(|mode| parse_mode(mode).ok()).unwrap_or(MODE),
            owner: files.owner.clone(),
            group: files.group.clone(),
            rotate_size: rotate.size.map(|size| size.0),
            rotate_every: rotate.every.map(Duration::from),
            keep_files: keep.files,
            keep_age: keep.age.map(Duration::from),
            keep_bytes: keep.bytes.map(|bytes| bytes.0),
            compress: files.compress,
            min_free: files.min_free.map(|bytes| bytes.0),
            allow_unsafe_path: files.allow_unsafe_path.unwrap_or(false),
        };
        if plan.keeps() && path != "-" && known {
            let here = [here[0], here[1], Key("keep")];
            if !PathPattern::is_possible(path) {
                let what = "`keep` can't find the files of earlier runs with this `path`: use only text and `{{ … }}`, and \
                            `start` only in the file name";
                self.say_key(Code::Keep, &here, what);
            } else if !PathPattern::uses_start(path) && !plan.rotates() {
                let what = "`keep` needs several files, and each run replaces this one: add `start` to `path`";
                self.say_key(Code::Keep, &here, what);
            }
        }
        plan
    }
}
