//! What the program says of its work: for people, for programs, and for the cluster.

pub mod config;
pub mod dry_run;
pub mod file;
pub mod info;
pub mod report;
