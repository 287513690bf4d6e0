//! Refuses templates that could fill the memory: fuel bounds the steps of a template, but not the size of a value that a step makes. Looks at the syntax alone, before anything is computed.

use std::ops::Range;

use minijinja::machinery::Span;
use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, Stmt};

use super::template::TemplateProblem;
use crate::config::diagnostic::Code;

/// Filters that give numbers whatever they get.
const NUMBERS: &[&str] = &["abs", "float", "int", "length", "round"];
/// So many times a template that remembers values may put some together: each time at the most doubles them.
const MAX_JOINED: usize = 10;

/// The problems of the template `parsed`. `is_number` tells of a name whether it stands for a number.
pub(super) fn problems(parsed: &Stmt<'_>, is_number: &dyn Fn(&str) -> bool) -> Vec<TemplateProblem> {
    let mut growth = TemplateLimits { is_number, joined: 0, remembers: false, problems: Vec::new() };
    growth.statement(parsed);
    if growth.remembers && growth.joined > MAX_JOINED {
        let message = format!(
            "the template joins values {} times into variables, and each join can double them: use at most {MAX_JOINED}",
            growth.joined
        );
        growth.problems.push(TemplateProblem { range: None, code: Code::Growth, message });
    }
    growth.problems
}

struct TemplateLimits<'a> {
    is_number: &'a dyn Fn(&str) -> bool,
    /// How often something is made of two things.
    joined: usize,
    /// Whether a name is given to what was made, so that more can be made of it.
    remembers: bool,
    problems: Vec<TemplateProblem>,
}

impl TemplateLimits<'_> {
    fn say(&mut self, span: Span, message: &str) {
        let range: Range<usize> = span.start_offset as usize..span.end_offset as usize;
        self.problems.push(TemplateProblem { range: Some(range), code: Code::Growth, message: message.to_owned() });
    }

    fn all(&mut self, statements: &[Stmt<'_>]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.all(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(each) => {
                if each.recursive {
                    self.say(each.span(), "recursive loops are not supported: remove `recursive`");
                }
                self.remembers = true;
                self.expression(&each.iter);
                each.filter_expr.iter().for_each(|expr| self.expression(expr));
                self.all(&each.body);
                self.all(&each.else_body);
            }
            Stmt::IfCond(either) => {
                self.expression(&either.expr);
                self.all(&either.true_body);
                self.all(&either.false_body);
            }
            Stmt::WithBlock(with) => {
                self.remembers = true;
                with.assignments.iter().for_each(|(_, expr)| self.expression(expr));
                self.all(&with.body);
            }
            Stmt::Set(set) => {
                self.remembers = true;
                self.expression(&set.expr);
            }
            // Each of its pieces is put to those before
            Stmt::SetBlock(set) => {
                self.remembers = true;
                self.joined += set.body.len();
                set.filter.iter().for_each(|filter| self.expression(filter));
                self.all(&set.body);
            }
            Stmt::AutoEscape(block) => {
                self.expression(&block.enabled);
                self.all(&block.body);
            }
            Stmt::FilterBlock(block) => {
                self.joined += block.body.len();
                self.expression(&block.filter);
                self.all(&block.body);
            }
            Stmt::Do(statement) => self.say(statement.span(), "templates have no `do`: remove it"),
            // What the features bring that the runner's minijinja is built without
            #[allow(unreachable_patterns)]
            _ => {}
        }
    }

    fn expressions(&mut self, expressions: &[Expr<'_>]) {
        expressions.iter().for_each(|expression| self.expression(expression));
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) {
        for argument in arguments {
            let (CallArg::Pos(expr) | CallArg::Kwarg(_, expr) | CallArg::PosSplat(expr) | CallArg::KwargSplat(expr)) =
                argument;
            self.expression(expr);
        }
    }

    fn expression(&mut self, expression: &Expr<'_>) {
        match expression {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                let bounds = [&slice.start, &slice.stop, &slice.step];
                bounds.into_iter().flatten().for_each(|expr| self.expression(expr));
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => {
                let (left, right) = (&operation.left, &operation.right);
                let numbers = self.is_certain(left) && self.is_certain(right);
                match operation.op {
                    BinOpKind::Mul if !numbers => {
                        let words =
                            "`*` repeats text without a limit: write `| int` behind each operand that is a number";
                        self.say(operation.span(), words);
                    }
                    BinOpKind::Concat => self.joined += 1,
                    BinOpKind::Add if !numbers => self.joined += 1,
                    _ => {}
                }
                self.expression(left);
                self.expression(right);
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                compare.ops.iter().for_each(|operation| self.expression(&operation.expr));
            }
            Expr::IfExpr(either) => {
                self.expression(&either.test_expr);
                self.expression(&either.true_expr);
                either.false_expr.iter().for_each(|expr| self.expression(expr));
            }
            Expr::Filter(filter) => {
                filter.expr.iter().for_each(|expr| self.expression(expr));
                self.arguments(&filter.args);
            }
            Expr::Test(test) => {
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::GetAttr(attribute) => self.expression(&attribute.expr),
            Expr::GetItem(item) => {
                self.expression(&item.expr);
                self.expression(&item.subscript_expr);
            }
            Expr::Call(call) => {
                self.expression(&call.expr);
                self.arguments(&call.args);
            }
            Expr::List(list) => {
                self.joined += list.items.len();
                self.expressions(&list.items);
            }
            Expr::Tuple(tuple) => {
                self.joined += tuple.items.len();
                self.expressions(&tuple.items);
            }
            Expr::Map(map) => {
                self.joined += map.keys.len() + map.values.len();
                self.expressions(&map.keys);
                self.expressions(&map.values);
            }
        }
    }

    /// Whether it is a number, whatever the record.
    fn is_certain(&self, expression: &Expr<'_>) -> bool {
        match expression {
            Expr::Var(name) => (self.is_number)(name.id),
            Expr::Const(constant) => constant.value.is_number(),
            Expr::UnaryOp(operation) => self.is_certain(&operation.expr),
            Expr::Filter(filter) => NUMBERS.contains(&filter.name),
            Expr::BinOp(operation) => match operation.op {
                BinOpKind::Add | BinOpKind::Mul => {
                    self.is_certain(&operation.left) && self.is_certain(&operation.right)
                }
                BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => true,
                _ => false,
            },
            Expr::IfExpr(either) => {
                self.is_certain(&either.true_expr)
                    && either.false_expr.as_ref().is_some_and(|expr| self.is_certain(expr))
            }
            _ => false,
        }
    }
}
