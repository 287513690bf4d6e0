//! The directories on the path of a file, each checked on the descriptor that is then used: no other user can redirect
//! the file to a path of his choice.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FsWord, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::atomic::PARTIAL;

/// Limit of links in a path, as in the kernel.
const MAX_LINKS: usize = 40;

const FOLLOW_NONE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// File systems by their fstatfs(2) type.
const PROC: FsWord = 0x9fa0;
const FUSE: FsWord = 0x6573_5546;

/// How much a path is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathPolicy {
    /// Rejects directories that every user can write to, and path components that another user may have created.
    Checked,
    /// Like `Checked`, but below a directory of another user or group, that user or group decides. For small files
    /// without secrets, in a directory that the command line names.
    Named,
    /// `allow_unsafe_path: true`
    Unchecked,
}

/// An open directory, and a name in it.
#[derive(Debug)]
pub struct ParentDir {
    /// The descriptor of the directory.
    pub fd: OwnedFd,
    /// The file's name in it.
    pub name: OsString,
    /// The path of the directory, for messages.
    pub path: PathBuf,
}

/// Why a path is rejected.
#[derive(Debug, PartialEq, Eq)]
pub struct PathProblem {
    /// What is wrong.
    pub message: String,
    /// What to do, if known.
    pub hint: Option<String>,
    /// The system's error, if there is one.
    pub errno: Option<Errno>,
}

impl PathProblem {
    fn new(message: String, hint: &str) -> Self {
        PathProblem { message, hint: Some(hint.into()), errno: None }
    }

    fn system(folder: &Path, errno: Errno) -> Self {
        let message = match errno {
            Errno::NOENT => format!("there is no directory {}", folder.display()),
            Errno::NOTDIR => format!("{} is not a directory", folder.display()),
            Errno::ACCESS => format!("permission denied for the directory {}", folder.display()),
            other => format!("the directory {}: {other}", folder.display()),
        };
        let hint = (errno == Errno::NOENT).then(|| "create the directory first".into());
        PathProblem { message, hint, errno: Some(errno) }
    }
}

impl ParentDir {
    /// Opens the directory of `path` component by component. A relative path starts in the working directory, which the
    /// user who started the runner has chosen.
    ///
    /// # Errors
    /// If a directory does not exist, if another user could redirect the file, or if the file's name is reserved for
    /// incomplete files.
    pub fn of(path: &Path, trust: PathPolicy) -> Result<Self, PathProblem> {
        let name = match path.components().next_back() {
            Some(Component::Normal(name)) if !path.as_os_str().as_bytes().ends_with(b"/") => name.to_owned(),
            _ => {
                let hint = "add the name of a file";
                return Err(PathProblem::new(format!("{} is a directory", path.display()), hint));
            }
        };
        let text = name.to_string_lossy();
        if text.ends_with(PARTIAL) || text.contains(&format!("{PARTIAL}-")) {
            let message = format!("names that end with `{PARTIAL}` are reserved for incomplete files");
            return Err(PathProblem::new(message, "choose another name"));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let walked = PathWalk { trust, links: 0 }.walk(parent)?;
        // The descriptors of the walk are O_PATH; a flush requires a readable one
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&walked, c".", flags, Mode::empty()).map_err(|errno| PathProblem::system(parent, errno))?;
        Ok(ParentDir { fd, name, path: parent.to_owned() })
    }
}

struct PathWalk {
    trust: PathPolicy,
    links: usize,
}

/// A directory on the path.
struct PathStep {
    fd: OwnedFd,
    path: PathBuf,
    /// Another user can create entries in it, or replace its entries.
    is_shared: bool,
}

impl PathWalk {
    fn walk(&mut self, path: &Path) -> Result<OwnedFd, PathProblem> {
        let mut at = self.start(Path::new(if path.is_absolute() { "/" } else { "." }))?;
        // The names that are left, the next one last
        let mut names: Vec<OsString> = reversed(path);
        while let Some(name) = names.pop() {
            let path = at.path.join(&name);
            let system = |errno| PathProblem::system(&path, errno);
            let next = openat(&at.fd, name.as_os_str(), FOLLOW_NONE, Mode::empty()).map_err(system)?;
            let stat = fstat(&next).map_err(system)?;
            match stat.st_mode & 0o170_000 {
                0o120_000 => {
                    self.check_link(&stat, &path, at.is_shared)?;
                    // By descriptor: the name could be another link now
                    let target = readlinkat(&next, c"", Vec::new()).map_err(system)?;
                    let target = Path::new(OsStr::from_bytes(target.as_bytes())).to_owned();
                    if target.is_absolute() {
                        self.check_of_process(&at.fd, &path)?;
                        at = self.start(Path::new("/"))?;
                    }
                    names.extend(reversed(&target));
                }
                0o040_000 => at = self.step(next, path, at.is_shared)?,
                _ => return Err(system(Errno::NOTDIR)),
            }
        }
        Ok(at.fd)
    }

    fn start(&self, path: &Path) -> Result<PathStep, PathProblem> {
        let open = openat(CWD, path, FOLLOW_NONE | OFlags::DIRECTORY, Mode::empty());
        self.step(open.map_err(|errno| PathProblem::system(path, errno))?, path.to_owned(), false)
    }

    /// The owner of a link controls its target. With a hard link, another user could have moved any link of root's to
    /// this path.
    fn check_link(&mut self, stat: &Stat, path: &Path, in_shared: bool) -> Result<(), PathProblem> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(PathProblem::system(path, Errno::LOOP));
        }
        if self.trust == PathPolicy::Unchecked {
            return Ok(());
        }
        let shown = path.display();
        let what = if !is_trusted(stat) {
            format!("{shown} is a symbolic link of user {}, who can point it anywhere", stat.st_uid)
        } else if in_shared && stat.st_nlink > 1 {
            format!("{shown} is a symbolic link with several hard links, in a directory that other users can write to")
        } else {
            return Ok(());
        };
        Err(PathProblem::new(what, "use the path of the directory itself"))
    }

    /// The text of /proc links such as `root` and `fd/3` is only informational: it does not lead to the link's target.
    fn check_of_process(&self, at: &OwnedFd, path: &Path) -> Result<(), PathProblem> {
        if is_on(at, PROC) {
            let what =
                format!("{} is a link in /proc, whose target can differ from the path that it shows", path.display());
            return Err(PathProblem::new(what, "use the path of the directory itself"));
        }
        Ok(())
    }

    /// Continues in `fd`. Rejects what another user has put into a shared directory. A directory is shared if its owner
    /// is another user or if its group can write to it; also one with the sticky bit that every user can write to,
    /// although its existing entries can't be replaced.
    fn step(&self, fd: OwnedFd, path: PathBuf, in_shared: bool) -> Result<PathStep, PathProblem> {
        if self.trust == PathPolicy::Unchecked {
            return Ok(PathStep { fd, path, is_shared: false });
        }
        let stat = fstat(&fd).map_err(|errno| PathProblem::system(&path, errno))?;
        let shown = path.display();
        if stat.st_mode & 0o002 != 0 && stat.st_mode & 0o1000 == 0 {
            let what = format!("every user can write to the directory {shown} and replace its files");
            return Err(PathProblem::new(what, &format!("`chmod o-w {shown}`, or use another directory")));
        }
        if in_shared && !is_trusted(&stat) {
            let what = format!(
                "the directory {shown} belongs to user {} and is in a directory that other users can write to",
                stat.st_uid
            );
            return Err(PathProblem::new(what, "use a directory whose parent only you and root can write to"));
        }
        // Its server may refuse the first fstat
        if fstatfs(&fd).map_or(true, |stat| stat.f_type == FUSE)
            && let Some(user) = fuse_user(&fd).filter(|user| !is_trusted_user(*user))
        {
            let what = format!("the directory {shown} is on a FUSE file system of user {user}");
            return Err(PathProblem::new(what, "use another directory"));
        }
        let is_shared = match self.trust {
            PathPolicy::Checked => !is_trusted(&stat) || stat.st_mode & 0o022 != 0,
            PathPolicy::Named | PathPolicy::Unchecked => stat.st_mode & 0o002 != 0,
        };
        Ok(PathStep { fd, path, is_shared })
    }
}

fn is_on(fd: &OwnedFd, file_system: FsWord) -> bool {
    fstatfs(fd).is_ok_and(|stat| stat.f_type == file_system)
}

/// The user who has mounted the FUSE file system of `fd`, who controls the owners and links that it shows. `None`
/// without /proc.
fn fuse_user(fd: &OwnedFd) -> Option<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let mounts = String::from_utf8_lossy(&mounts);
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(mount))?;
    // The file system's own options follow the last space
    line.rsplit(' ').next()?.split(',').find_map(|option| option.strip_prefix("user_id="))?.parse().ok()
}

/// Whether it belongs to root or to this user.
fn is_trusted(stat: &Stat) -> bool {
    is_trusted_user(stat.st_uid)
}

fn is_trusted_user(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

/// The names in a path, the first one last.
fn reversed(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests;
