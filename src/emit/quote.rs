//! Quotes text for units, crontabs and shells. Control characters are rejected before this.

use crate::event::text::{is_deceptive, push_shown};

/// Characters that need no quotes in any of the notations.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c)
}

/// An argument in a unit's command line: quotes, C escapes, systemd's specifiers (`%`), variables (`$`).
pub(super) fn argument(text: &str) -> String {
    path(&text.replace('$', "$$"))
}

/// A word in a setting where variables are not expanded: `ReadWritePaths=`, `Environment=`.
pub(super) fn path(text: &str) -> String {
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

/// Free text of a unit, up to the end of the line.
pub(super) fn words(text: &str) -> String {
    let between = |c: char| c.is_whitespace() || c.is_control() || is_deceptive(c);
    let words = text.split(between).filter(|word| !word.is_empty());
    // A backslash at the end would join the next line to this one
    words.collect::<Vec<_>>().join(" ").replace('%', "%%").trim_end_matches('\\').to_owned()
}

/// A word of a shell.
pub(super) fn shell(text: &str) -> String {
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    // A quote becomes one in other quotes: cron interprets a backslash
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

/// A command in a crontab, where `%` ends the command.
pub(super) fn crontab(command: &str) -> String {
    command.replace('%', "\\%")
}

/// For a message.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::new();
    push_shown(text.as_bytes(), &mut out);
    out
}
