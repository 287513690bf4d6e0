//! Problems of templates, found before anything runs.

use std::ops::Range;
use std::sync::Arc;

use minijinja::ErrorKind;
use minijinja::machinery::{Instruction, get_compiled_template, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;

use super::super::field_value::{FieldRef, GLOBALS, Globals, PATH_NAMES, RecordObject, TextMode};
use super::super::{formatters, template_limits};
use super::environment::{BUILTIN_FILTERS, BUILTIN_TESTS, environment};
use crate::config::diagnostic::{Code, suggest};
use crate::event::{FieldKind, Layout};

/// A problem in a template: which bytes of it, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateProblem {
    /// Bytes of the template; `None` if minijinja does not report them.
    pub range: Option<Range<usize>>,
    /// Which kind of fault.
    pub code: Code,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The problems of a template of records of `layout`.
pub fn check(source: &str, layout: &Arc<Layout>) -> Vec<TemplateProblem> {
    let fields = FieldRef::all(layout);
    let names: Vec<&str> = fields.iter().map(|(_, name)| *name).chain(GLOBALS.iter().copied()).collect();
    let sample = RecordObject {
        layout: Arc::clone(layout),
        raw: sample(layout),
        time: 0,
        probe: "".into(),
        globals: Arc::default(),
        mode: TextMode::Shown,
    };
    let is_number = |name: &str| {
        let of = |index: usize| matches!(layout.fields[index].kind, FieldKind::Uint | FieldKind::Int | FieldKind::Bool);
        matches!(FieldRef::find(name, layout), Some(FieldRef::Event(index)) if of(index))
    };
    let known = KnownNames { names: &names, what: "a field of this program", is_number: &is_number };
    check_with(source, Some(&known), Some(Value::from_object(sample)))
}

/// The problems of a template of records that nothing is known of.
pub fn check_alone(source: &str) -> Vec<TemplateProblem> {
    check_with(source, None, None)
}

/// A record in which every number is 1.
fn sample(layout: &Layout) -> Vec<u8> {
    let mut raw = vec![0; layout.size];
    for field in layout.fields.iter().filter(|field| matches!(field.kind, FieldKind::Uint | FieldKind::Int)) {
        let one = if cfg!(target_endian = "little") { field.offset } else { field.offset + field.size - 1 };
        raw[one] = 1;
    }
    raw
}

/// The problems of a template of a sink's path.
pub fn check_path(source: &str) -> Vec<TemplateProblem> {
    let known = KnownNames { names: PATH_NAMES, what: "a name that a path can use", is_number: &|_| false };
    let sample = Globals { probe: Some(String::new()), ..Globals::default() };
    check_with(source, Some(&known), Some(Value::from_object(sample)))
}

/// The problems of a template that is for no record and no sink alone: a header, the path of a lock.
pub fn check_global(source: &str) -> Vec<TemplateProblem> {
    let known = KnownNames { names: GLOBALS, what: "a name that can be used here", is_number: &|_| false };
    check_with(source, Some(&known), Some(Value::from_object(Globals::default())))
}

/// What is known of the names that a template can use.
struct KnownNames<'a> {
    /// All that there are.
    names: &'a [&'a str],
    /// What one of them is, for messages.
    what: &'a str,
    /// Whether a name stands for a number.
    is_number: &'a dyn Fn(&str) -> bool,
}

/// Without `known`, every name is taken to be right. `sample` is what is rendered to try.
fn check_with(source: &str, known: Option<&KnownNames<'_>>, sample: Option<Value>) -> Vec<TemplateProblem> {
    let env = environment();
    // Before it is compiled, which computes what is constant
    if let Ok(parsed) = parse(source, "", SyntaxConfig::default()) {
        let is_number = |name: &str| known.is_none_or(|known| (known.is_number)(name));
        let problems = template_limits::problems(&parsed, &is_number);
        if !problems.is_empty() {
            return problems;
        }
    }
    let template = match env.template_from_str(source) {
        Ok(template) => template,
        Err(error) => return vec![problem_of(&error, source)],
    };
    let undeclared = template.undeclared_variables(false);
    let instructions = &get_compiled_template(&template).instructions;
    let mut problems = Vec::new();
    for index in 0.. {
        let Some(instruction) = instructions.get(index) else { break };
        let range = instructions.get_span(index).map(|span| span.start_offset as usize..span.end_offset as usize);
        let unknown = |code, kind: &str, name: &str, others: &mut dyn Iterator<Item = &str>| TemplateProblem {
            range: range.clone().map(|range| narrow(source, range, name)),
            code,
            message: format!("`{name}` is not {kind}{}", suggest(name, others)),
        };
        match instruction {
            Instruction::Lookup(name) => {
                if let Some(known) = known.filter(|known| undeclared.contains(*name) && !known.names.contains(name)) {
                    problems.push(unknown(Code::UnknownVariable, known.what, name, &mut known.names.iter().copied()));
                }
            }
            Instruction::ApplyFilter(name, ..)
                if !formatters::NAMES.contains(name) && !BUILTIN_FILTERS.contains(name) =>
            {
                let mut others = formatters::NAMES.iter().chain(BUILTIN_FILTERS).copied();
                problems.push(unknown(Code::UnknownFormatter, "a template filter", name, &mut others));
            }
            Instruction::PerformTest(name, ..) if !BUILTIN_TESTS.contains(name) => {
                let others = &mut BUILTIN_TESTS.iter().copied();
                problems.push(unknown(Code::UnknownFormatter, "a template test", name, others));
            }
            Instruction::CallFunction(name, ..) => problems.push(TemplateProblem {
                range: range.clone(),
                code: Code::UnknownFormatter,
                message: format!("templates have no functions: write a filter, `| {name}`, instead of `{name}(…)`"),
            }),
            _ => {}
        }
    }
    // With all names in order, a record of ones shows formatters that are used on the wrong values. What it can't be
    // calculated with (a division by zero, say) does not speak against real records.
    if problems.is_empty()
        && let Some(sample) = sample
        && let Err(error) = template.render(sample)
        && error.detail().is_none_or(|detail| !detail.starts_with("unable to calculate"))
    {
        problems.push(problem_of(&error, source));
    }
    problems
}

/// The labels that a template asks for, each with its bytes of the template. Of one that can't be compiled none.
pub fn labels(source: &str) -> Vec<(Option<Range<usize>>, String)> {
    let Ok(template) = environment().template_from_str(source) else { return Vec::new() };
    let instructions = &get_compiled_template(&template).instructions;
    let mut found = Vec::new();
    for index in 0.. {
        let Some(instruction) = instructions.get(index) else { break };
        if let (Instruction::Lookup("labels"), Some(Instruction::GetAttr(name))) =
            (instruction, instructions.get(index + 1))
        {
            let span = instructions.get_span(index + 1);
            let range = span.map(|span| narrow(source, span.start_offset as usize..span.end_offset as usize, name));
            found.push((range, (*name).to_owned()));
        }
    }
    found
}

fn problem_of(error: &minijinja::Error, source: &str) -> TemplateProblem {
    let (code, message) = match (error.kind(), error.detail()) {
        (ErrorKind::SyntaxError, detail) => {
            (Code::TemplateSyntax, format!("invalid template: {}", detail.unwrap_or("syntax error")))
        }
        (_, Some(detail)) => (Code::Misapplied, detail.to_owned()),
        (kind, None) => (Code::Misapplied, kind.to_string()),
    };
    TemplateProblem { range: error.range().filter(|range| range.end <= source.len()), code, message }
}

/// The place of `name` within `range`, which spans a whole expression.
fn narrow(source: &str, range: Range<usize>, name: &str) -> Range<usize> {
    match source.get(range.clone()).and_then(|text| text.rfind(name)) {
        Some(at) => range.start + at..range.start + at + name.len(),
        None => range,
    }
}
