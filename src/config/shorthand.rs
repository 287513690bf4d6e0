//! The shorthands of the command line for a config of one probe: `--filter NAME=VALUE`, `--output FILE` and `--json`.
//! They become values of the tree, as those of `--set` do, and are checked as if they stood in the file.

use super::deceptive_characters;
use super::diagnostic::{Code, Diagnostic, Place, Text, suggest};
use super::model::Compress;
use super::set::{SetStep, moved, put, value};
use super::yaml::{MapKey, Node, Value};

/// Where records go in place of the config's sinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// `--output FILE`: the type of the sink follows from the ending; `-` is standard output.
    File(String),
    /// `--json`: JSON Lines on standard output.
    Json,
}

impl Output {
    /// The option that it is.
    pub(super) fn option(&self) -> &'static str {
        match self {
            Output::File(_) => "--output",
            Output::Json => "--json",
        }
    }

    /// The file; `--json` is its own argument.
    pub fn argument(&self) -> &str {
        match self {
            Output::File(path) => path,
            Output::Json => "--json",
        }
    }
}

/// The name of the sink of `--output` and `--json`.
const SINK: &str = "output";

/// Endings of files, each with its type of sink.
const ENDINGS: &[(&str, &str)] =
    &[(".jsonl", "jsonl"), (".json", "jsonl"), (".csv", "csv"), (".txt", "stdout"), (".log", "stdout")];

/// Puts the filter `argument` into the only probe of `root`. `earlier` has the names of those before it.
pub(super) fn filter(root: &mut Node, text: usize, argument: &Text, earlier: &mut Vec<String>) -> Vec<Diagnostic> {
    let content = argument.content.as_str();
    let mut problems = deceptive_characters::check(content);
    let Some((name, rest)) = content.split_once('=').filter(|_| problems.is_empty()) else {
        problems.iter_mut().for_each(|problem| problem.place.text = text);
        if problems.is_empty() {
            let width = content.lines().next().map_or(1, |line| line.chars().count().max(1));
            let what = "there is no `=` in it: write NAME=VALUE, as in `pid=123`";
            problems.push(Diagnostic::new(Code::SetNothing, Place { text, line: 1, column: 1, width }, what));
        }
        return problems;
    };
    let place = Place { text, line: 1, column: 1, width: name.chars().count().max(1) };
    if name.is_empty() || name.contains('\n') {
        let what = "a filter's name is missing before the `=`: write NAME=VALUE, as in `pid=123`";
        return vec![Diagnostic::new(Code::SetNothing, Place { width: 1, ..place }, what)];
    }
    let odd = deceptive_characters::spaces(name, &[], None);
    if !odd.is_empty() {
        let here = |problem: Diagnostic| Diagnostic { place: Place { text, ..problem.place }, ..problem };
        return odd.into_iter().map(here).collect();
    }
    let list = if items(rest).len() > 1 { format!("[{rest}]") } else { rest.to_owned() };
    match has_one_probe(root, place, |probe| format!("--set 'probes.{probe}.filters.{name}={list}'")) {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(problem) => return vec![problem],
    }
    if earlier.iter().any(|other| other == name) {
        let what = format!("filter `{name}` is given twice: write all its values in one, as in `{name}=1,2`");
        return vec![Diagnostic::new(Code::KeyTwice, place, what)];
    }
    earlier.push(name.to_owned());
    let (value, problems) = values(text, content, content.len() - rest.len());
    let Some(value) = value.filter(|_| problems.is_empty()) else { return problems };
    let parts = ["probes", "0", "filters", name].map(|name| SetStep { name: name.to_owned(), place });
    put(root, &parts, 0, value).err().into_iter().collect()
}

/// The value behind the `=`, which begins at byte `at`: YAML, or several YAML values with commas between them.
fn values(text: usize, content: &str, at: usize) -> (Option<Node>, Vec<Diagnostic>) {
    let starts = items(&content[at..]);
    if starts.len() == 1 {
        return value(text, content, at..content.len());
    }
    let (mut nodes, mut problems) = (Vec::new(), Vec::new());
    for range in starts {
        let (node, more) = value(text, content, at + range.start..at + range.end);
        nodes.extend(node);
        problems.extend(more);
    }
    let place = moved(text, content, at)(Place::new(1, 1, content[at..].chars().count().max(1)));
    (Some(Node { value: Value::List(nodes), place }), problems)
}

/// The parts of `value` between its commas; a comma in quotes or brackets separates nothing.
fn items(value: &str) -> Vec<std::ops::Range<usize>> {
    let (mut found, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    let (mut quote, mut escaped, mut begins, mut closed) = (None, false, true, None);
    for (at, c) in value.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(end), c) if c == end && !escaped => {
                quote = None;
                closed = Some(at + 1);
            }
            (Some(_), _) => {}
            // Two of them are one in the text
            (None, '\'') if closed == Some(at) => quote = Some(c),
            (None, '"' | '\'') if begins => quote = Some(c),
            (None, '[' | '{') if begins || depth > 0 => {
                depth += 1;
                begins = true;
                continue;
            }
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                found.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
        escaped = false;
        // A quote begins a text only where a value begins; anywhere else it is a part of the text
        begins = quote.is_none() && (c == ',' || c == ':' && depth > 0 || begins && c.is_whitespace());
    }
    found.push(start..value.len());
    found
}

/// Gives `root` the sink that `output` names in place of its own.
pub(super) fn output(root: &mut Node, text: usize, output: &Output, argument: &Text) -> Vec<Diagnostic> {
    let content = argument.content.as_str();
    let mut problems = deceptive_characters::check(content);
    if !problems.is_empty() {
        problems.iter_mut().for_each(|problem| problem.place.text = text);
        return problems;
    }
    let width = content.lines().next().map_or(1, |line| line.chars().count().max(1));
    let place = Place { text, line: 1, column: 1, width };
    match has_one_probe(root, place, |_| "--set sinks.NAME.path=FILE".to_owned()) {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(problem) => return vec![problem],
    }
    let (kind, path, compress) = match output {
        Output::Json => ("jsonl", "-", None),
        Output::File(path) if path == "-" => ("stdout", "-", None),
        Output::File(path) => match kind_of(path) {
            Ok(found) => found,
            Err(what) => return vec![Diagnostic::new(Code::NotPossible, place, what)],
        },
    };
    let key = |name: &str| MapKey { name: name.to_owned(), place };
    // As if it stood in quotes
    let scalar = |text: &str| Node { value: Value::Scalar { text: text.to_owned(), plain: false }, place };
    let mut sink = vec![(key("type"), scalar(kind)), (key("path"), scalar(path))];
    sink.extend(compress.map(|compress: Compress| (key("compress"), scalar(compress.name()))));
    if kind == "stdout" {
        sink.extend(text_of(root));
    }
    let sinks = vec![(key(SINK), Node { value: Value::Map(sink), place })];
    without_sinks(root);
    if let Value::Map(entries) = &mut root.value {
        entries.push((key("sinks"), Node { value: Value::Map(sinks), place }));
    }
    Vec::new()
}

/// The type of sink that the ending of `path` stands for, the path that this sink has, and how it compresses.
fn kind_of(path: &str) -> Result<(&'static str, &str, Option<Compress>), String> {
    let compress = [Compress::Gzip, Compress::Zstd].into_iter().find(|one| path.ends_with(one.ending()));
    let plain = compress.and_then(|one| path.strip_suffix(one.ending())).unwrap_or(path);
    if let Some((_, kind)) = ENDINGS.iter().find(|(ending, _)| plain.ends_with(ending)) {
        return Ok((kind, plain, compress));
    }
    let name = plain.rsplit('/').next().unwrap_or_default();
    let ending = name.rfind('.').map(|at| &name[at..]).unwrap_or_default();
    let what = if ending.is_empty() {
        format!("`{path}` has no ending that names a type of sink")
    } else {
        format!("`{ending}` is not an ending that names a type of sink")
    };
    let known = suggest(ending, ENDINGS.iter().map(|(ending, _)| *ending));
    Err(format!("{what}{known}; `.gz` or `.zst` after it compresses; `-` is standard output"))
}

/// The template and the header of the first sink of type `stdout` that the only probe of `root` writes to.
fn text_of(root: &Node) -> Vec<(MapKey, Node)> {
    let scalar = |node: &Node, text: &str| matches!(&node.value, Value::Scalar { text: is, .. } if is == text);
    let probe = match root.get("probes").map(|probes| &probes.value) {
        Some(Value::List(items)) => items.first(),
        _ => None,
    };
    let named = probe.and_then(|probe| probe.get("sinks")).or_else(|| root.get("defaults")?.get("sinks"));
    let is_used = |name: &str| match named.map(|named| &named.value) {
        Some(Value::List(names)) => names.iter().any(|node| scalar(node, name)),
        _ => true,
    };
    let is_text = |sink: &Node| sink.get("type").is_some_and(|kind| scalar(kind, "stdout"));
    let sinks = root.get("sinks").map(Node::entries).unwrap_or_default();
    let mut all: Vec<_> = sinks.iter().filter(|(_, sink)| is_text(sink)).collect();
    // One that the probe does not write to is better than none
    all.sort_by_key(|(key, _)| !is_used(&key.name));
    let entries = all.first().map(|(_, sink)| sink.entries()).unwrap_or_default();
    entries.iter().filter(|(key, _)| ["template", "header"].contains(&key.name.as_str())).cloned().collect()
}

/// Takes the sinks, and the names of sinks, out of `root`.
fn without_sinks(root: &mut Node) {
    let Value::Map(entries) = &mut root.value else { return };
    entries.retain(|(key, _)| key.name != "sinks");
    for (key, node) in entries {
        let holders = match (key.name.as_str(), &mut node.value) {
            ("probes", Value::List(items)) => items.as_mut_slice(),
            ("defaults", _) => std::slice::from_mut(node),
            _ => continue,
        };
        for holder in holders {
            if let Value::Map(entries) = &mut holder.value {
                entries.retain(|(key, _)| key.name != "sinks");
            }
        }
    }
}

/// Whether `root` has one probe. It may have none: a part, which is checked with the configs that include it, or one with a
/// problem that the check of the structure reports.
fn has_one_probe(root: &Node, place: Place, instead: impl Fn(&str) -> String) -> Result<bool, Diagnostic> {
    match root.get("probes").map(|probes| &probes.value) {
        Some(Value::List(items)) if items.len() > 1 => {
            let names: Vec<&str> = items.iter().filter_map(super::set::name_of).collect();
            // A number is a path of `--set` whatever the name is
            let first = names.first().copied().filter(|name| !name.contains(['.', '=', '"', '\'']));
            let instead = instead(first.unwrap_or("0"));
            let (count, names) = (items.len(), names.join(", "));
            let what =
                format!("this is for a config of one probe, and this one has {count} ({names}): use `{instead}`");
            Err(Diagnostic::new(Code::SetNothing, place, what))
        }
        Some(Value::List(items)) => Ok(!items.is_empty()),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::TextKind;
    use super::super::yaml;
    use super::*;

    const YAML: &str = "\
version: 1
defaults: {sinks: [lines], order: time}
probes: [{program: p, filters: {pid: [1, 2]}, sinks: [screen]}]
sinks:
  lines: {type: jsonl}
  other: {type: stdout, template: no}
  screen: {type: stdout, template: t, header: h, path: x, mode: '0600'}
";

    fn tree(yaml: &str) -> Node {
        yaml::parse(yaml).0.expect("YAML")
    }

    fn filtered(argument: &str) -> (serde_yaml::Value, Vec<Diagnostic>) {
        let mut root = tree(YAML);
        let problems = filter(&mut root, 3, &Text::new(TextKind::Argument, "--filter #1", argument), &mut Vec::new());
        (root.to_yaml()["probes"][0]["filters"].clone(), problems)
    }

    #[track_caller]
    fn gives(argument: &str, name: &str, yaml: &str) {
        let (filters, problems) = filtered(argument);
        assert_eq!(problems, [], "{argument}");
        let expected: serde_yaml::Value = serde_yaml::from_str(yaml).expect("YAML");
        assert_eq!(filters[name], expected, "{argument}");
    }

    #[test]
    fn a_filter_takes_what_the_file_takes_and_commas() {
        gives("pid=3", "pid", "3");
        gives("comm=nginx,php-fpm", "comm", "[nginx, php-fpm]");
        gives("comm=a, b", "comm", "[a, b]");
        gives("comm=[a, 'b,c']", "comm", "[a, 'b,c']");
        gives("comm={not: nginx}", "comm", "{not: nginx}");
        gives("comm={not: [a, b]}", "comm", "{not: [a, b]}");
        gives("path=/a=b", "path", "/a=b");
        gives("path=\"/a,b\"", "path", "'/a,b'");
        gives("path='/a,b',/c", "path", "['/a,b', /c]");
        gives(r#"path="/a\",b",/c"#, "path", r#"['/a",b', /c]"#);
        gives("path='it''s, so',/c", "path", r#"["it's, so", /c]"#);
        gives("comm=it's,x", "comm", r#"["it's", x]"#);
        gives("comm=a[1],b", "comm", "['a[1]', b]");
        gives("comm='1'", "comm", "'1'");
        gives("comm=kworker/0:4-eve", "comm", "kworker/0:4-eve");
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_seen_in_the_argument() {
        let wrong = |argument: &str, code, column, width| {
            let (_, problems) = filtered(argument);
            let found: Vec<_> = problems.iter().map(|problem| (problem.code, problem.place)).collect();
            assert_eq!(found, [(code, Place { text: 3, line: 1, column, width })], "{argument}: {problems:?}");
        };
        wrong("pid", Code::SetNothing, 1, 3);
        wrong("", Code::SetNothing, 1, 1);
        wrong("=1", Code::SetNothing, 1, 1);
        wrong("pid=", Code::Empty, 5, 1);
        wrong("pid=1,", Code::Empty, 7, 1);
        wrong("pid=1,,2", Code::Empty, 7, 1);
        wrong("comm=a\u{202e}b", Code::Character, 7, 1);
        wrong("co\u{a0}mm=a", Code::Character, 3, 1);
    }

    #[test]
    fn a_filter_is_given_once() {
        let (mut root, mut earlier) = (tree(YAML), Vec::new());
        let text = Text::new(TextKind::Argument, "--filter", "pid=7");
        assert_eq!(filter(&mut root, 1, &text, &mut earlier), [], "over that of the file");
        let problems = filter(&mut root, 2, &text, &mut earlier);
        assert_eq!(problems[0].code, Code::KeyTwice);
        assert!(problems[0].message.contains("`pid=1,2`"), "{problems:?}");
    }

    fn with_output(yaml: &str, to: &Output) -> (serde_yaml::Value, Vec<Diagnostic>) {
        let mut root = tree(yaml);
        let text = Text::new(TextKind::Argument, to.option(), to.argument());
        let problems = output(&mut root, 1, to, &text);
        (root.to_yaml(), problems)
    }

    #[test]
    fn an_output_takes_the_place_of_all_sinks() {
        let of = |path: &str| {
            let (root, problems) = with_output(YAML, &Output::File(path.into()));
            assert_eq!(problems, [], "{path}");
            assert!(root["probes"][0].get("sinks").is_none() && root["defaults"].get("sinks").is_none());
            assert_eq!(root["sinks"].as_mapping().map(|sinks| sinks.len()), Some(1));
            root["sinks"]["output"].clone()
        };
        let expect = |yaml: &str| serde_yaml::from_str::<serde_yaml::Value>(yaml).expect("YAML");
        assert_eq!(of("a/x.jsonl"), expect("{type: jsonl, path: a/x.jsonl}"));
        assert_eq!(of("x.json"), expect("{type: jsonl, path: x.json}"));
        assert_eq!(of("x.csv.gz"), expect("{type: csv, path: x.csv, compress: gzip}"));
        assert_eq!(of("x.log.zst"), expect("{type: stdout, path: x.log, compress: zstd, template: t, header: h}"));
        assert_eq!(of("-"), expect("{type: stdout, path: '-', template: t, header: h}"), "the probe's own sink");
        let (root, problems) = with_output(YAML, &Output::Json);
        assert_eq!((problems, &root["sinks"]["output"]), (vec![], &expect("{type: jsonl, path: '-'}")));
    }

    #[test]
    fn an_ending_that_names_no_sink_is_refused() {
        for (path, says) in [
            ("x.cvs", "did you mean `.csv`?"),
            ("x.gz", "has no ending"),
            ("capture", "known: .jsonl, .json, .csv"),
            ("a.csv/x", "has no ending"),
            ("", "has no ending"),
        ] {
            let (_, problems) = with_output(YAML, &Output::File(path.into()));
            assert_eq!(problems[0].code, Code::NotPossible, "{path}");
            assert!(problems[0].message.contains(says), "{path}: {problems:?}");
        }
    }

    #[test]
    fn shorthands_are_for_one_probe() {
        let two = "version: 1\nprobes: [{program: p, name: a}, {program: p, name: b}]\n";
        let (_, problems) = with_output(two, &Output::Json);
        assert!(problems[0].message.contains("has 2 (a, b): use `--set sinks."), "{problems:?}");
        let mut root = tree(two);
        let text = Text::new(TextKind::Argument, "--filter #1", "pid=7");
        let problems = filter(&mut root, 1, &text, &mut Vec::new());
        assert_eq!((problems.len(), problems[0].code), (1, Code::SetNothing));
        assert!(problems[0].message.contains("use `--set 'probes.a.filters.pid=7'`"), "{problems:?}");
        for yaml in ["version: 1\npart: true\n", "version: 1\nprobes: 7\n", "version: 1\nprobes: []\n"] {
            assert_eq!(with_output(yaml, &Output::Json), (tree(yaml).to_yaml(), vec![]), "{yaml}: nothing to change");
            let mut root = tree(yaml);
            assert_eq!(filter(&mut root, 1, &text, &mut Vec::new()), [], "{yaml}");
            assert_eq!(root.to_yaml(), tree(yaml).to_yaml(), "{yaml}");
        }
    }
}
