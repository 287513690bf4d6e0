//! Sinks: which probes write to which, and whether their fields and templates are valid.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::{FilesPlan, Planner, ProbePlan};
use crate::config::diagnostic::{Code, Place, TextKind, suggest};
use crate::config::model;
use crate::config::yaml::TreeStep;
use crate::config::yaml::TreeStep::{Index, Key};
use crate::event::Layout;
use crate::output::template::{self, TemplateProblem};
use crate::output::{FieldRef, Globals, PathPattern, STANDARD_OUTPUT, SinkColumn, SinkFormat};

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkPlan {
    /// Its name.
    pub name: String,
    /// The template of its file's path, or `-` for standard output.
    pub path: String,
    /// The probe that it is for, if its path has `probe` in it: then each probe has a file of its own.
    pub probe: Option<String>,
    /// The shape of its records.
    pub shape: SinkFormat,
    /// What becomes of its files.
    pub files: FilesPlan,
}

/// The probes that write to a sink.
struct Writers<'a> {
    probes: Vec<&'a ProbePlan>,
    /// Whether they do. Where none does, these are all probes: each of them may be the one.
    is_known: bool,
}

impl<'a> Writers<'a> {
    fn of(probes: &'a [ProbePlan], sink: usize) -> Self {
        let writers: Vec<&ProbePlan> = probes.iter().filter(|probe| probe.sinks.contains(&sink)).collect();
        match writers.is_empty() {
            true => Writers { probes: probes.iter().collect(), is_known: false },
            false => Writers { probes: writers, is_known: true },
        }
    }
}

impl SinkPlan {
    /// What its path can name, where all paths can name `globals`.
    pub fn globals(&self, globals: &Globals) -> Arc<Globals> {
        Arc::new(Globals { probe: self.probe.clone(), ..globals.clone() })
    }
}

impl Planner<'_> {
    /// The sinks of the config; one whose path has `probe` in it is one for each probe that writes to it.
    /// `used` has the indices of the sinks that probes write to, those without a plan too.
    pub(super) fn sinks(&mut self, probes: &mut [ProbePlan], used: &HashSet<usize>) -> Vec<SinkPlan> {
        let config = &self.source.config;
        let mut plans = Vec::new();
        let mut paths = BTreeMap::new();
        // A probe with a problem may be the one that writes to a sink
        let misdirected = self.problems.iter().any(|problem| problem.code == Code::UnknownSink);
        let lost = |index| self.source.is_lost(&[Key("probes"), Index(index)], "sinks");
        let all_probes = !misdirected
            && !config.probes.is_empty()
            && config.probes.len() == self.source.written_probes()
            && !(0..config.probes.len()).any(lost)
            && !self.source.is_partial();
        // The sinks that became of each one, with the probe that they are for
        let mut became: Vec<Vec<(Option<String>, usize)>> = Vec::new();
        for (index, (name, sink)) in config.sinks.iter().enumerate() {
            let here = [Key("sinks"), Key(name.as_str())];
            let writers = Writers::of(probes, index);
            let unused = !used.contains(&index) && all_probes;
            let spare = unused && self.source.is_included(self.source.root.key_at(&here));
            if !self.source.is_lost(&here, "path") && !spare {
                self.check_path_is_free(&mut paths, name, sink.path());
            }
            for problem in template::check_path(sink.path()) {
                self.say_template(&[here[0], here[1], Key("path")], sink.path(), problem);
            }
            self.check_labels(&[here[0], here[1], Key("path")], sink.path());
            if let Some(why) = no_file(sink.path()) {
                self.say(Code::NoFile, &[here[0], here[1], Key("path")], why);
            }
            if unused && !spare {
                let what = format!("no probe writes to sink `{name}`: add it to a probe's `sinks`, or remove it");
                self.say_key(Code::UnusedSink, &here, what);
            }
            let files = self.files(&here, sink.files());
            let mut plan = |shape: SinkFormat, probe: Option<String>| {
                let (name, path, files) = (name.clone(), sink.path().to_owned(), files.clone());
                plans.push(SinkPlan { name, path, probe: probe.clone(), shape, files });
                (probe, plans.len() - 1)
            };
            let mut these = Vec::new();
            if PathPattern::uses_probe(sink.path()) {
                // A table of its own has columns of its own, unless the config says which
                let own = matches!(sink, model::Sink::Csv { columns: None, .. });
                let all = if own { None } else { Some(self.shape(&here, sink, &writers)) };
                for writer in writers.probes.iter().filter(|_| writers.is_known) {
                    let shape = all
                        .clone()
                        .unwrap_or_else(|| self.shape(&here, sink, &Writers { probes: vec![*writer], is_known: true }));
                    these.push(plan(shape, Some(writer.name.clone())));
                }
            } else {
                let shape = self.shape(&here, sink, &writers);
                // Sinks of an included file are there for those who want them
                if !spare {
                    these.push(plan(shape, None));
                }
            }
            became.push(these);
        }
        for probe in probes {
            let name = &probe.name;
            let mine = |index: &usize| {
                let mine = became[*index].iter().filter(|(of, _)| of.as_ref().is_none_or(|of| of == name));
                mine.map(|(_, sink)| *sink).collect::<Vec<_>>()
            };
            probe.sinks = probe.sinks.iter().flat_map(mine).collect();
        }
        plans
    }

    /// Of two sinks that write to one place, the one further down in the file is told.
    fn check_path_is_free<'a>(&mut self, paths: &mut BTreeMap<String, &'a str>, name: &'a str, path: &str) {
        let Some(other) = paths.insert(one_way(path), name) else { return };
        let key = |name| self.source.root.key_at(&[Key("sinks"), Key(name)]);
        // An included file comes before the one that includes it
        let order = |name| (key(name).text == 0, key(name));
        let (first, second) = if order(other) < order(name) { (other, name) } else { (name, other) };
        let line = self.source.place_in(key(first), key(second));
        let place = if path == "-" { "standard output".into() } else { format!("`{path}`") };
        let what = format!("another sink writes to {place} already ({line}): give each sink its own `path`");
        let here = [Key("sinks"), Key(second)];
        match self.source.root.at(&here).get("path") {
            Some(_) => self.say(Code::PathTwice, &[here[0], here[1], Key("path")], what),
            None => self.say_key(Code::PathTwice, &here, what),
        }
    }

    fn shape(&mut self, here: &[TreeStep<'_>; 2], sink: &model::Sink, writers: &Writers<'_>) -> SinkFormat {
        match sink {
            model::Sink::Stdout { template, header, .. } => {
                let path = [here[0], here[1], Key("template")];
                match template {
                    Some(template) => self.check_template(&path, template, writers),
                    None if self.source.is_lost(here, "template") || self.source.is_lost(here, "type") => {}
                    None => {
                        for probe in writers.probes.iter().filter(|probe| probe.aggregate.is_none()) {
                            if !writers.is_known && writers.probes.iter().any(|probe| probe.aggregate.is_some()) {
                                break;
                            }
                            let program = probe.program.name;
                            let what = match self.source.texts[self.source.root.key_at(here).text].kind {
                                // Its template is that of a sink of the config
                                TextKind::Argument => format!(
                                    "`{program}` sends events, and the config has no sink of type `stdout` whose template \
                                     could be used: write to a file that ends in .jsonl or .csv, or use `--json`"
                                ),
                                _ => format!(
                                    "a stdout sink needs a `template` for the events of `{program}`: write for instance \"{{{{ time | clock }}}} {{{{ comm }}}}\""
                                ),
                            };
                            self.say_key(Code::TemplateNeeded, here, what);
                        }
                    }
                }
                if let Some(header) = header {
                    for problem in template::check_global(header) {
                        self.say_template(&[here[0], here[1], Key("header")], header, problem);
                    }
                    self.check_labels(&[here[0], here[1], Key("header")], header);
                }
                match template {
                    Some(template) => SinkFormat::Text { template: template.clone(), header: header.clone() },
                    None => SinkFormat::Pretty { header: header.clone() },
                }
            }
            model::Sink::Csv { columns, .. } => {
                let columns = match columns {
                    Some(columns) => self.columns(&[here[0], here[1], Key("columns")], columns, writers),
                    None if self.source.is_lost(here, "columns") || self.source.is_lost(here, "type") => Vec::new(),
                    None => self.default_columns(here, writers),
                };
                SinkFormat::Csv { columns }
            }
            model::Sink::Jsonl { fields, .. } => {
                let path = [here[0], here[1], Key("fields")];
                SinkFormat::Jsonl { fields: fields.as_ref().map(|fields| self.columns(&path, fields, writers)) }
            }
        }
    }

    /// A table has one set of columns, so probes of different programs have to agree on them.
    fn default_columns(&mut self, here: &[TreeStep<'_>; 2], writers: &Writers<'_>) -> Vec<SinkColumn> {
        let Some(first) = writers.probes.first() else { return Vec::new() };
        if writers.is_known && writers.probes.iter().any(|other| other.program.name != first.program.name) {
            self.say_key(Code::ColumnsNeeded, here, "probes of different programs write to this sink: add `columns`");
        }
        names(first).into_iter().map(|name| SinkColumn::Field(name.to_owned())).collect()
    }

    fn columns(
        &mut self,
        path: &[TreeStep<'_>; 3],
        columns: &[model::Column],
        writers: &Writers<'_>,
    ) -> Vec<SinkColumn> {
        let mut found: Vec<SinkColumn> = Vec::new();
        for (i, column) in columns.iter().enumerate() {
            let here = [path[0], path[1], path[2], Index(i)];
            let column = match column {
                model::Column::Field(name) => {
                    let mut known: Vec<&str> = writers.probes.iter().flat_map(|probe| names(probe)).collect();
                    known.dedup();
                    if !writers.probes.is_empty() && !known.contains(&name.as_str()) {
                        let mut programs: Vec<&str> = writers.probes.iter().map(|probe| probe.program.name).collect();
                        programs.dedup();
                        let what = format!("`{name}` is not a field of {}", programs.join(" or "));
                        self.say(Code::UnknownField, &here, what + &suggest(name, known));
                    }
                    SinkColumn::Field(name.clone())
                }
                model::Column::Template(map) => {
                    let Some((name, text)) = map.iter().next() else { continue };
                    let here = [path[0], path[1], path[2], Index(i), Key(name.as_str())];
                    self.check_template(&here, text, writers);
                    SinkColumn::Template(name.clone(), text.clone())
                }
            };
            if found.iter().any(|other| other.name() == column.name()) {
                self.say(Code::ColumnTwice, &here, format!("`{}` is here twice: remove one of them", column.name()));
            }
            found.push(column);
        }
        found
    }

    /// Each problem once, even if several probes have it.
    fn check_template(&mut self, path: &[TreeStep<'_>], text: &str, writers: &Writers<'_>) {
        self.check_labels(path, text);
        if writers.probes.is_empty() {
            template::check_alone(text).into_iter().for_each(|problem| self.say_template(path, text, problem));
        }
        let mut found: Vec<Vec<TemplateProblem>> = Vec::new();
        for probe in &writers.probes {
            // A template is for the records that have all its fields; of several sorts, the last has most of them
            let of = probe.streams.iter().rev().map(|stream| template::check(text, &stream.layout));
            let mut problems = of.min_by_key(Vec::len).unwrap_or_default();
            for problem in &mut problems {
                problem.message = problem.message.replace("this program", probe.program.name);
            }
            found.push(problems);
        }
        let mut said: Vec<Option<Range<usize>>> = Vec::new();
        for problem in found.iter().flatten() {
            let everywhere = || found.iter().all(|all| all.iter().any(|other| other.range == problem.range));
            if !said.contains(&problem.range) && (writers.is_known || everywhere()) {
                said.push(problem.range.clone());
                self.say_template(path, text, problem.clone());
            }
        }
    }

    /// A label that there is none of would be nothing, silently.
    pub(super) fn check_labels(&mut self, path: &[TreeStep<'_>], text: &str) {
        let known = self.source.written_names("labels").filter(|_| !self.source.is_partial());
        let Some(known) = known else { return };
        for (range, name) in template::labels(text).into_iter().filter(|(_, name)| !known.contains(&name.as_str())) {
            let message = format!("there is no label `{name}`{}", suggest(&name, known.iter().copied()));
            self.say_template(path, text, TemplateProblem { range, code: Code::UnknownVariable, message });
        }
    }

    pub(super) fn say_template(&mut self, path: &[TreeStep<'_>], text: &str, problem: TemplateProblem) {
        let whole = self.source.root.at(path).place;
        let file = &self.source.texts[whole.text].content;
        let exact =
            |range: Range<usize>| within(file, whole, text, range.clone()).or_else(|| nth(file, whole, text, range));
        let place = problem.range.and_then(exact).unwrap_or(whole);
        self.say_at(problem.code, path, place, problem.message);
    }
}

/// Why no file can have this path, whatever its templates become, and what to do.
pub(super) fn no_file(path: &str) -> Option<&'static str> {
    match path.rsplit('/').next().unwrap_or_default() {
        _ if path.is_empty() => Some("the path is empty: write the path of a file"),
        _ if path.contains('\0') => Some("a path can't contain NUL: remove it"),
        "" | "." | ".." => Some("this is the path of a directory: add the name of a file"),
        _ => None,
    }
}

/// The same for paths that are the same whatever is there on the disk: blanks in `{{ }}` and a `.` as folder say nothing, and
/// standard output has two names.
fn one_way(path: &str) -> String {
    if STANDARD_OUTPUT.contains(&path) {
        return "-".into();
    }
    let inside = |(index, part): (usize, &str)| match part.split_once("}}") {
        Some((expression, rest)) if index > 0 => format!("{}}}}}{rest}", expression.trim()),
        _ => part.to_owned(),
    };
    let tidy = path.split("{{").enumerate().map(inside).collect::<Vec<_>>().join("{{");
    let mut parts: Vec<&str> = tidy.split('/').collect();
    let last = parts.pop().unwrap_or_default();
    let mut index = 0;
    parts.retain(|part| {
        index += 1;
        (index == 1 || !part.is_empty()) && *part != "."
    });
    parts.push(last);
    parts.join("/")
}

/// The names of all fields of a probe's records, each once.
fn names(probe: &ProbePlan) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (_, name) in probe.streams.iter().flat_map(|stream| FieldRef::all(&stream.layout)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Sends each sort of a probe's records to the sinks that have a use for it: where one sort has every field that a
/// sink names, sorts that lack one stay away.
pub(super) fn route(probes: &mut [ProbePlan], sinks: &[SinkPlan]) {
    for probe in probes {
        for index in probe.sinks.clone() {
            let shape = &sinks[index].shape;
            let fits: Vec<bool> = probe.streams.iter().map(|stream| fits(shape, &stream.layout)).collect();
            let none = !fits.contains(&true);
            for (stream, fits) in probe.streams.iter_mut().zip(fits) {
                if fits || none {
                    stream.sinks.push(index);
                }
            }
        }
    }
}

/// Whether records of this layout have every field that the shape names.
fn fits(shape: &SinkFormat, layout: &Arc<Layout>) -> bool {
    let all = |columns: &[SinkColumn]| {
        columns.iter().all(|column| match column {
            SinkColumn::Field(name) => FieldRef::find(name, layout).is_some(),
            SinkColumn::Template(_, text) => template::check(text, layout).is_empty(),
        })
    };
    match shape {
        SinkFormat::Text { template, .. } => template::check(template, layout).is_empty(),
        SinkFormat::Csv { columns } | SinkFormat::Jsonl { fields: Some(columns) } => all(columns),
        SinkFormat::Jsonl { fields: None } | SinkFormat::Pretty { .. } => true,
    }
}

/// The place of `range` of a template whose value begins at `start`, if the line stands in the file as it is in the
/// template: not with escapes in it, or folded.
fn within(file: &str, start: Place, template: &str, range: Range<usize>) -> Option<Place> {
    let before = template.get(..range.start)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = template[line_start..].lines().next()?;
    let width = template.get(range.clone())?.lines().next()?.chars().count().max(1);
    // A block begins behind its `|` or on the next line; a quoted text on the line itself
    let nth = before.matches('\n').count();
    (start.line + nth..=start.line + nth + 1).find_map(|number| {
        let source = file.lines().nth(number - 1)?;
        let from = if number == start.line { source.char_indices().nth(start.column - 1)?.0 } else { 0 };
        let at = from + source[from..].find(line)? + (range.start - line_start);
        Some(Place { line: number, column: source[..at].chars().count() + 1, width, ..start })
    })
}

/// The place of `range` of a template that stands in the file in other lines or with escapes: what is written there is
/// the same, and comes as often before it.
fn nth(file: &str, start: Place, template: &str, range: Range<usize>) -> Option<Place> {
    let sought = template.get(range.clone())?;
    let before = template.get(..range.start)?.matches(sought).count();
    let lines = file.split_inclusive('\n');
    let begin: usize = lines.take(start.line - 1).map(str::len).sum();
    let column = file.get(begin..)?.char_indices().nth(start.column - 1)?.0;
    let (at, _) = file.get(begin + column..)?.match_indices(sought).nth(before)?;
    let upto = &file[..begin + column + at];
    let line = upto.rsplit('\n').next().unwrap_or_default();
    let width = sought.lines().next().map_or(1, |line| line.chars().count().max(1));
    let line_number = upto.matches('\n').count() + 1;
    Some(Place { line: line_number, column: line.chars().count() + 1, width, ..start })
}
