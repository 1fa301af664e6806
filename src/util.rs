//! What is of no room in particular: texts, input that is bounded, YAML, open files.

pub mod input;
pub mod open_files;
#[cfg(test)]
pub(crate) mod schema;
pub mod size;
pub mod text;
pub mod yaml;
