//! What templates are made of: the environment that renders them, and its bounds.

use std::io;
use std::sync::OnceLock;

use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, ErrorKind, Template, UndefinedBehavior, filters, tests};

use super::super::field_value::operand_of;
use super::super::formatters::{self, Arg, Formatter};

/// Jinja's own filters that templates have. Nothing that reads, runs or grows without bound.
pub const BUILTIN_FILTERS: &[&str] = &[
    "abs", "default", "first", "float", "int", "join", "last", "length", "lower", "replace", "round", "trim", "upper",
];
/// Jinja's own tests that templates have.
pub const BUILTIN_TESTS: &[&str] = &["defined", "undefined", "startingwith", "endingwith"];

/// Steps that the rendering of one record may take, far above any sensible template.
const FUEL: u64 = 50_000;

/// Bytes that a template may make of one record.
const MAX_TEXT: usize = 1 << 20;

/// The one environment of all templates.
pub fn environment() -> &'static Environment<'static> {
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

/// A formatter's argument, if it is one.
pub fn arg_of(value: &Value) -> Option<Arg<'_>> {
    match value.as_str() {
        Some(text) => Some(Arg::Text(text)),
        None => value.as_i64().map(Arg::Int),
    }
}

/// Takes as much as a record may have.
struct BoundedWriter<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
}

impl io::Write for BoundedWriter<'_> {
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
pub fn render_bounded(template: &Template<'_, '_>, context: Value, out: &mut String) -> Result<(), String> {
    let mut bytes = Vec::new();
    let rendered = template.render_captured_to(context, BoundedWriter { out: &mut bytes, left: MAX_TEXT });
    match rendered {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WriteFailure => return Err(too_long()),
        Err(error) => return Err(error.detail().map_or(error.to_string(), str::to_owned)),
    }
    out.push_str(std::str::from_utf8(&bytes).map_err(|error| error.to_string())?);
    Ok(())
}

fn too_long() -> String {
    format!("the text has more than {MAX_TEXT} bytes: shorten the template")
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
