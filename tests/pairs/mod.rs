//! Two bad configs as one. Each is a text of blocks, one for each key at the top; where both have the same key, the
//! entries below it are put together. What does not read as blocks stays as it is.

use std::fmt::Write as _;

use ebpf_run::catalog::Catalog;

/// A block at the top of a config.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Block {
    /// As it is written: a comment, a value that is no mapping or list, or text that is not YAML.
    Raw { key: String, text: String },
    /// A mapping or a list: its entries, indented by two spaces, and the text as it is written, if it is from a file.
    Entries { key: String, entries: Vec<String>, text: String },
}

/// A config of the corpus, taken apart.
#[derive(Debug, Clone)]
pub struct Parts {
    blocks: Vec<Block>,
    /// The text has no line feed at its end.
    open_end: bool,
}

const PROBE: &str = "  - program: biosnoop\n";
const SINK: &str = "  out: {type: jsonl}\n";

impl Block {
    fn key(&self) -> &str {
        let (Block::Raw { key, .. } | Block::Entries { key, .. }) = self;
        key
    }

    /// Whether it is written as `{…}`.
    fn is_flow(&self) -> bool {
        matches!(self, Block::Entries { key, text, .. } if text.starts_with(&format!("{key}: {{")))
    }

    fn entries(&self) -> Option<&[String]> {
        match self {
            Block::Entries { entries, .. } => Some(entries),
            Block::Raw { .. } => None,
        }
    }

    /// Whether it is what a config has that is about something else.
    fn is_usual(&self) -> bool {
        match self {
            Block::Raw { key, text } => key == "version" && text == "version: 1\n",
            Block::Entries { entries, .. } => matches!(entries.as_slice(), [one] if one == PROBE || one == SINK),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Block::Raw { text, .. } => out.push_str(text),
            Block::Entries { key, entries, text } if text.is_empty() => {
                write!(out, "{key}:\n{}", entries.concat()).expect("a String takes all");
            }
            Block::Entries { text, .. } => out.push_str(text),
        }
    }
}

/// The entries of `{…}` or `[…]`, split at the commas between them; `None` if it is something else.
fn flow(text: &str) -> Option<(bool, Vec<String>)> {
    let text = text.trim();
    let (list, inner) = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => (true, inner),
        None => (false, text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'))?),
    };
    let (mut entries, mut depth, mut quote, mut start) = (Vec::new(), 0i32, None, 0);
    for (at, c) in inner.char_indices() {
        match (quote, c) {
            (Some(open), c) => quote = Some(open).filter(|open| *open != c),
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth -= 1,
            (None, ',') if depth == 0 => {
                entries.push(inner[start..at].trim().to_owned());
                start = at + 1;
            }
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    let last = inner[start..].trim().to_owned();
    entries.extend(Some(last).filter(|last| !last.is_empty()));
    (depth == 0 && quote.is_none() && !entries.is_empty()).then_some((list, entries))
}

fn block(key: &str, text: &str) -> Block {
    let raw = || Block::Raw { key: key.to_owned(), text: text.to_owned() };
    let Some((_, rest)) = text.split_once(':') else { return raw() };
    if let Some(lines) = rest.strip_prefix('\n').filter(|lines| lines.starts_with("  ")) {
        let mut entries: Vec<String> = Vec::new();
        for line in lines.split_inclusive('\n') {
            match entries.last_mut() {
                Some(entry) if !line.starts_with("  ") || line.starts_with("   ") => entry.push_str(line),
                _ => entries.push(line.to_owned()),
            }
        }
        for entry in &mut entries {
            if let Some((false, keys)) = entry.strip_prefix("  - ").and_then(flow) {
                *entry = format!("  - {}\n", keys.join("\n    "));
            }
        }
        return Block::Entries { key: key.to_owned(), entries, text: text.to_owned() };
    }
    match flow(rest).filter(|_| rest.ends_with('\n')) {
        Some((list, entries)) => {
            let bare = |entry: String| match flow(&entry) {
                // A probe: its keys below each other
                Some((false, keys)) if list => format!("{}\n", keys.join("\n    ")),
                _ => entry + "\n",
            };
            let dash = if list { "- " } else { "" };
            let entries = entries.into_iter().map(|entry| format!("  {dash}{}", bare(entry))).collect();
            Block::Entries { key: key.to_owned(), entries, text: text.to_owned() }
        }
        None => raw(),
    }
}

/// The key that a line at the top begins with.
fn key_of(line: &str) -> &str {
    match line.split_once(':') {
        Some((key, _)) if line.starts_with(|c: char| c.is_alphabetic()) => key,
        _ => "",
    }
}

impl Parts {
    /// Takes a text apart. Its lines for the test itself are no part of it.
    pub fn of(text: &str) -> Self {
        let content =
            text.split_inclusive('\n').filter(|line| !line.starts_with("# expect:") && !line.starts_with("# set:"));
        let mut blocks: Vec<(String, String)> = Vec::new();
        for line in content {
            let begun = blocks.iter().any(|(key, _)| !key.is_empty());
            match blocks.last_mut() {
                Some((_, text)) if line.starts_with([' ', '\t']) => text.push_str(line),
                // Behind the end of the document everything is one
                Some((key, text)) if key == "---" => text.push_str(line),
                Some(_) if line == "---\n" && begun => {
                    blocks.push(("---".into(), line.to_owned()));
                }
                _ => blocks.push((key_of(line).to_owned(), line.to_owned())),
            }
        }
        let blocks = blocks.into_iter().map(|(key, text)| block(&key, &text)).collect();
        Parts { blocks, open_end: !text.ends_with('\n') }
    }

    fn get(&self, key: &str) -> Option<&Block> {
        self.blocks.iter().find(|block| block.key() == key)
    }

    fn is_usual(&self, key: &str) -> bool {
        self.get(key).is_some_and(Block::is_usual)
    }

    /// The names of the entries of a mapping.
    fn names(&self, key: &str) -> Vec<&str> {
        let entries = self.get(key).and_then(Block::entries).unwrap_or_default();
        entries.iter().map(|entry| name(entry)).collect()
    }

    fn programs(&self) -> Vec<&str> {
        let entries = self.get("probes").and_then(Block::entries).unwrap_or_default();
        entries.iter().filter_map(|entry| value(entry, "program")).collect()
    }
}

fn name(entry: &str) -> &str {
    entry.trim_start().split(':').next().unwrap_or_default()
}

/// The keys of a probe, each with the lines below it.
fn keys(probe: &str) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for line in probe.split_inclusive('\n').filter_map(|line| line.get(4..)) {
        match keys.last_mut() {
            Some(key) if line.starts_with(' ') => key.push_str(line),
            _ => keys.push(line.to_owned()),
        }
    }
    keys
}

/// The value of a key of a probe.
fn value<'a>(probe: &'a str, key: &str) -> Option<&'a str> {
    let lines = probe.lines().filter_map(|line| line.get(4..));
    lines.into_iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// A probe with one key more, if it has none of that name.
fn with(probe: &str, key: &str, value: &str) -> String {
    match self::value(probe, key) {
        Some(_) => probe.to_owned(),
        None => format!("{probe}    {key}: {value}\n"),
    }
}

/// Whether there is no such program.
fn is_wrong(program: Option<&str>) -> bool {
    program.is_none_or(|program| !Catalog::embedded().names().any(|name| name == program))
}

/// The entries of two mappings as one; `None` if both have one of the same name.
fn both(a: &[String], b: &[String]) -> Option<Vec<String>> {
    let is_new = |entry: &&String| !a.contains(entry);
    let new: Vec<String> = b.iter().filter(is_new).cloned().collect();
    let clash = new.iter().any(|entry| a.iter().any(|other| name(other) == name(entry)));
    let is_map = a.iter().chain(b).all(|entry| !entry.starts_with("  -"));
    let mut all = [a, &new].concat();
    // A text without a line feed at its end
    all.sort_by_key(|entry| !entry.ends_with('\n'));
    (!clash && is_map).then_some(all)
}

/// One probe with the keys of two; `None` if both say something of the same.
fn one_probe(a: &str, b: &str) -> Option<String> {
    const USUAL: &str = "program: biosnoop\n";
    let programs = [value(a, "program"), value(b, "program")];
    // That one has no program is its fault
    let (none, usual) = (programs.contains(&None), programs.contains(&Some("biosnoop")));
    if none && !usual && programs[0] != programs[1] {
        return None;
    }
    if programs[0] != programs[1] && !programs.into_iter().any(is_wrong) {
        return None;
    }
    let (mut all, mut more) = (keys(a), keys(b));
    more.retain(|entry| entry != USUAL);
    if none {
        all.retain(|entry| entry != USUAL);
    }
    if more.iter().any(|entry| name(entry) == "program") {
        all.retain(|entry| entry != USUAL);
    }
    for entry in more {
        match all.iter_mut().find(|other| name(other) == name(&entry)) {
            None => all.push(entry),
            Some(other) if *other == entry => {}
            Some(other) => {
                let (one, two) = (block(name(other), other), block(name(&entry), &entry));
                let inside = both(one.entries()?, two.entries()?)?;
                *other = format!("{}:\n{}", name(other), inside.concat());
            }
        }
    }
    let text: String = all.concat().split_inclusive('\n').map(|line| format!("    {line}")).collect();
    Some(text.replacen("    ", "  - ", 1))
}

/// Gives the sinks of `b` names that `a` does not have.
fn renamed(a: &Parts, b: &Parts) -> Parts {
    let mut b = b.clone();
    let taken: Vec<String> = a.names("sinks").into_iter().map(str::to_owned).collect();
    let own: Vec<String> = b.names("sinks").into_iter().map(str::to_owned).collect();
    for old in own.iter().filter(|name| taken.contains(name)) {
        let new = format!("{old}_");
        for block in &mut b.blocks {
            let Block::Entries { key, entries, text } = block else { continue };
            text.clear();
            for entry in entries {
                if key == "sinks" && name(entry) == old {
                    *entry = entry.replacen(old.as_str(), &new, 1);
                } else if key == "probes"
                    && let Some(sinks) = value(entry, "sinks")
                {
                    let sinks = format!("sinks: {sinks}");
                    *entry = entry.replace(&sinks, &sinks.replace(old.as_str(), &new));
                }
            }
        }
    }
    b
}

/// The probes of both, beside each other, each with the sinks of its own file.
fn beside(a: &Parts, b: &Parts) -> Option<Vec<String>> {
    let of_one_name = b.programs().windows(2).any(|pair| pair[0] == pair[1]);
    let routed = |parts: &Parts, name: Option<&str>| -> Option<Vec<String>> {
        let entries = parts.get("probes")?.entries()?;
        let sinks = format!("[{}]", parts.names("sinks").join(", "));
        let one = |(index, entry): (usize, &String)| {
            let entry = if parts.names("sinks").is_empty() { entry.clone() } else { with(entry, "sinks", &sinks) };
            name.map_or(entry.clone(), |name| with(&entry, "name", &format!("{name}{index}")))
        };
        Some(entries.iter().enumerate().map(one).collect())
    };
    let (first, second) = if of_one_name { (Some("first"), None) } else { (None, Some("second")) };
    Some([routed(a, first)?, routed(b, second)?].concat())
}

fn merged(key: &str, entries: Vec<String>) -> Block {
    Block::Entries { key: key.to_owned(), entries, text: String::new() }
}

/// The entries of both; as `{…}` if both are written so.
fn one_mapping(key: &str, one: &Block, other: &Block) -> Option<Block> {
    let entries = both(one.entries()?, other.entries()?)?;
    let inside: Vec<&str> = entries.iter().map(|entry| entry.trim()).collect();
    let text = format!("{key}: {{{}}}\n", inside.join(", "));
    let is_flow = one.is_flow() && other.is_flow();
    let text = if is_flow { text } else { String::new() };
    Some(Block::Entries { key: key.to_owned(), entries, text })
}

/// Both as one text; `None` if they are about the same part of a config, so that one would replace the other.
pub fn pair(a: &Parts, b: &Parts) -> Option<String> {
    // That the part `empty` has no sinks is the fault of one
    let includes = |parts: &Parts| parts.get("include").is_some_and(|block| !format!("{block:?}").contains("empty"));
    let included = includes(a) || includes(b);
    let (mut a, mut b) = (a.clone(), b.clone());
    if included && a.get("sinks").is_none() && b.is_usual("sinks") {
        b.blocks.retain(|block| block.key() != "sinks");
    } else if included && b.get("sinks").is_none() && a.is_usual("sinks") {
        a.blocks.retain(|block| block.key() != "sinks");
    }
    let [probes_of_one, sinks_of_one] = ["probes", "sinks"].map(|key| a.is_usual(key) || b.is_usual(key));
    // Probes of a program that the other's sinks are not for
    let foreign = |probes: &Parts, sinks: &Parts| {
        !sinks.is_usual("sinks") && probes.programs().iter().any(|program| !program.starts_with("bios"))
    };
    let separate = !probes_of_one && !sinks_of_one || foreign(&a, &b) || foreign(&b, &a);
    let b = if sinks_of_one && !separate { b } else { renamed(&a, &b) };
    let mut keys: Vec<&str> = Vec::new();
    for block in a.blocks.iter().chain(&b.blocks) {
        if block.key().is_empty() || !keys.contains(&block.key()) {
            keys.push(block.key());
        }
    }
    let mut blocks: Vec<Block> = Vec::new();
    for key in keys.into_iter().filter(|key| !key.is_empty()) {
        let found = match (a.get(key), b.get(key)) {
            (Some(one), Some(other)) if one == other && !(separate && key == "sinks") => one.clone(),
            (Some(one), Some(other)) if key == "probes" && !separate && !probes_of_one => {
                let probes = match (one.entries()?, other.entries()?) {
                    ([one], [other]) => one_probe(one, other).map(|probe| vec![probe]),
                    _ => None,
                };
                merged(key, probes.or_else(|| beside(&a, &b))?)
            }
            (Some(_), Some(_)) if key == "probes" && separate => merged(key, beside(&a, &b)?),
            (Some(one), Some(other)) if other.is_usual() && !(separate && key == "sinks") => one.clone(),
            (Some(one), Some(other)) if one.is_usual() && !(separate && key == "sinks") => other.clone(),
            (Some(one), Some(other)) => one_mapping(key, one, other)?,
            (Some(one), None) | (None, Some(one)) => {
                let needed = ["version", "probes", "sinks"].contains(&key);
                if needed && !included && one.is_usual() {
                    continue; // that the other lacks it is what is wrong there
                }
                if needed && !included {
                    return None;
                }
                one.clone()
            }
            (None, None) => continue,
        };
        blocks.push(found);
        for parts in [&a, &b] {
            blocks.extend(parts.blocks.iter().filter(|block| block.key() == key).skip(1).cloned());
        }
    }
    // What has no key stays where it is in front of what has one
    let comments =
        |parts: &Parts| parts.blocks.iter().filter(|block| block.key().is_empty()).cloned().collect::<Vec<_>>();
    blocks.sort_by_key(|block| block.key() == "---");
    if a.open_end || b.open_end {
        let last = if a.open_end { a.blocks.last() } else { b.blocks.last() }?.key().to_owned();
        blocks.sort_by_key(|block| block.key() == last);
    }
    let mut out = String::new();
    let (front, comments): (Vec<Block>, Vec<Block>) = [comments(&a), comments(&b)]
        .concat()
        .into_iter()
        .partition(|block| matches!(block, Block::Raw { text, .. } if text.starts_with(['%', '-'])));
    front
        .iter()
        .chain(blocks.first())
        .chain(&comments)
        .chain(blocks.iter().skip(1))
        .for_each(|block| block.write(&mut out));
    if a.open_end || b.open_end {
        out.truncate(out.trim_end_matches('\n').len());
    }
    Some(out)
}
