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
mod kill;
mod main_job;
mod memory;
mod output;
mod platforms;
mod real_targets;
mod support_works;
mod trial;
mod upstream_names;
