//! All integration tests in one binary.

#[path = "../support/mod.rs"]
mod support;

mod main_job;
mod program;
mod support_works;
mod trial;
