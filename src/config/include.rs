//! `include:`: finding and reading the files that a config names.
//!
//! Configs may come from people who may not read what the runner can, and what is wrong with a file is shown with its
//! lines. So a file is opened only below the folder of the config itself, wherever links lead, it has to be a YAML file by
//! its own name, and before anything of it is shown it has to say that it is a config.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;

use serde_yaml::Value as Yaml;

use super::diagnostic::{Code, Diagnostic, Place, Text, TextKind};
use super::yaml::{self, Node, Value};
use super::{MAX_BYTES, shown};

/// Levels of files that include files.
const MAX_DEPTH: usize = 8;
/// Files of one config.
const MAX_FILES: usize = 64;

/// What a config includes.
#[derive(Debug, Default)]
pub(super) struct Included {
    /// The trees in order: a later one overrides an earlier one.
    pub roots: Vec<Node>,
    /// Why something could not be included.
    pub problems: Vec<Diagnostic>,
    /// Whether a file could not be included, or not to its end.
    pub incomplete: bool,
}

struct IncludeReader<'a> {
    /// The folder of the config, as it is named, which is not left; `None`: no includes.
    top: Option<&'a Path>,
    /// Whether it is a part, whose own folder says nothing of what those that include it may include.
    part: bool,
    texts: &'a mut Vec<Text>,
    found: Included,
    /// Device and inode of every file that was read.
    seen: Vec<(u64, u64)>,
    /// Those whose own includes are just looked at.
    within: Vec<(u64, u64)>,
}

/// Follows the includes of the config `path` with the tree `root`; without a path it can have none. The texts are added to
/// `texts`, which has the config's own.
pub(super) fn follow(path: Option<&Path>, root: &Node, texts: &mut Vec<Text>) -> Included {
    if root.get("include").is_none() {
        return Included::default();
    }
    let top = path.map(|path| path.parent().unwrap_or(Path::new("")));
    let part = matches!(root.get("part").map(|part| &part.value), Some(Value::Scalar { text, .. }) if text == "true");
    let itself = path.and_then(|path| rustix::fs::stat(path).ok()).map(|stat| (stat.st_dev, stat.st_ino));
    let within: Vec<_> = itself.into_iter().collect();
    let mut reader = IncludeReader { top, part, texts, found: Included::default(), seen: within.clone(), within };
    reader.includes(root, Path::new(""));
    reader.found
}

impl IncludeReader<'_> {
    /// What `root` includes; `folder` is where its file is, below the top.
    fn includes(&mut self, root: &Node, folder: &Path) {
        let Some(include) = root.get("include") else { return };
        let one = std::slice::from_ref(include);
        // It has been reported, and what it would include is not known
        self.found.incomplete |= matches!(include.value, Value::Broken);
        for node in if let Value::List(items) = &include.value { items } else { one } {
            let name = if matches!(node.value, Value::Scalar { .. }) { node.to_yaml() } else { Yaml::Null };
            let included = match name.as_str() {
                None if matches!(node.value, Value::Broken) => Ok(()),
                Some(name) if !name.is_empty() => self.include(name, folder),
                None if node.place.text == 0 => Ok(()), // the structure's check says so
                _ => Err("`include` must be the path of a file, or a list of paths".into()),
            };
            if let Err(what) = included {
                self.found.incomplete = true;
                self.found.problems.push(Diagnostic::new(Code::Include, node.place, what));
            }
        }
    }

    fn include(&mut self, name: &str, folder: &Path) -> Result<(), String> {
        let Some(top) = self.top else {
            return Err("a config from standard input can't include files: write it to a file".into());
        };
        if Path::new(name).is_absolute() {
            return Err("an included path must be relative to this file's directory: remove the `/` in front".into());
        }
        let path = folder.join(name);
        let (file, id) = match open_below(top, &path)? {
            Some(found) => found,
            None if self.part => return Ok(()), // the configs that include it are checked with it
            None => return Err("the path is outside the config's directory: move the file into it".into()),
        };
        if self.within.contains(&id) {
            return Err("this file includes itself, directly or through other files: remove one of the includes".into());
        }
        if self.seen.contains(&id) {
            return Ok(()); // once is enough
        }
        if self.within.len() > MAX_DEPTH {
            return Err(format!("includes are nested more than {MAX_DEPTH} deep: include the file directly"));
        }
        if self.seen.len() >= MAX_FILES {
            return Err(format!("a config can include at most {MAX_FILES} files: remove some includes"));
        }
        let content = read(file)?;
        self.seen.push(id);
        // Nothing may be shown of a file that is none of ours
        if !content.lines().any(says_version) {
            return Err("the file is not an ebpf-run config: it has no line `version: 1`".into());
        }
        let text = self.texts.len();
        self.texts.push(Text::new(TextKind::Included, shown(&normal(&top.join(&path))), content));
        let (root, mut problems) = yaml::parse(&self.texts[text].content);
        problems.extend(super::syntax::refused_by_loader(&self.texts[text].content).filter(|_| problems.is_empty()));
        for problem in &mut problems {
            problem.place.text = text;
        }
        self.found.problems.append(&mut problems);
        let Some(mut root) = root else {
            self.found.incomplete = true;
            return Ok(());
        };
        root.relocate(&|place| Place { text, ..place });
        if !matches!(root.value, Value::Map(_) | Value::Broken) {
            return Err("the file is not an ebpf-run config: it is not a mapping".into());
        }
        self.within.push(id);
        self.includes(&root, path.parent().unwrap_or(Path::new("")));
        self.within.pop();
        if let Value::Map(entries) = &mut root.value {
            entries.retain(|(key, _)| key.name != "include" && key.name != "part");
        }
        self.found.roots.push(root);
        Ok(())
    }
}

/// An open file with its device and inode.
type OpenInclude = (File, (u64, u64));

/// Opens the file `path` below `top`; `None` if it is somewhere else.
fn open_below(top: &Path, path: &Path) -> Result<Option<OpenInclude>, String> {
    let unreadable = |error: io::Error| format!("can't read the file: {error}");
    let top = if top.as_os_str().is_empty() { Path::new(".") } else { top };
    let folder = open(top, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let folder = folder.map_err(|error| unreadable(error.into()))?;
    // Without NONBLOCK a pipe would keep us waiting
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let below = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(&folder, path, flags, Mode::empty(), below) {
        Ok(file) => file,
        Err(Errno::XDEV) => return Ok(None),
        Err(Errno::NOSYS) => {
            return Err(
                "this kernel can't open included files safely (openat2, Linux 5.6): write all into one file".into()
            );
        }
        Err(error) => return Err(unreadable(error.into())),
    };
    let stat = fstat(&file).map_err(|error| unreadable(error.into()))?;
    let is_yaml = |path: &Path| [Some(OsStr::new("yaml")), Some(OsStr::new("yml"))].contains(&path.extension());
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("not a regular file".into());
    }
    if !is_yaml(path) || !is_yaml(&own_name(&file).map_err(unreadable)?) {
        return Err("an included file must be called *.yaml or *.yml, also where a link points to".into());
    }
    Ok(Some((File::from(file), (stat.st_dev, stat.st_ino))))
}

/// Where the open file really is.
fn own_name(file: &OwnedFd) -> io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let name = rustix::fs::readlinkat(CWD, link, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(name.as_bytes())))
}

fn read(file: File) -> Result<String, String> {
    let mut bytes = Vec::new();
    match file.take(MAX_BYTES + 1).read_to_end(&mut bytes) {
        Err(error) => Err(format!("can't read the file: {error}")),
        Ok(size) if size as u64 > MAX_BYTES => Err(format!("the file is larger than {MAX_BYTES} bytes")),
        Ok(_) => super::decode(bytes).map_err(|error| format!("can't read the file: {}", error.what)),
    }
}

/// Whether what is wrong with the config `path` may be shown with its lines: behind a link, which others may have made, only
/// if it says that it is a config.
pub(super) fn may_be_shown(path: &Path, text: &str) -> Result<(), String> {
    if path.is_symlink() && !text.lines().any(says_version) {
        return Err("it is a link to a file that is not an ebpf-run config: that has no line `version: 1`".into());
    }
    Ok(())
}

/// Whether a line says that the file is a config.
fn says_version(line: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}');
    let value = line.strip_prefix("version:").unwrap_or_default();
    value.split(" #").next().is_some_and(|value| value.trim() == "1")
}

/// Without `.` and, where that is possible, without `..`: for the eye only.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            Component::CurDir if !out.as_os_str().is_empty() => {}
            component => out.push(component),
        }
    }
    out
}
