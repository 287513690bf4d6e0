//! The crate's error type: a message, a hint on what to do, and the exit code.

use std::fmt;
use std::process::ExitCode;

/// Why a run failed. Each kind has a stable exit code, documented in `docs/reference/exit-codes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An unexpected error; the message has the details.
    Failed,
    /// The config or the command line is wrong; nothing was loaded.
    Config,
    /// More was lost than `max_loss` allows; the other records were written.
    Loss,
    /// A probe can't run on this kernel; nothing stays attached.
    Unsupported,
    /// This kernel has everything that a probe requires and rejects it; nothing stays attached.
    Broken,
    /// A capability is missing, or a kernel setting does not permit it.
    NotPermitted,
    /// Another run holds the lock.
    Skipped,
    /// The counts of kernel and userspace do not reconcile: data may be missing without a count.
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

/// An error as it is printed: `message` says what is wrong and where, `hint` what to do; `detail` is for `--verbose`.
#[derive(Debug, Clone)]
pub struct Error {
    /// Decides the exit code.
    pub kind: Kind,
    /// One sentence; for a config, all of its problems with their positions.
    pub message: String,
    /// What the user can do.
    pub hint: Option<String>,
    /// Messages of the kernel or of a library, several lines.
    pub detail: Option<String>,
}

/// The result type of this crate's fallible functions.
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

    /// Adds what the user can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what only `--verbose` prints.
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
