//! The loads that `TRY()` can name: what a process does so that the program has something to record.

/// A small harmless load. `doctor::load` makes it, and knows how many events it causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Executes a program.
    Exec,
    /// Processes end.
    Exit,
    /// Opens a file.
    Open,
    /// Sends a signal to itself.
    Signal,
    /// Connects to itself over TCP.
    Connect,
    /// The same; each connection ends twice, once for each side.
    Connection,
    /// Makes a system call that does nothing.
    Syscall,
    /// Sleeps.
    Sleep,
    /// Keeps a CPU and its caches busy.
    Spin,
    /// Reads a file that is in the page cache.
    CachedRead,
    /// Reads a file from its disk.
    DirectRead,
}

impl Load {
    /// All of them.
    pub const ALL: [Load; 11] = [
        Load::Exec,
        Load::Exit,
        Load::Open,
        Load::Signal,
        Load::Connect,
        Load::Connection,
        Load::Syscall,
        Load::Sleep,
        Load::Spin,
        Load::CachedRead,
        Load::DirectRead,
    ];

    /// The word in `TRY()`.
    pub fn name(self) -> &'static str {
        match self {
            Load::Exec => "exec",
            Load::Exit => "exit",
            Load::Open => "open",
            Load::Signal => "signal",
            Load::Connect => "connect",
            Load::Connection => "connection",
            Load::Syscall => "syscall",
            Load::Sleep => "sleep",
            Load::Spin => "spin",
            Load::CachedRead => "cached_read",
            Load::DirectRead => "direct_read",
        }
    }

    /// The load of that name.
    pub fn by_name(name: &str) -> Option<Load> {
        Load::ALL.into_iter().find(|load| load.name() == name)
    }
}
