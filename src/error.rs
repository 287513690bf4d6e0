//! The program's one error type: a sentence for the person who reads it, a hint what to do, and the exit code.

use std::fmt;
use std::process::ExitCode;

/// Why a run did not end well. Each kind has an exit code of its own, stable and documented in `docs/reference/exit-codes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something unexpected; the message says what.
    Failed,
    /// The config or the command line is wrong; nothing was loaded.
    Config,
    /// More was lost than `max_loss` allows; what was caught is there.
    Loss,
    /// A probe can't run on this kernel; nothing stays attached.
    Unsupported,
    /// This kernel has what a probe needs and refuses it nevertheless; nothing stays attached.
    Broken,
    /// A capability or a kernel setting is in the way.
    NotPermitted,
    /// Another run holds the lock.
    Skipped,
    /// What the kernel counted and what userspace counted do not reconcile: data may be missing without a count.
    Unreconciled,
}

impl Kind {
    /// The process's exit status.
    pub fn code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Config => 2,
            Kind::Loss => 3,
            Kind::Unsupported | Kind::Broken => 4,
            Kind::NotPermitted => 5,
            Kind::Skipped => 6,
            Kind::Unreconciled => 7,
        }
    }
}

impl From<Kind> for ExitCode {
    fn from(kind: Kind) -> Self {
        ExitCode::from(kind.code())
    }
}

/// An error as it is shown: `message` says what and where, `hint` what to do, `detail` is for `--verbose`.
#[derive(Debug, Clone)]
pub struct Error {
    /// Decides the exit code.
    pub kind: Kind,
    /// One sentence, or for a config all of its problems with their places.
    pub message: String,
    /// What the reader can do about it.
    pub hint: Option<String>,
    /// The kernel's or a library's own words, several lines.
    pub detail: Option<String>,
}

/// What fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without hint or detail.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None, detail: None }
    }

    /// An error of [`Kind::Failed`].
    pub fn failed(message: impl Into<String>) -> Self {
        Error::new(Kind::Failed, message)
    }

    /// Adds what the reader can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what only `--verbose` shows.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
