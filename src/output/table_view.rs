//! What a program adds up, for a person at a terminal: histograms as bars, counters as a table.

use std::sync::Arc;

use unicode_width::UnicodeWidthStr;

use super::field_value::{TextMode, push_scalar};
use super::formatters::{Formatter, Operand};
use super::time;
use crate::event::{Field, FieldKind, Layout, Scalar};

/// Columns where no terminal tells its own.
const WIDTH: usize = 80;
/// Fewer columns than this for the bars of a histogram show nothing.
const LEAST_BARS: usize = 12;
/// Between two histograms side by side.
const GUTTER: &str = "   ";
/// Text in a table is cut at so many columns.
const TEXT_WIDTH: usize = 32;
/// Fields that are not a part of the key.
const BUCKET: [&str; 3] = ["bucket_low", "bucket_high", "count"];

/// One row: its bytes and what they mean.
#[derive(Debug, Clone)]
pub struct TableRow {
    /// The shape of `raw`.
    pub layout: Arc<Layout>,
    /// The row's bytes.
    pub raw: Vec<u8>,
    /// Wall-clock time of the reading.
    pub time: i64,
}

/// A histogram of one key.
#[derive(Default)]
struct Histogram {
    title: String,
    /// Lines of the stacks in the key.
    stacks: String,
    buckets: Vec<(u64, u64, u64)>,
    unit: Option<String>,
    summary: Vec<String>,
}

/// Draws one reading of the probe called `probe`, `width` columns wide; 80 if the width is not known.
pub fn draw(probe: &str, rows: &[TableRow], width: Option<usize>, out: &mut String) {
    let width = width.unwrap_or(WIDTH).max(40);
    let Some(first) = rows.first() else { return };
    time::push_clock(first.time, out);
    out.push(' ');
    out.push_str(probe);
    out.push('\n');
    if rows.iter().any(|row| row.layout.index(BUCKET[0]).is_some()) {
        histograms(rows, width, out);
    } else {
        table(rows, out);
        out.push('\n');
    }
}

fn histograms(rows: &[TableRow], width: usize, out: &mut String) {
    let mut found: Vec<Histogram> = Vec::new();
    for row in rows {
        let (title, stacks) = (title(row), stacks(row));
        if found.last().is_none_or(|last| last.title != title || last.stacks != stacks) {
            found.push(Histogram { title, stacks, ..Histogram::default() });
        }
        let Some(histogram) = found.last_mut() else { continue };
        let value = |name| number(row, name);
        match BUCKET.map(value) {
            [Some(low), Some(high), Some(count)] => {
                histogram.buckets.push((low, high, count));
                let field = row.layout.index(BUCKET[0]).map(|at| &row.layout.fields[at]);
                histogram.unit = field.and_then(|field| field.unit.clone());
            }
            _ => histogram.summary = summary(row),
        }
    }
    let labels: Vec<usize> = found.iter().flat_map(labels_of).map(|label| label.width()).collect();
    let label = labels.into_iter().max().unwrap_or(0);
    let counts = found.iter().flat_map(|h| h.buckets.iter().map(|(.., count)| count.to_string().len()));
    let count = counts.max().unwrap_or(1);
    let fixed = label + count + 6; // " : ", a blank and two bars
    let fit = (width + GUTTER.len()) / (fixed + LEAST_BARS + GUTTER.len());
    let stacked = found.iter().any(|histogram| !histogram.stacks.is_empty());
    let side_by_side = if stacked { 1 } else { fit.clamp(1, found.len().max(1)) };
    let each = (width - GUTTER.len() * (side_by_side - 1)) / side_by_side;
    let bars = each.saturating_sub(fixed).max(LEAST_BARS);
    for group in found.chunks(side_by_side) {
        let blocks: Vec<Vec<String>> = group.iter().map(|one| block(one, label, count, bars, each)).collect();
        for line in 0..blocks.iter().map(Vec::len).max().unwrap_or(0) {
            let mut text = String::new();
            for (i, block) in blocks.iter().enumerate() {
                let cell = block.get(line).map_or("", String::as_str);
                if i + 1 == blocks.len() {
                    text.push_str(&cut(cell, each));
                } else {
                    push_left(cell, each, &mut text);
                    text.push_str(GUTTER);
                }
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
    }
}

/// The slots from the first to the last that has something, those without among them.
fn filled(buckets: &[(u64, u64, u64)]) -> Vec<(u64, u64, u64)> {
    let mut all: Vec<(u64, u64, u64)> = Vec::new();
    for &(low, high, count) in buckets {
        while let Some(&(last_low, last_high, _)) = all.last()
            && last_high.checked_add(1).is_some_and(|next| next < low)
        {
            let next = last_high + 1;
            // Buckets of a fixture may be none that a program has
            let width = if last_low == 0 { 2 } else { last_low.saturating_mul(2) };
            all.push((next, next.saturating_add(width - 1), 0));
        }
        all.push((low, high, count));
    }
    all
}

fn labels_of(histogram: &Histogram) -> Vec<String> {
    let unit = histogram.unit.as_deref();
    let label = |(low, high, _): (u64, u64, u64)| {
        if high == u64::MAX {
            return format!("{} or more", quantity(low, unit));
        }
        // The next bucket's beginning reads better than one below it
        format!("{:>6} - {:<6}", quantity(low, unit), quantity(high + u64::from(unit.is_some()), unit))
    };
    filled(&histogram.buckets).into_iter().map(label).collect()
}

/// The lines of one histogram: `label`, `width` and `bars` are the columns of a label, a count and the bars, `each` of
/// all of it.
fn block(histogram: &Histogram, label: usize, width: usize, bars: usize, each: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if !histogram.title.is_empty() {
        lines.push(histogram.title.clone());
    }
    lines.extend(histogram.stacks.lines().map(str::to_owned));
    let most = histogram.buckets.iter().map(|(.., count)| *count).max().unwrap_or(1).max(1);
    for (text, (.., count)) in labels_of(histogram).into_iter().zip(filled(&histogram.buckets)) {
        let mut line = String::new();
        push_left(&text, label, &mut line);
        let stars = (u128::from(count) * bars as u128).div_ceil(u128::from(most)) as usize;
        line.push_str(&format!(" : {count:>width$} |{:<bars$}|", "*".repeat(stars)));
        lines.push(line);
    }
    let mut last = String::new();
    for part in &histogram.summary {
        let separator = if last.is_empty() { "" } else { ", " };
        if !last.is_empty() && last.width() + separator.len() + part.width() + 1 > each {
            // (With the comma that may come behind it)
            lines.push(std::mem::take(&mut last) + ",");
            last.push_str(part);
        } else {
            last += separator;
            last += part;
        }
    }
    if !last.is_empty() {
        lines.push(last);
    }
    lines.push(String::new());
    lines
}

/// The stacks of a row's key, a line a frame.
fn stacks(row: &TableRow) -> String {
    let mut out = String::new();
    for (index, field) in key_fields(&row.layout).filter(|(_, field)| matches!(field.kind, FieldKind::Stack { .. })) {
        push_stack(row.layout.read(index, &row.raw), field, &mut out);
    }
    out
}

/// `comm=postgres device=vda`: the members of the key that say something.
fn title(row: &TableRow) -> String {
    let mut out = String::new();
    for (index, field) in key_fields(&row.layout) {
        let value = row.layout.read(index, &row.raw);
        let empty = match value {
            Scalar::Uint(0) => field.name != "cpu",
            Scalar::Text(text) => text.is_empty(),
            Scalar::Stack(_) => true, // these have lines of their own
            _ => false,
        };
        if empty {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&field.name);
        out.push('=');
        push_scalar(value, TextMode::Shown, &mut out);
    }
    out
}

/// The fields that are neither the row's own nor its values.
fn key_fields(layout: &Layout) -> impl Iterator<Item = (usize, &Field)> {
    let values = ["ts", "row", "bucket_low", "bucket_high", "count", "sum", "p50", "p90", "p99", "max"];
    layout.fields.iter().enumerate().filter(move |(_, field)| !values.contains(&field.name.as_str()))
}

fn number(row: &TableRow, name: &str) -> Option<u64> {
    match row.layout.read(row.layout.index(name)?, &row.raw) {
        Scalar::Uint(value) => Some(value),
        _ => None,
    }
}

fn summary(row: &TableRow) -> Vec<String> {
    let unit = row.layout.index("sum").and_then(|at| row.layout.fields[at].unit.clone());
    let value = |name: &str| number(row, name).unwrap_or(0);
    let shown = |value| quantity(value, unit.as_deref());
    let count = value("count");
    let named = |name: &str| format!("{name} {}", shown(value(name)));
    let average = shown(value("sum").checked_div(count).unwrap_or(0));
    let mut parts = vec![format!("{count} in all"), format!("average {average}")];
    parts.extend(["p50", "p90", "p99", "max"].map(named));
    parts
}

/// A number in the unit that suits it.
fn quantity(value: u64, unit: Option<&str>) -> String {
    let mut out = String::new();
    let formatter = match unit {
        Some("ns") => Some(Formatter::Duration),
        Some("bytes") => Some(Formatter::Bytes),
        _ => None,
    };
    match formatter.map(|formatter| formatter.apply(Operand::Uint(value), &mut out)) {
        Some(Ok(())) => out,
        _ => value.to_string(),
    }
}

/// Counters: a line a row, aligned; stacks below their row, the innermost frame first.
fn table(rows: &[TableRow], out: &mut String) {
    let Some(layout) = rows.first().map(|row| &row.layout) else { return };
    let columns: Vec<(usize, &Field)> = layout.fields.iter().enumerate().skip(1).collect();
    let (stacks, mut columns): (Vec<_>, Vec<_>) =
        columns.into_iter().partition(|(_, field)| matches!(field.kind, FieldKind::Stack { .. }));
    // A text that no row has is of a key that was not asked for; and so is the process, if it is the command's
    let without = |index: usize| rows.iter().all(|row| matches!(layout.read(index, &row.raw), Scalar::Text(b"")));
    let no_process = layout.index("comm").is_some_and(without);
    columns.retain(|(index, field)| !(without(*index) || (no_process && field.name == "pid")));
    let cell = |row: &TableRow, index: usize, field: &Field| match layout.read(index, &row.raw) {
        Scalar::Uint(value) => quantity(value, field.unit.as_deref()),
        other => {
            let mut text = String::new();
            push_scalar(other, TextMode::Shown, &mut text);
            cut(&text, TEXT_WIDTH)
        }
    };
    let names: Vec<String> = columns.iter().map(|(_, field)| heading(field)).collect();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|(index, field)| cell(row, *index, field)).collect()).collect();
    let column = |i: usize| TableColumn {
        width: cells.iter().map(|row| row[i].width()).chain([names[i].len()]).max().unwrap_or(0),
        number: matches!(columns[i].1.kind, FieldKind::Uint | FieldKind::Int),
    };
    let shape: Vec<TableColumn> = (0..columns.len()).map(column).collect();
    push_line(&names, &shape, out);
    for (row, line) in rows.iter().zip(&cells) {
        push_line(line, &shape, out);
        for (index, field) in &stacks {
            push_stack(layout.read(*index, &row.raw), field, out);
        }
    }
}

/// A column of a table.
struct TableColumn {
    width: usize,
    number: bool,
}

fn push_line(line: &[String], shape: &[TableColumn], out: &mut String) {
    let start = out.len();
    for (text, column) in line.iter().zip(shape) {
        if out.len() > start {
            out.push_str("  ");
        }
        let formatter = if column.number { Formatter::Right(column.width) } else { Formatter::Left(column.width) };
        // Text fits everywhere: these two take any
        let _ = formatter.apply(Operand::Text(text), out);
    }
    out.truncate(start + out[start..].trim_end().len());
    out.push('\n');
}

fn push_stack(stack: Scalar<'_>, field: &Field, out: &mut String) {
    let Scalar::Stack(frames) = stack else { return };
    for (i, frame) in frames.iter().enumerate() {
        if i == 0 {
            out.push_str(&format!("    {}\n", field.name.replace('_', " ")));
        }
        out.push_str("        ");
        TextMode::Shown.push(frame, out);
        out.push('\n');
    }
}

/// The field's name without its unit, which the cells have.
fn heading(field: &Field) -> String {
    let unit = field.unit.as_deref().filter(|unit| ["ns", "bytes"].contains(unit)).map(|unit| format!("_{unit}"));
    let name = unit.and_then(|unit| field.name.strip_suffix(&unit)).unwrap_or(&field.name);
    name.to_uppercase()
}

fn push_left(text: &str, width: usize, out: &mut String) {
    let _ = Formatter::Left(width).apply(Operand::Text(text), out);
}

/// `text` in no more than `width` columns.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    push_left(text, width, &mut out);
    out
}

#[cfg(test)]
mod tests;
