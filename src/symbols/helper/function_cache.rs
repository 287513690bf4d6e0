//! A cache of files and their functions.

use std::collections::HashMap;
use std::fs::File;
use std::time::{Duration, Instant};

use rustix::fs::Statx;

use super::elf::{Functions, MAX_FUNCTIONS};
use crate::symbols::wire::UnresolvedCause;

/// Limit of open files.
const MAX_FILES: usize = 128;
/// Limit of functions of all files together, 16 bytes each.
const MAX_HELD: usize = 2 * MAX_FUNCTIONS;
/// A file that was not used for this long is closed: until then its file system can't be unmounted.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// The attributes that identify a file's content: they change if it is replaced or written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileKey {
    device: (u32, u32),
    inode: u64,
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl FileKey {
    /// The key for these attributes.
    pub fn of(stat: &Statx) -> Self {
        FileKey {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }
}

/// Files by their attributes. A file without functions is not cached: it may still be written.
#[derive(Debug, Default)]
pub struct FunctionCache {
    files: HashMap<FileKey, CachedFile>,
}

#[derive(Debug)]
struct CachedFile {
    file: File,
    functions: Functions,
    used: Instant,
}

impl FunctionCache {
    /// The functions of a file; calls `read` if they are not cached.
    ///
    /// # Errors
    /// The errors of `read`.
    pub fn get(
        &mut self,
        key: FileKey,
        read: impl FnOnce() -> Result<(File, Functions), UnresolvedCause>,
    ) -> Result<(&File, &Functions), UnresolvedCause> {
        let now = Instant::now();
        if !self.files.contains_key(&key) {
            let (file, functions) = read()?;
            self.files.retain(|_, known| now.duration_since(known.used) < MAX_IDLE);
            self.make_room(functions.len());
            self.files.insert(key, CachedFile { file, functions, used: now });
        }
        let known = self.files.get_mut(&key).expect("it was just put there");
        known.used = now;
        Ok((&known.file, &known.functions))
    }

    fn make_room(&mut self, wanted: usize) {
        loop {
            let held: usize = self.files.values().map(|known| known.functions.len()).sum();
            if self.files.len() < MAX_FILES && held + wanted <= MAX_HELD {
                return;
            }
            let Some(oldest) = self.files.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| *key) else {
                return;
            };
            self.files.remove(&oldest);
        }
    }
}
