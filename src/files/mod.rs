//! The files of sinks, reports and locks: safe paths, atomic files, rotation, retention. Independent of eBPF.

pub(crate) mod atomic;
pub(crate) mod finalize;
pub(crate) mod path_safety;
pub(crate) mod retention;
pub(crate) mod rotate;
pub(crate) mod small_file;
pub(crate) mod target;
