//! The directories on the way to a file, each checked on the descriptor that is then used: no other user may lead a file to a
//! place of his choice.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FsWord, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::atomic::PARTIAL;

/// Links that a path may have, as many as the kernel follows.
const MAX_LINKS: usize = 40;

const FOLLOW_NONE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// File systems by what fstatfs(2) reports.
const PROC: FsWord = 0x9fa0;
const FUSE: FsWord = 0x6573_5546;

/// How much a path is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathPolicy {
    /// Directories that any user can write to are refused, and so is what another user may have put into the way.
    Checked,
    /// The same, but below a directory of another user, or of a group, that user or group decides. For small files without
    /// secrets, in a directory that the command line names.
    Named,
    /// `allow_unsafe_path: true`
    Unchecked,
}

/// A folder that is open, and a name in it.
#[derive(Debug)]
pub struct ParentDir {
    /// The folder.
    pub fd: OwnedFd,
    /// The file's name in it.
    pub name: OsString,
    /// The folder for messages.
    pub path: PathBuf,
}

/// Why a way is not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct PathProblem {
    /// What is wrong.
    pub message: String,
    /// What to do, where that can be said.
    pub hint: Option<String>,
    /// The system's word, where it is the system that refuses.
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
    /// Opens the directory of `path`, following it name by name. A relative path starts in the working directory, which
    /// the user who started the runner has chosen.
    ///
    /// # Errors
    /// If a directory is missing, if another user could lead the file elsewhere, or if the file's name is one of those that
    /// files have before they are complete.
    pub fn of(path: &Path, trust: PathPolicy) -> Result<Self, PathProblem> {
        let name = match path.components().next_back() {
            Some(Component::Normal(name)) if !path.as_os_str().as_bytes().ends_with(b"/") => name.to_owned(),
            _ => {
                let hint = "write the file's own name behind it";
                return Err(PathProblem::new(format!("{} is a directory", path.display()), hint));
            }
        };
        let text = name.to_string_lossy();
        if text.ends_with(PARTIAL) || text.contains(&format!("{PARTIAL}-")) {
            let message = format!("names with `{PARTIAL}` at the end are for files that are not complete");
            return Err(PathProblem::new(message, "give the file another name"));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let walked = PathWalk { trust, links: 0 }.walk(parent)?;
        // What was walked can only be searched; to be flushed it must be read
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&walked, c".", flags, Mode::empty()).map_err(|errno| PathProblem::system(parent, errno))?;
        Ok(ParentDir { fd, name, path: parent.to_owned() })
    }
}

struct PathWalk {
    trust: PathPolicy,
    links: usize,
}

/// A directory on the way.
struct PathStep {
    fd: OwnedFd,
    path: PathBuf,
    /// Another user can put something into it, or put something in the place of what is in it.
    is_shared: bool,
}

impl PathWalk {
    fn walk(&mut self, path: &Path) -> Result<OwnedFd, PathProblem> {
        let mut at = self.start(Path::new(if path.is_absolute() { "/" } else { "." }))?;
        // Names that are still to be followed, the next one last
        let mut names: Vec<OsString> = reversed(path);
        while let Some(name) = names.pop() {
            let path = at.path.join(&name);
            let system = |errno| PathProblem::system(&path, errno);
            let next = openat(&at.fd, name.as_os_str(), FOLLOW_NONE, Mode::empty()).map_err(system)?;
            let stat = fstat(&next).map_err(system)?;
            match stat.st_mode & 0o170_000 {
                0o120_000 => {
                    self.check_link(&stat, &path, at.is_shared)?;
                    // Of the descriptor: by its name it could be another link by now
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

    /// A link leads where its owner wants. With another name of it (a hard link), a user could have taken any link of
    /// root's for this place.
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
            format!("{shown} is a symbolic link of user {}, who can lead it anywhere", stat.st_uid)
        } else if in_shared && stat.st_nlink > 1 {
            format!("{shown} is a symbolic link with several names, in a directory that other users can write to")
        } else {
            return Ok(());
        };
        Err(PathProblem::new(what, "name the directory itself"))
    }

    /// The text of such links in /proc as `root` and `fd/3` is only for people: it does not lead where the link does.
    fn check_of_process(&self, at: &OwnedFd, path: &Path) -> Result<(), PathProblem> {
        if is_on(at, PROC) {
            let what = format!("{} is a link of a process, which may lead elsewhere than it reads", path.display());
            return Err(PathProblem::new(what, "name the directory itself"));
        }
        Ok(())
    }

    /// Goes on in `fd`. What another user has put into a shared directory is refused. A directory whose owner is another user,
    /// or whose group can write to it, is shared; so is one with the sticky bit that every user can write to, though
    /// nothing can take the place of what is in it already.
    fn step(&self, fd: OwnedFd, path: PathBuf, in_shared: bool) -> Result<PathStep, PathProblem> {
        if self.trust == PathPolicy::Unchecked {
            return Ok(PathStep { fd, path, is_shared: false });
        }
        let stat = fstat(&fd).map_err(|errno| PathProblem::system(&path, errno))?;
        let shown = path.display();
        if stat.st_mode & 0o002 != 0 && stat.st_mode & 0o1000 == 0 {
            let what = format!("every user can write to the directory {shown}, and replace what is in it");
            return Err(PathProblem::new(what, &format!("`chmod o-w {shown}`, or use another directory")));
        }
        if in_shared && !is_trusted(&stat) {
            let what = format!(
                "the directory {shown} belongs to user {}, and is in one that other users can write to",
                stat.st_uid
            );
            return Err(PathProblem::new(what, "use a directory in one that only you and root can write to"));
        }
        // Its server may refuse to answer the first question
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

/// The user who has mounted the FUSE file system of `fd`: he decides what owners and links it shows. Without /proc it is not
/// known.
fn fuse_user(fd: &OwnedFd) -> Option<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let mounts = String::from_utf8_lossy(&mounts);
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(mount))?;
    // The file system's own options are behind the last space
    line.rsplit(' ').next()?.split(',').find_map(|option| option.strip_prefix("user_id="))?.parse().ok()
}

/// Whether it belongs to root or to this user.
fn is_trusted(stat: &Stat) -> bool {
    is_trusted_user(stat.st_uid)
}

fn is_trusted_user(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

/// The names of a path, the first one last.
fn reversed(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is there");
    }

    #[test]
    fn a_folder_that_everybody_can_write_to_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = folder.path().join("open");
        fs::create_dir_all(open.join("inner")).expect("folders");
        let file = open.join("inner/file");
        ParentDir::of(&file, PathPolicy::Checked).expect("nothing is wrong with it");
        mode(&open, 0o777);
        let problem = ParentDir::of(&file, PathPolicy::Checked).expect_err("everybody can write there");
        assert!(problem.message.contains(&format!("the directory {},", open.display())), "{problem:?}");
        assert!(problem.hint.is_some_and(|hint| hint.contains("chmod o-w")));
        ParentDir::of(&file, PathPolicy::Unchecked).expect("it was asked for");
        mode(&open, 0o1777);
        ParentDir::of(&file, PathPolicy::Checked).expect("what is in it is safe from others");
    }

    #[test]
    fn links_of_one_s_own_are_followed_and_those_of_others_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("real/inner")).expect("folders");
        symlink("real/../real", folder.path().join("link")).expect("a link");
        let file = folder.path().join("link/inner/file");
        let found = ParentDir::of(&file, PathPolicy::Checked).expect("it is one's own");
        assert_eq!(found.name, "file");
        symlink("loop", folder.path().join("loop")).expect("a link");
        let error = ParentDir::of(&folder.path().join("loop/x"), PathPolicy::Checked).expect_err("it never ends");
        assert_eq!(error.errno, Some(Errno::LOOP));
        if geteuid().is_root() {
            lchown(folder.path().join("link"), Some(65534), Some(65534)).expect("root may");
            let problem = ParentDir::of(&file, PathPolicy::Checked).expect_err("it is somebody else's");
            assert!(problem.message.contains("link of user 65534"), "{problem:?}");
        }
    }

    /// Of directories that other users can change, only what root and the runner have put there is followed.
    #[test]
    fn in_a_shared_directory_only_ones_own_is_followed() {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root can give files away");
            return;
        }
        let theirs = Some(65534);
        for (owner, permissions) in [(theirs, 0o755), (None, 0o775), (None, 0o1777), (theirs, 0o1777)] {
            let folder = tempfile::tempdir().expect("a folder");
            let shared = folder.path().join("shared");
            for name in ["own", "theirs", "shared/own", "shared/theirs"] {
                fs::create_dir_all(folder.path().join(name)).expect("a folder");
            }
            symlink("own", shared.join("link")).expect("a link");
            symlink(folder.path().join("own"), shared.join("away")).expect("a link");
            for name in ["theirs", "shared/theirs"] {
                lchown(folder.path().join(name), theirs, theirs).expect("root may");
            }
            lchown(&shared, owner, theirs).expect("root may");
            mode(&shared, permissions);
            let at = |path: &str| ParentDir::of(&folder.path().join(path), PathPolicy::Checked);
            for path in ["theirs/x", "shared/x", "shared/own/x", "shared/link/x", "shared/away/x", "shared/../own/x"] {
                at(path).unwrap_or_else(|problem| panic!("{permissions:o} {path}: {problem:?}"));
            }
            let problem = at("shared/theirs/x").expect_err("they can put another one there");
            assert!(problem.message.contains("belongs to user 65534"), "{problem:?}");
            // A name that another user gave to a link of root's
            fs::hard_link(shared.join("away"), folder.path().join("second")).expect("a name");
            let problem = at("shared/away/x").expect_err("it has two names");
            assert!(problem.message.contains("several names"), "{problem:?}");
            at("second/x").expect("here only root could have made it");
            ParentDir::of(&shared.join("theirs/x"), PathPolicy::Unchecked).expect("it was asked for");
            let named = ParentDir::of(&shared.join("theirs/x"), PathPolicy::Named);
            assert_eq!(named.is_ok(), permissions & 0o002 == 0, "{permissions:o}: any user could have made it");
        }
    }

    #[test]
    fn links_of_processes_and_names_of_incomplete_files_are_refused() {
        for path in ["/proc/self/cwd/x", "/proc/self/root/tmp/x", "/proc/thread-self/cwd/x"] {
            let problem = ParentDir::of(Path::new(path), PathPolicy::Checked).expect_err(path);
            assert!(problem.message.contains("is a link of a process"), "{problem:?}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["x.partial", "x.partial-20260101T000000Z"] {
            let problem = ParentDir::of(&folder.path().join(name), PathPolicy::Unchecked).expect_err(name);
            assert!(problem.message.contains("`.partial`"), "{problem:?}");
        }
        ParentDir::of(&folder.path().join("x.partially"), PathPolicy::Checked).expect("that is another name");
    }

    #[test]
    fn what_is_missing_or_no_folder_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), "").expect("a file");
        let message =
            |path: &str| ParentDir::of(&folder.path().join(path), PathPolicy::Checked).expect_err("wrong").message;
        assert!(message("no/such/file").contains("there is no directory"));
        assert!(message("file/x").contains("is not a directory"));
        assert!(message("file/").contains("is a directory"));
    }
}
