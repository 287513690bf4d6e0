//! Events in userspace: the shape of a program's records and how their bytes are read. Knows nothing of BPF calls, so
//! all of it runs without root.

mod layout;
mod record;
pub mod text;

pub use layout::{Field, FieldKind, Layout, ValueNames};
pub use record::{CUT, List, Record, Scalar};
