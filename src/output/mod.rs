//! From records to bytes in a file: formatters, templates and the three kinds of sinks. Needs no root and no kernel.

mod destination;
mod errno;
mod field_value;
pub mod formatters;
mod jsonl;
pub mod pattern;
pub mod sink;
mod table_view;
pub mod template;
mod template_limits;
pub mod time;

pub use destination::{Destination, STANDARD_OUTPUT};
pub use field_value::{FieldRef, Globals, TextMode};
pub use pattern::PathPattern;
pub use sink::{Cell, OpenSink, SinkColumn, SinkFormat};
pub use template::RecordTemplate;
