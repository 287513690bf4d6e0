//! Text in lines that others read: units, crontabs, shells. Control characters are refused before it comes to that.

use crate::event::text::{is_deceptive, push_shown};

/// Characters that mean themselves in every notation here.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c)
}

/// An argument in a unit's command line: quotes, C's escapes, systemd's specifiers (`%`), variables (`$`).
pub(super) fn argument(text: &str) -> String {
    path(&text.replace('$', "$$"))
}

/// A word where a unit has no variables: `ReadWritePaths=`, `Environment=`.
pub(super) fn path(text: &str) -> String {
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

/// Words that a unit has for people, up to the line's end.
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
    // In the place of a quote, one in other quotes: a backslash means something to cron
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
