//! Where a value of a config comes from.

use std::fmt;

use super::Source;
use super::diagnostic::{Place, Text, TextKind};
use super::yaml::TreeStep::{self, Index, Key};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A default of the runner or the program.
    Default,
    /// A text of the config.
    Said {
        /// The text.
        text: &'a Text,
        /// The place in it.
        place: Place,
        /// Whether it is in `defaults`.
        default: bool,
        /// The variables of the environment that it was made of.
        environment: Vec<&'a str>,
    },
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin::Said { text, place, default, environment } = self else { return f.write_str("default") };
        if *default {
            f.write_str("defaults, ")?;
        }
        f.write_str(&text.at(*place))?;
        environment.iter().try_for_each(|name| write!(f, ", environment {name}"))
    }
}

impl Source {
    /// Where the value at `path` comes from.
    pub fn origin(&self, path: &[TreeStep<'_>]) -> Origin<'_> {
        let Some((Key(name), parents)) = path.split_last() else { return Origin::Default };
        // `at` goes as far as it can: a parent that is not there has another parent's place
        let there = parents.iter().enumerate().all(|(i, step)| match step {
            Key(name) => self.root.at(&parents[..i]).get(name).is_some(),
            Index(_) => true,
        });
        let Some(node) = self.root.at(parents).get(name).filter(|_| there) else { return Origin::Default };
        let place = self.root.key_at(path);
        let mut environment = Vec::new();
        if !self.environment.is_empty() {
            node.walk(&mut |node| {
                environment.extend(self.environment.get(&node.place).into_iter().flatten().map(String::as_str));
            });
        }
        Origin::Said { text: &self.texts[place.text], place, default: self.is_default(path), environment }
    }

    /// Whether what is at `path`, of a probe, comes from `defaults`.
    pub fn is_default(&self, path: &[TreeStep<'_>]) -> bool {
        let [Key("probes"), Index(probe), Key(key), rest @ ..] = path else { return false };
        let has =
            |below: Option<&str>| self.default_keys.contains(&(*probe, (*key).to_owned(), below.map(str::to_owned)));
        match rest {
            _ if self.default_keys.is_empty() => false,
            [Key(below), ..] => has(None) || has(Some(below)),
            _ => has(None),
        }
    }

    /// Whether the value at `place` came from the environment.
    pub fn is_from_environment(&self, place: Place) -> bool {
        self.environment.contains_key(&place)
    }

    /// Whether `place` is in an included file.
    pub fn is_included(&self, place: Place) -> bool {
        self.texts[place.text].kind == TextKind::Included
    }

    /// Whether the file is a part of other configs: `part: true`.
    pub fn is_part(&self) -> bool {
        self.config.part == Some(true)
    }

    /// Whether other files add to it, or should and can't be read: what is missing here may be there.
    pub fn is_partial(&self) -> bool {
        self.is_part() || self.incomplete
    }

    /// `place` for a message at `from`: a line, and the file if it is another one.
    pub fn place_in(&self, place: Place, from: Place) -> String {
        super::merge::place_in(&self.texts, place, from)
    }
}
