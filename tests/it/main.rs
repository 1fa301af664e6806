//! All integration tests in one binary.

#[path = "../support/mod.rs"]
mod support;

mod program;
mod stage;

mod check;
mod cluster;
mod config;
mod efficiency;
mod failures;
mod main_job;
mod output;
mod support_works;
mod trial;
mod upstream_names;
