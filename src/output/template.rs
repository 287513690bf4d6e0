//! Templates: checked against a program's fields, and compiled twice.
//!
//! Most templates are text with `{{ field | formatter }}` in it; these are compiled into segments that are copied and
//! formatted without minijinja (the fast path, a tenth of the time). Everything else minijinja renders. Both write the
//! same bytes, and a test holds them to it.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use minijinja::machinery::ast::{CallArg, Expr, Filter, Stmt};
use minijinja::machinery::{Instruction, get_compiled_template, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, ErrorKind, Template, UndefinedBehavior, filters, tests};

use super::formatters::{self, Arg, Formatter, Operand};
use super::growth;
use super::value::{Field, GLOBALS, Globals, PATH_NAMES, RecordObject, TextMode, operand, operand_of, push_scalar};
use crate::config::diagnostic::{Code, suggest};
use crate::event::{Kind, Layout, Record, Scalar};

/// Jinja's own filters that templates have. Nothing that reads, runs or grows without bound.
const BUILTIN_FILTERS: &[&str] = &[
    "abs", "default", "first", "float", "int", "join", "last", "length", "lower", "replace", "round", "trim", "upper",
];
/// Jinja's own tests that templates have.
const BUILTIN_TESTS: &[&str] = &["defined", "undefined", "startingwith", "endingwith"];

/// Steps that the rendering of one record may take, far above any sensible template.
const FUEL: u64 = 50_000;

/// Bytes that a template may make of one record.
const MAX_TEXT: usize = 1 << 20;

/// A problem in a template: which bytes of it, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the template; `None` if minijinja does not tell.
    pub range: Option<Range<usize>>,
    /// Which kind of fault.
    pub code: Code,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The one environment of all templates.
fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Environment::empty();
        env.set_fuel(Some(FUEL));
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_formatter(|out, state, value| {
            if value.kind() == ValueKind::Bool {
                return out.write_str(if value.is_true() { "true" } else { "false" }).map_err(Into::into);
            }
            minijinja::escape_formatter(out, state, value)
        });
        for &name in formatters::NAMES {
            env.add_filter(name, move |value: Value, args: Rest<Value>| format(name, &value, &args));
        }
        env.add_filter("abs", filters::abs);
        env.add_filter("default", filters::default);
        env.add_filter("first", filters::first);
        env.add_filter("float", filters::float);
        env.add_filter("int", filters::int);
        env.add_filter("join", |items: &Value, between: Option<&str>| join(items, between));
        env.add_filter("last", filters::last);
        env.add_filter("length", filters::length);
        env.add_filter("lower", filters::lower);
        env.add_filter("replace", |text: &str, from: &str, to: &str| replace(text, from, to));
        env.add_filter("round", filters::round);
        env.add_filter("trim", filters::trim);
        env.add_filter("upper", filters::upper);
        env.add_test("defined", tests::is_defined);
        env.add_test("undefined", tests::is_undefined);
        env.add_test("startingwith", tests::is_startingwith);
        env.add_test("endingwith", tests::is_endingwith);
        env
    })
}

/// A formatter as minijinja calls it.
fn format(name: &str, value: &Value, args: &[Value]) -> Result<String, minijinja::Error> {
    let wrong = |message: String| minijinja::Error::new(ErrorKind::InvalidOperation, message);
    let args: Vec<Arg<'_>> = args
        .iter()
        .map(|arg| arg_of(arg).ok_or_else(|| wrong(format!("{name} takes numbers and texts"))))
        .collect::<Result<_, _>>()?;
    let formatter = Formatter::new(name, &args).expect("only formatters are registered").map_err(wrong)?;
    let (mut out, mut scratch) = (String::new(), String::new());
    formatter.apply(operand_of(value, &mut scratch), &mut out).map_err(wrong)?;
    Ok(out)
}

fn arg_of(value: &Value) -> Option<Arg<'_>> {
    match value.as_str() {
        Some(text) => Some(Arg::Text(text)),
        None => value.as_i64().map(Arg::Int),
    }
}

/// The problems of a template of records of `layout`.
pub fn check(source: &str, layout: &Arc<Layout>) -> Vec<Problem> {
    let fields = Field::all(layout);
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
        let of = |index: usize| matches!(layout.fields[index].kind, Kind::Uint | Kind::Int | Kind::Bool);
        matches!(Field::find(name, layout), Some(Field::Event(index)) if of(index))
    };
    let known = Known { names: &names, what: "a field of this program", is_number: &is_number };
    check_with(source, Some(&known), Some(Value::from_object(sample)))
}

/// The problems of a template of records that nothing is known of.
pub fn check_alone(source: &str) -> Vec<Problem> {
    check_with(source, None, None)
}

/// A record in which every number is 1.
fn sample(layout: &Layout) -> Vec<u8> {
    let mut raw = vec![0; layout.size];
    for field in layout.fields.iter().filter(|field| matches!(field.kind, Kind::Uint | Kind::Int)) {
        let one = if cfg!(target_endian = "little") { field.offset } else { field.offset + field.size - 1 };
        raw[one] = 1;
    }
    raw
}

/// The problems of a template of a sink's path.
pub fn check_path(source: &str) -> Vec<Problem> {
    let known = Known { names: PATH_NAMES, what: "a name that a path can use", is_number: &|_| false };
    let sample = Globals { probe: Some(String::new()), ..Globals::default() };
    check_with(source, Some(&known), Some(Value::from_object(sample)))
}

/// The problems of a template that is for no record and no sink alone: a header, the path of a lock.
pub fn check_global(source: &str) -> Vec<Problem> {
    let known = Known { names: GLOBALS, what: "a name that can be used here", is_number: &|_| false };
    check_with(source, Some(&known), Some(Value::from_object(Globals::default())))
}

/// What is known of the names that a template can use.
struct Known<'a> {
    /// All that there are.
    names: &'a [&'a str],
    /// What one of them is, for messages.
    what: &'a str,
    /// Whether a name stands for a number.
    is_number: &'a dyn Fn(&str) -> bool,
}

/// Without `known`, every name is taken to be right. `sample` is what is rendered to try.
fn check_with(source: &str, known: Option<&Known<'_>>, sample: Option<Value>) -> Vec<Problem> {
    let env = environment();
    // Before it is compiled, which computes what is constant
    if let Ok(parsed) = parse(source, "", SyntaxConfig::default()) {
        let is_number = |name: &str| known.is_none_or(|known| (known.is_number)(name));
        let problems = growth::problems(&parsed, &is_number);
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
        let unknown = |code, kind: &str, name: &str, others: &mut dyn Iterator<Item = &str>| Problem {
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
            Instruction::CallFunction(name, ..) => problems.push(Problem {
                range: range.clone(),
                code: Code::UnknownFormatter,
                message: format!("`{name}` is called, but templates have no functions; filters are written `| {name}`"),
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

fn problem_of(error: &minijinja::Error, source: &str) -> Problem {
    let (code, message) = match (error.kind(), error.detail()) {
        (ErrorKind::SyntaxError, detail) => {
            (Code::TemplateSyntax, format!("the template is wrong: {}", detail.unwrap_or("syntax error")))
        }
        (_, Some(detail)) => (Code::Misapplied, detail.to_owned()),
        (kind, None) => (Code::Misapplied, kind.to_string()),
    };
    Problem { range: error.range().filter(|range| range.end <= source.len()), code, message }
}

/// The place of `name` within `range`, which spans a whole expression.
fn narrow(source: &str, range: Range<usize>, name: &str) -> Range<usize> {
    match source.get(range.clone()).and_then(|text| text.rfind(name)) {
        Some(at) => range.start + at..range.start + at + name.len(),
        None => range,
    }
}

/// Takes as much as a record may have.
struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends what `template` makes of `context`.
fn render_bounded(template: &Template<'_, '_>, context: Value, out: &mut String) -> Result<(), String> {
    let mut bytes = Vec::new();
    let rendered = template.render_captured_to(context, Bounded { out: &mut bytes, left: MAX_TEXT });
    match rendered {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WriteFailure => return Err(too_long()),
        Err(error) => return Err(error.detail().map_or(error.to_string(), str::to_owned)),
    }
    out.push_str(std::str::from_utf8(&bytes).map_err(|error| error.to_string())?);
    Ok(())
}

fn too_long() -> String {
    format!("the text has more than {MAX_TEXT} bytes, and no record should")
}

/// Jinja's `replace`, which can make much of little.
fn replace(text: &str, from: &str, to: &str) -> Result<String, minijinja::Error> {
    let longest = match from.len() {
        0 => text.len() + (text.len() + 1).saturating_mul(to.len()),
        from_len => text.len() + (text.len() / from_len).saturating_mul(to.len()),
    };
    if longest > MAX_TEXT {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, too_long()));
    }
    Ok(text.replace(from, to))
}

/// Jinja's `join`, likewise.
fn join(items: &Value, between: Option<&str>) -> Result<String, minijinja::Error> {
    let mut out = String::new();
    let items: Vec<Value> = match items.as_str() {
        Some(text) => text.chars().map(Value::from).collect(),
        None => items.try_iter()?.collect(),
    };
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push_str(between.unwrap_or_default());
        }
        out += &item.to_string();
        if out.len() > MAX_TEXT {
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, too_long()));
        }
    }
    Ok(out)
}

/// Renders a template of file names or of a header.
///
/// # Errors
/// What minijinja says; [`check_path`] finds such templates before.
pub fn render_global(source: &str, globals: &Arc<Globals>) -> Result<String, String> {
    let context = Value::from_dyn_object(Arc::clone(globals));
    let template = environment().template_from_str(source).map_err(|error| error.to_string())?;
    let mut out = String::new();
    render_bounded(&template, context, &mut out)?;
    Ok(out)
}

/// A template, compiled for the records of one probe.
#[derive(Debug)]
pub struct RecordTemplate {
    layout: Arc<Layout>,
    probe: Arc<str>,
    globals: Arc<Globals>,
    mode: TextMode,
    /// The fast path, if the template is simple enough.
    segments: Option<Vec<Segment>>,
    template: Template<'static, 'static>,
    scratch: [String; 2],
}

#[derive(Debug)]
enum Segment {
    Text(String),
    Field(Field, Vec<Formatter>),
}

impl RecordTemplate {
    /// Compiles `source`.
    ///
    /// # Errors
    /// What minijinja says of its syntax; [`check`] finds that before, and more.
    pub fn new(
        source: &str,
        layout: &Arc<Layout>,
        probe: &str,
        globals: &Arc<Globals>,
        mode: TextMode,
    ) -> Result<Self, String> {
        // Compiled templates borrow their source: a handful of short texts that live as long as the process
        let source: &'static str = Box::leak(source.to_owned().into_boxed_str());
        Ok(RecordTemplate {
            layout: Arc::clone(layout),
            probe: probe.into(),
            globals: Arc::clone(globals),
            mode,
            segments: fast_path(source, layout),
            template: environment().template_from_str(source).map_err(|error| error.to_string())?,
            scratch: Default::default(),
        })
    }

    /// Leaves the fast path out, to compare with.
    pub fn without_fast_path(mut self) -> Self {
        self.segments = None;
        self
    }

    /// Whether minijinja is not needed.
    pub fn is_fast(&self) -> bool {
        self.segments.is_some()
    }

    /// Appends `record`. Where that fails, `out` stays what it was.
    ///
    /// # Errors
    /// If a formatter meets a value that it is not made for, or the template never comes to its end.
    pub fn render(&mut self, record: &Record<'_>, out: &mut String) -> Result<(), String> {
        let start = out.len();
        let result = match &self.segments {
            Some(segments) => render_segments(segments, record, self.mode, &mut self.scratch, out),
            None => self.render_slowly(record, out),
        };
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn render_slowly(&self, record: &Record<'_>, out: &mut String) -> Result<(), String> {
        let context = RecordObject {
            layout: Arc::clone(&self.layout),
            raw: record.raw.to_vec(),
            time: record.time,
            probe: Arc::clone(&self.probe),
            globals: Arc::clone(&self.globals),
            mode: self.mode,
        };
        render_bounded(&self.template, Value::from_object(context), out)
    }
}

#[inline]
fn render_segments(
    segments: &[Segment],
    record: &Record<'_>,
    mode: TextMode,
    scratch: &mut [String; 2],
    out: &mut String,
) -> Result<(), String> {
    for segment in segments {
        match segment {
            Segment::Text(text) => out.push_str(text),
            Segment::Field(field, formatters) => match formatters.as_slice() {
                [] => push_scalar(field.read(record), mode, out),
                [only] => only.apply(operand(field.read(record), mode, &mut scratch[0]), out)?,
                chain => push_chain(chain, field.read(record), mode, scratch, out)?,
            },
        }
    }
    Ok(())
}

/// Several formatters: each works on the text of the one before.
fn push_chain(
    chain: &[Formatter],
    scalar: Scalar<'_>,
    mode: TextMode,
    scratch: &mut [String; 2],
    out: &mut String,
) -> Result<(), String> {
    let [from, to] = scratch;
    let (first, rest) = chain.split_first().expect("a chain has formatters");
    to.clear();
    first.apply(operand(scalar, mode, from), to)?;
    for (i, formatter) in rest.iter().enumerate() {
        std::mem::swap(from, to);
        if i + 1 == rest.len() {
            formatter.apply(Operand::Text(from), out)?;
        } else {
            to.clear();
            formatter.apply(Operand::Text(from), to)?;
        }
    }
    Ok(())
}

/// The segments of a template that consists of text and `{{ field | formatter }}` only.
fn fast_path(source: &str, layout: &Layout) -> Option<Vec<Segment>> {
    let Stmt::Template(template) = parse(source, "", SyntaxConfig::default()).ok()? else { return None };
    template
        .children
        .iter()
        .map(|child| match child {
            Stmt::EmitRaw(text) => Some(Segment::Text(text.raw.to_owned())),
            Stmt::EmitExpr(emit) => {
                let mut formatters = Vec::new();
                let field = field_of(&emit.expr, layout, &mut formatters)?;
                Some(Segment::Field(field, formatters))
            }
            _ => None,
        })
        .collect()
}

fn field_of(expr: &Expr<'_>, layout: &Layout, formatters: &mut Vec<Formatter>) -> Option<Field> {
    match expr {
        Expr::Var(var) => Field::find(var.id, layout),
        Expr::Filter(filter) => {
            let field = field_of(filter.expr.as_ref()?, layout, formatters)?;
            formatters.push(formatter_of(filter)?);
            Some(field)
        }
        _ => None,
    }
}

fn formatter_of(filter: &Filter<'_>) -> Option<Formatter> {
    let values: Vec<Value> = filter
        .args
        .iter()
        .map(|arg| match arg {
            CallArg::Pos(Expr::Const(constant)) => Some(constant.value.clone()),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let args: Vec<Arg<'_>> = values.iter().map(arg_of).collect::<Option<_>>()?;
    Formatter::new(filter.name, &args)?.ok()
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod template_tests;
