//! The keys of a sink for its files.

use serde::Deserialize;

use super::quantity::{Bytes, Nanoseconds};

/// A sink's files: path, permissions, rotation, retention and compression.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Files {
    /// File to write to, a template of `name`, `host`, `start`, `labels` and `probe`. `${NAME}` is a variable of the
    /// environment. Default: `-`, standard output.
    #[cfg_attr(test, schemars(extend("x-environment" = true)))]
    pub path: Option<String>,
    /// Permissions of the file, octal. Default: 0640.
    #[cfg_attr(test, schemars(extend("format" = "mode")))]
    pub mode: Option<String>,
    /// Owner of the file, by name or number. Default: the user who runs the capture.
    pub owner: Option<String>,
    /// Group of the file, by name or number. Default: the group of the user who runs the capture.
    pub group: Option<String>,
    /// When a new file begins within a window. The files are numbered: `io.0001.csv`. Default: one file for each
    /// window.
    pub rotate: Option<Rotate>,
    /// Which files of this and earlier windows are kept; a file that exceeds any of the limits is removed. Checked
    /// before a window begins and when a file is complete; the newest complete file is always kept. Default: all.
    pub keep: Option<Keep>,
    /// How a file is compressed when it is complete: `io.csv.zst`. Default: not at all.
    pub compress: Option<Compress>,
    /// End the window when free disk space falls below this size. With less at the start, the window does not begin
    /// (exit code 1). Default: none.
    pub min_free: Option<Bytes>,
    /// Do not check the directories and links on the path. Default: false.
    pub allow_unsafe_path: Option<bool>,
}

/// When a new file begins: at the first limit that is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("minProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Size of a file; a `csv` file can have 64 KiB more.
    pub size: Option<Bytes>,
    /// Age of a file.
    pub every: Option<Nanoseconds>,
}

/// Which files are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("minProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The newest files, by number.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub files: Option<u32>,
    /// Files that were last written to within this time.
    pub age: Option<Nanoseconds>,
    /// The newest files, by their size together.
    pub bytes: Option<Bytes>,
}

/// Ways to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Compress {
    /// Fast and small; adds `.zst` to the name.
    Zstd,
    /// Read by all tools; adds `.gz` to the name.
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
