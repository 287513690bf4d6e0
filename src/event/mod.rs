//! Events in userspace: the layout of a program's records and the decoding of their bytes. Makes no BPF calls, so all
//! of it runs without root.

mod layout;
mod record;
pub mod text;

pub use layout::{Field, FieldKind, Layout, ValueNames};
pub use record::{CUT, List, Record, Scalar};
