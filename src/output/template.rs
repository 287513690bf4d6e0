//! Templates: checked against a program's fields, and compiled twice.
//!
//! Most templates are text with `{{ field | formatter }}` in it; these are compiled into segments that are copied and
//! formatted without minijinja (the fast path, a tenth of the time). Everything else minijinja renders. Both write the
//! same bytes, and a test holds them to it.

mod check;
mod environment;
mod fast;

use std::sync::Arc;

use minijinja::Template;
use minijinja::value::Value;

use super::field_value::{Globals, RecordObject, TextMode};
use crate::event::{Layout, Record};
pub use check::{TemplateProblem, check, check_alone, check_global, check_path, labels};
use environment::{environment, render_bounded};
use fast::{TemplateSegment, fast_path, render_segments};

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
    segments: Option<Vec<TemplateSegment>>,
    template: Template<'static, 'static>,
    scratch: [String; 2],
}

impl RecordTemplate {
    /// Compiles `source`.
    ///
    /// # Errors
    /// What minijinja says of its syntax; [`check()`] finds that before, and more.
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

#[cfg(test)]
mod tests;
