//! The keys of a sink for its files.

use serde::Deserialize;

use super::quantity::{Bytes, Nanoseconds};

/// A sink's files: path, permissions, rotation, retention and compression.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Files {
    /// File to write to, a template of `name`, `host`, `start`, `labels` and `probe`; `${NAME}` is replaced by an environment
    /// variable. Default: `-`, standard output.
    #[cfg_attr(test, schemars(extend("x-environment" = true)))]
    pub path: Option<String>,
    /// Permissions of the file, octal. Default: 0640.
    #[cfg_attr(test, schemars(extend("format" = "mode")))]
    pub mode: Option<String>,
    /// Owner of the file, a user by name or number. Default: the user that runs the capture.
    pub owner: Option<String>,
    /// Group of the file, by name or number. Default: the group of the user that runs the capture.
    pub group: Option<String>,
    /// When to begin another file within a window.
    pub rotate: Option<Rotate>,
    /// Retention: which files of this and earlier windows are kept. A file is removed when one of the limits excludes it.
    pub keep: Option<Keep>,
    /// How to compress a finished file. Default: not compressed.
    pub compress: Option<Compress>,
    /// End the window when the file system has less free space than this.
    pub min_free: Option<Bytes>,
    /// Allow directories and links in the path that other users can change. Default: false.
    pub allow_unsafe_path: Option<bool>,
}

/// When to begin another file: at the first limit that is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("minProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// When a file has this size.
    pub size: Option<Bytes>,
    /// When a file has this age.
    pub every: Option<Nanoseconds>,
}

/// Which files are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("minProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The newest files, this many.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub files: Option<u32>,
    /// Files last written to within this time.
    pub age: Option<Nanoseconds>,
    /// The newest files, up to this size together.
    pub bytes: Option<Bytes>,
}

/// Ways to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Compress {
    /// zstd: fast and small; adds `.zst` to the name.
    Zstd,
    /// gzip: read by every tool; adds `.gz` to the name.
    Gzip,
}

impl Compress {
    /// The word for it in a config.
    pub fn name(self) -> &'static str {
        match self {
            Compress::Zstd => "zstd",
            Compress::Gzip => "gzip",
        }
    }

    /// What is put behind a compressed file's name.
    pub fn ending(self) -> &'static str {
        match self {
            Compress::Zstd => ".zst",
            Compress::Gzip => ".gz",
        }
    }
}

/// Permissions out of `0640` or `640`.
///
/// # Errors
/// One sentence that shows how to write it.
pub fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|_| (3..=4).contains(&digits.len()));
    match mode {
        Some(mode) if mode & !0o777 != 0 => {
            Err(format!("`{text}` has bits besides permissions: write for instance `0640`"))
        }
        Some(mode) if mode & 0o600 != 0o600 => {
            Err(format!("with `{text}` the owner can't read and write the file: write for instance `0640`"))
        }
        Some(mode) if mode & 0o002 != 0 => {
            Err(format!("with `{text}` every user can write to the file: write for instance `0640`"))
        }
        Some(mode) => Ok(mode),
        None => Err(format!("`{text}` is not a file mode: write it in octal, for instance `0640`")),
    }
}

#[cfg(test)]
mod tests;
