//! The keys of a sink that are about its files.

use serde::Deserialize;

use super::quantity::{Bytes, Nanoseconds};

/// How a sink's files are made, how many there are, and what becomes of them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Files {
    /// File to write to, a template of `name`, `host`, `start`, `labels` and `probe`; `${NAME}` stands for a variable of the
    /// environment. Default: `-`, standard output.
    #[cfg_attr(test, schemars(extend("x-environment" = true)))]
    pub path: Option<String>,
    /// Permissions of the file, octal. Default: 0640.
    #[cfg_attr(test, schemars(extend("format" = "mode")))]
    pub mode: Option<String>,
    /// User that the file belongs to, by name or number. Default: who runs the capture.
    pub owner: Option<String>,
    /// Group that the file belongs to, by name or number. Default: that of who runs the capture.
    pub group: Option<String>,
    /// When another file is begun within a window.
    pub rotate: Option<Rotate>,
    /// Which of the files of this and earlier windows stay; those that any of the three is against are removed.
    pub keep: Option<Keep>,
    /// How a file is compressed once it is whole.
    pub compress: Option<Compress>,
    /// End the window when the file system of the file has less room than this.
    pub min_free: Option<Bytes>,
    /// Write through folders and links that others can change.
    pub allow_unsafe_path: Option<bool>,
}

/// When another file is begun: at the first of what is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("minProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// When a file has so many bytes.
    pub size: Option<Bytes>,
    /// When a file is so old.
    pub every: Option<Nanoseconds>,
}

/// Which files stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("minProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// So many, the newest.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub files: Option<u32>,
    /// Those that were last written to within this time.
    pub age: Option<Nanoseconds>,
    /// The newest that have so many bytes together.
    pub bytes: Option<Bytes>,
}

/// Ways to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Compress {
    /// Fast and small: `.zst` is put behind the name.
    Zstd,
    /// What everything reads: `.gz` is put behind the name.
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
            Err(format!("`{text}` has more than permissions: write for instance `0640`"))
        }
        Some(mode) if mode & 0o600 != 0o600 => {
            Err(format!("with `{text}` its own owner could not read and write the file"))
        }
        Some(mode) if mode & 0o002 != 0 => Err(format!("with `{text}` everybody could write to the file")),
        Some(mode) => Ok(mode),
        None => Err(format!("`{text}` is no mode of a file: write it octal, for instance `0640`")),
    }
}

#[cfg(test)]
mod tests;
