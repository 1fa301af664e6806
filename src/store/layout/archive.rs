//! An image layout as one tar file, which is never unpacked: a blob is read and written at its own place in it.
//!
//! All sizes are known before the first blob moves, and so is each entry's place ([`table`]).

pub(crate) mod contents;
mod files;
mod header;
mod journal;
pub(crate) mod names;
pub(crate) mod partial;
pub(crate) mod parts;
pub(crate) mod regain;
mod room;
pub(crate) mod scan;
pub(crate) mod space;
mod sums;
pub(crate) mod table;
mod walk;

#[cfg(test)]
pub(crate) mod tests;
