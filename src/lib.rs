//! Mirrors the container images of a KubeOne cluster into a registry.
//!
//! A run in two steps: [`plan`] finds out what has to move, [`mirror`] moves it. Knowledge flows one way, from
//! the top of this list to its bottom.

pub mod cli;
pub mod options;
pub mod report;

pub mod catalog;
pub mod mirror;
pub mod plan;
pub mod upstreams;

pub mod events;
pub mod progress;

pub mod manifest;
pub mod registry;

pub mod reference;
pub mod text;

use std::fmt::Write as _;
use std::future::Future;
use std::time::Instant;

use anyhow::Result;

use crate::catalog::{Catalog, Selection};
use crate::events::{Event, Listener};
use crate::mirror::{Limits, carry_out};
use crate::options::Options;
use crate::plan::{Request, resolve};
use crate::report::Report;
use crate::upstreams::{Hosts, destinations};

/// The images that the options choose.
///
/// # Errors
/// A version or release that the catalog does not know, with those that it does.
pub fn select(options: &Options) -> Result<Selection> {
    let selection = Catalog::embedded()?.select(&options.query)?;
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
    let mut hosts = Hosts::new(options);
    let requests: Vec<Request> =
        selection.images.iter().map(|image| hosts.request(&image.reference)).collect();
    tokio::pin!(interrupted);

    let total = requests.len();
    let heard = |done| listener(Event::Resolving { done, total });
    let plan = tokio::select! {
        plan = resolve(&requests, &hosts.target, limits.small, heard) => plan,
        () = &mut interrupted => {
            return Report::interrupted_early(options.target.to_string(), &requests, &hosts.target.host, began.elapsed());
        }
    };
    listener(Event::Planned { bytes: plan.bytes_to_move(), deliveries: plan.deliveries() });
    let finished = carry_out(&plan, hosts.target, limits, listener, interrupted).await;
    Report::new(options.target.to_string(), finished, began.elapsed())
}

/// One `SOURCE → TARGET` line for each image and name.
pub fn dry_run(options: &Options, selection: &Selection) -> String {
    let mut lines = String::new();
    for image in &selection.images {
        for spot in destinations(options, &image.reference) {
            let _ = writeln!(lines, "{} → {}/{spot}", image.reference, options.target.host);
        }
    }
    lines
}

/// The same as JSON: a list of `{"source": …, "target": …}`.
pub fn dry_run_json(options: &Options, selection: &Selection) -> String {
    let pairs = selection.images.iter().flat_map(|image| {
        let spots = destinations(options, &image.reference).into_iter();
        spots.map(|spot| {
            serde_json::json!({
                "source": image.reference.to_string(),
                "target": format!("{}/{spot}", options.target.host),
            })
        })
    });
    format!("{:#}\n", serde_json::Value::Array(pairs.collect()))
}
