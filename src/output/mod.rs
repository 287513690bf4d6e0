//! From records to bytes in a file: formatters, templates and the three kinds of sinks. Needs no root and no kernel.

mod destination;
mod draw;
mod errno;
pub mod formatters;
mod growth;
mod jsonl;
pub mod pattern;
pub mod sink;
pub mod template;
pub mod time;
mod value;

pub use destination::{Output, STANDARD_OUTPUT};
pub use pattern::PathPattern;
pub use sink::{Cell, Column, Shape, Sink};
pub use template::RecordTemplate;
pub use value::{Field, Globals, TextMode};
