//! All integration tests in one binary.

// A program of its own has no outside, and prints.
#![allow(unreachable_pub, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod program;
mod saved;
mod scene;
mod single;
mod stage;

mod archives;
mod audit;
mod canary;
mod catalog;
mod check;
mod clouds;
mod cluster;
mod config;
mod credentials;
mod deep;
mod deltas;
mod efficiency;
mod empty_root;
mod failures;
mod foreign_layouts;
mod former_names;
mod helpers;
mod hostile_archives;
mod importers;
mod incomplete;
mod kill;
mod layouts;
mod loading;
mod locks;
mod main_job;
mod memory;
mod output;
mod partial_archives;
mod parts;
mod pins;
mod platforms;
mod privacy;
mod proxies;
mod real_limits;
mod real_targets;
mod receipts;
mod renew;
mod replay;
mod rooms;
mod rows;
mod schedules;
mod set_ups;
mod strangers;
mod streams;
mod support_works;
mod survey;
mod table;
mod tokens;
mod trial;
mod trust;
mod untagged;
mod upstream_names;
mod user_yaml;
mod wrong_use;
