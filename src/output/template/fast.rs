//! The fast path: text and `{{ field | formatter }}`, without minijinja.

use minijinja::machinery::ast::{CallArg, Expr, Filter, Stmt};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;

use super::super::field_value::{FieldRef, TextMode, operand, push_scalar};
use super::super::formatters::{Arg, Formatter, Operand};
use super::environment::arg_of;
use crate::event::{Layout, Record, Scalar};

/// A piece of a template.
#[derive(Debug)]
pub enum TemplateSegment {
    /// What stands there.
    Text(String),
    /// A field, and what its value goes through.
    Field(FieldRef, Vec<Formatter>),
}

/// Appends `record`.
///
/// # Errors
/// If a formatter meets a value that it is not made for; what was appended till then is left.
#[inline]
pub fn render_segments(
    segments: &[TemplateSegment],
    record: &Record<'_>,
    mode: TextMode,
    scratch: &mut [String; 2],
    out: &mut String,
) -> Result<(), String> {
    for segment in segments {
        match segment {
            TemplateSegment::Text(text) => out.push_str(text),
            TemplateSegment::Field(field, formatters) => match formatters.as_slice() {
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
pub fn fast_path(source: &str, layout: &Layout) -> Option<Vec<TemplateSegment>> {
    let Stmt::Template(template) = parse(source, "", SyntaxConfig::default()).ok()? else { return None };
    template
        .children
        .iter()
        .map(|child| match child {
            Stmt::EmitRaw(text) => Some(TemplateSegment::Text(text.raw.to_owned())),
            Stmt::EmitExpr(emit) => {
                let mut formatters = Vec::new();
                let field = field_of(&emit.expr, layout, &mut formatters)?;
                Some(TemplateSegment::Field(field, formatters))
            }
            _ => None,
        })
        .collect()
}

fn field_of(expr: &Expr<'_>, layout: &Layout, formatters: &mut Vec<Formatter>) -> Option<FieldRef> {
    match expr {
        Expr::Var(var) => FieldRef::find(var.id, layout),
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
