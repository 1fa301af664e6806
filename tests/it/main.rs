//! All integration tests in one binary.

#[path = "../support/mod.rs"]
mod support;

mod program;
mod scene;
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
mod real_targets;
mod rows;
mod schedules;
mod set_ups;
mod support_works;
mod table;
mod trial;
mod upstream_names;
