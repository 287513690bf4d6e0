//! The way to a file, folder by folder: nobody but the runner and root may be able to lead it elsewhere.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, Stat, fstat, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Links that a path may have, as many as the kernel follows.
const MAX_LINKS: usize = 40;

const FOLLOW_NONE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How much a path is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Folders that others can write to, and links that others made, are refused.
    Checked,
    /// `allow_unsafe_path: true`
    Blind,
}

/// A folder that is open, and a name in it.
#[derive(Debug)]
pub struct Folder {
    /// The folder.
    pub fd: OwnedFd,
    /// The file's name in it.
    pub name: OsString,
    /// The folder for messages.
    pub path: PathBuf,
}

/// Why a way is not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to do, where that can be said.
    pub hint: Option<String>,
    /// The system's word, where it is the system that refuses.
    pub errno: Option<Errno>,
}

impl Problem {
    fn new(message: String, hint: &str) -> Self {
        Problem { message, hint: Some(hint.into()), errno: None }
    }

    fn system(folder: &Path, errno: Errno) -> Self {
        let message = match errno {
            Errno::NOENT => format!("there is no folder {}", folder.display()),
            Errno::NOTDIR => format!("{} is no folder", folder.display()),
            Errno::ACCESS => format!("permission denied for the folder {}", folder.display()),
            other => format!("the folder {}: {other}", folder.display()),
        };
        let hint = (errno == Errno::NOENT).then(|| "create the folder first".into());
        Problem { message, hint, errno: Some(errno) }
    }
}

impl Folder {
    /// Opens the folder of `path`, following it name by name. A relative path starts in the working folder, which whoever
    /// started the runner has chosen.
    ///
    /// # Errors
    /// If a folder is missing, or if others could lead the way elsewhere.
    pub fn of(path: &Path, trust: Trust) -> Result<Self, Problem> {
        let name = match path.components().next_back() {
            Some(Component::Normal(name)) if !path.as_os_str().as_bytes().ends_with(b"/") => name.to_owned(),
            _ => {
                let hint = "write the file's own name behind it";
                return Err(Problem::new(format!("{} is a directory", path.display()), hint));
            }
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let walked = Walk { trust, links: 0 }.walk(parent)?;
        // What was walked can only be searched; to be flushed it must be read
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&walked, c".", flags, Mode::empty()).map_err(|errno| Problem::system(parent, errno))?;
        Ok(Folder { fd, name, path: parent.to_owned() })
    }
}

struct Walk {
    trust: Trust,
    links: usize,
}

impl Walk {
    fn walk(&mut self, path: &Path) -> Result<OwnedFd, Problem> {
        let start = if path.is_absolute() { Path::new("/") } else { Path::new(".") };
        let mut shown = start.to_owned();
        let open = |at: &OsStr| openat(CWD, at, FOLLOW_NONE | OFlags::DIRECTORY, Mode::empty());
        let mut folder = open(start.as_os_str()).map_err(|errno| Problem::system(start, errno))?;
        self.check(&folder, &shown, false)?;
        // Names that are still to be followed, the next one last
        let mut names: Vec<OsString> = reversed(path);
        while let Some(name) = names.pop() {
            let sticky = fstat(&folder).is_ok_and(|stat| stat.st_mode & 0o1002 == 0o1002);
            let next_shown = shown.join(&name);
            let next = openat(&folder, name.as_os_str(), FOLLOW_NONE, Mode::empty())
                .map_err(|errno| Problem::system(&next_shown, errno))?;
            let stat = fstat(&next).map_err(|errno| Problem::system(&next_shown, errno))?;
            match stat.st_mode & 0o170_000 {
                0o120_000 => {
                    self.check_link(&stat, &next_shown)?;
                    let target = readlinkat(&folder, name.as_os_str(), Vec::new());
                    let target = target.map_err(|errno| Problem::system(&next_shown, errno))?;
                    let target = Path::new(OsStr::from_bytes(target.as_bytes())).to_owned();
                    if target.is_absolute() {
                        folder = open(OsStr::new("/")).map_err(|errno| Problem::system(Path::new("/"), errno))?;
                        shown = PathBuf::from("/");
                    }
                    names.extend(reversed(&target));
                }
                0o040_000 => {
                    self.check(&next, &next_shown, sticky)?;
                    (folder, shown) = (next, next_shown);
                }
                _ => return Err(Problem::system(&next_shown, Errno::NOTDIR)),
            }
        }
        Ok(folder)
    }

    /// A link leads where its owner wants.
    fn check_link(&mut self, stat: &Stat, shown: &Path) -> Result<(), Problem> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Problem::system(shown, Errno::LOOP));
        }
        if self.trust == Trust::Checked && !is_trusted(stat) {
            let what =
                format!("{} is a symbolic link of user {}, who can lead it anywhere", shown.display(), stat.st_uid);
            return Err(Problem::new(what, "name the folder itself, or set `allow_unsafe_path: true`"));
        }
        Ok(())
    }

    /// Whoever can write to a folder can put something else in the place of what is in it; not so in one with the sticky
    /// bit, whose folders belong to those who made them (`sticky`: this one is in such a folder).
    fn check(&self, folder: &OwnedFd, shown: &Path, sticky: bool) -> Result<(), Problem> {
        if self.trust == Trust::Blind {
            return Ok(());
        }
        let stat = fstat(folder).map_err(|errno| Problem::system(shown, errno))?;
        if stat.st_mode & 0o002 != 0 && stat.st_mode & 0o1000 == 0 {
            let what = format!("everybody can write to the folder {}, and put a link in the way", shown.display());
            let hint = format!("`chmod o-w {}`, another folder, or `allow_unsafe_path: true`", shown.display());
            return Err(Problem::new(what, &hint));
        }
        if sticky && !is_trusted(&stat) {
            let what = format!(
                "the folder {} belongs to user {}, and everybody can make one there",
                shown.display(),
                stat.st_uid
            );
            return Err(Problem::new(what, "use a folder of your own, or set `allow_unsafe_path: true`"));
        }
        Ok(())
    }
}

/// Whether it belongs to root or to this user.
fn is_trusted(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
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
        Folder::of(&file, Trust::Checked).expect("nothing is wrong with it");
        mode(&open, 0o777);
        let problem = Folder::of(&file, Trust::Checked).expect_err("everybody can write there");
        assert!(problem.message.contains(&format!("the folder {},", open.display())), "{problem:?}");
        assert!(problem.hint.is_some_and(|hint| hint.contains("allow_unsafe_path: true")));
        Folder::of(&file, Trust::Blind).expect("it was asked for");
        mode(&open, 0o1777);
        Folder::of(&file, Trust::Checked).expect("what is in it is safe from others");
    }

    #[test]
    fn links_of_one_s_own_are_followed_and_those_of_others_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("real/inner")).expect("folders");
        symlink("real/../real", folder.path().join("link")).expect("a link");
        let file = folder.path().join("link/inner/file");
        let found = Folder::of(&file, Trust::Checked).expect("it is one's own");
        assert_eq!(found.name, "file");
        symlink("loop", folder.path().join("loop")).expect("a link");
        let error = Folder::of(&folder.path().join("loop/x"), Trust::Checked).expect_err("it never ends");
        assert_eq!(error.errno, Some(Errno::LOOP));
        if geteuid().is_root() {
            lchown(folder.path().join("link"), Some(65534), Some(65534)).expect("root may");
            let problem = Folder::of(&file, Trust::Checked).expect_err("it is somebody else's");
            assert!(problem.message.contains("link of user 65534"), "{problem:?}");
        }
    }

    #[test]
    fn what_is_missing_or_no_folder_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), "").expect("a file");
        let message = |path: &str| Folder::of(&folder.path().join(path), Trust::Checked).expect_err("wrong").message;
        assert!(message("no/such/file").contains("there is no folder"));
        assert!(message("file/x").contains("is no folder"));
        assert!(message("file/").contains("is a directory"));
    }
}
