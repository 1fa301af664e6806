//! Mirrors the container images of a KubeOne cluster into a registry.
//!
//! A run in two steps: [`plan`] finds out what has to move, [`mirror`] moves it. Knowledge flows one way, from
//! the top of this list to its bottom.

pub mod cli;
pub mod options;
pub mod report;

pub mod catalog;
pub mod check;
pub mod dry_run;
pub mod image_list;
pub mod mirror;
pub mod plan;
pub mod upstreams;
pub mod workloads;

pub mod events;
pub mod progress;

pub mod manifest;
pub mod registry;

pub mod reference;
pub mod text;
pub mod text_file;
pub mod yaml;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::catalog::{Catalog, SelectedImage, Selection};
use crate::check::Check;
use crate::events::{Event, Listener};
use crate::mirror::{Limits, carry_out};
use crate::options::Options;
use crate::plan::{Plan, Request, look_for_found, resolve};
use crate::reference::check_collisions;
use crate::registry::Peer;
use crate::report::Report;
use crate::upstreams::Hosts;

/// The images that the options choose: from the catalog, by name, or both.
///
/// # Errors
/// A version or release that the catalog does not know, with those that it does; two images that would overwrite
/// each other at the target.
pub fn select(options: &Options) -> Result<Selection> {
    let mut selection = match &options.query {
        Some(query) => Catalog::embedded()?.select(query)?,
        None => Selection { images: Vec::new(), warnings: Vec::new(), kubernetes: Vec::new() },
    };
    for reference in &options.images {
        if !selection.images.iter().any(|image| image.reference == *reference) {
            selection.images.push(SelectedImage { reference: reference.clone(), reasons: Vec::new() });
        }
    }
    check_collisions(selection.images.iter().map(|image| &image.reference))?;
    for warning in &selection.warnings {
        tracing::warn!("{warning}");
    }
    Ok(selection)
}

/// Mirrors `selection`. `listener` hears what happens; `interrupted` ends the run early and in order.
pub async fn run(
    options: &Options,
    selection: &Selection,
    listener: Listener,
    interrupted: impl Future<Output = ()>,
) -> Report {
    let began = Instant::now();
    let limits = Limits::for_images(options.parallel);
    let (target, requests) = requests(options, selection);
    tokio::pin!(interrupted);
    let plan = tokio::select! {
        plan = make_plan(&target, &requests, limits, &listener) => plan,
        () = &mut interrupted => return Report::interrupted_early(&options.target, &requests, began.elapsed()),
    };
    let finished = carry_out(&plan, target, limits, listener, interrupted).await;
    Report::new(&options.target, finished, began.elapsed())
}

/// Compares both sides for `selection`, without writing anything: what a run would then do, to the byte.
pub async fn check(options: &Options, selection: &Selection, listener: Listener) -> Check {
    let limits = Limits::for_images(options.parallel);
    let (target, requests) = requests(options, selection);
    let mut plan = make_plan(&target, &requests, limits, &listener).await;
    look_for_found(&mut plan, &target, limits.small).await;
    Check::new(options.target.to_string(), &plan)
}

fn requests(options: &Options, selection: &Selection) -> (Arc<Peer>, Vec<Request>) {
    let mut hosts = Hosts::new(options);
    let requests = selection.images.iter().map(|image| hosts.request(&image.reference)).collect();
    (hosts.target, requests)
}

async fn make_plan(target: &Arc<Peer>, requests: &[Request], limits: Limits, listener: &Listener) -> Plan {
    let total = requests.len();
    let heard = |done| listener(Event::Resolving { done, total });
    let plan = resolve(requests, target, limits.small, heard).await;
    listener(Event::Planned { bytes: plan.bytes_to_move(), deliveries: plan.deliveries() });
    plan
}
