//! How a run ended, in the order in which its images were asked for.

use super::Run;
use crate::error::Error;
use crate::events::{Delivered, Outcome};
use crate::plan::{ImageId, Request};
use crate::store::Target;

/// What a run moved, in bytes and numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Blobs streamed, and their bytes.
    pub blobs_copied: usize,
    pub bytes_copied: u64,
    /// Bytes of those blobs that were there from an earlier run, which had not come to their end.
    pub bytes_resumed: u64,
    /// Mounted from another repository of the target instead of sent again.
    pub blobs_mounted: usize,
    pub bytes_mounted: u64,
    /// Found at the target, from an earlier run.
    pub blobs_found: usize,
    pub bytes_found: u64,
    /// Manifests pushed, and their bytes.
    pub manifests_copied: usize,
    pub manifest_bytes: u64,
    /// What copying every image on its own would have moved beyond what was moved.
    pub bytes_shared: u64,
}

/// How it all ended.
#[derive(Debug)]
pub struct Finished {
    /// For each image each of its names at the target.
    pub deliveries: Vec<Delivered>,
    pub totals: Totals,
    /// The cause for which the target was given up.
    pub gave_up: Option<Error>,
    /// Why what was moved is not yet what the target is to be.
    pub unfinished: Option<Error>,
    pub interrupted: bool,
}

impl Run {
    pub(super) async fn finish(self, interrupted: bool) -> Finished {
        let Self { target, resolution, plan, tasks, on_their_way, mut deliveries, refusals, tally, .. } =
            self;
        // What was needed to move things makes room for what is told of them.
        drop((tasks, plan, on_their_way));
        let why_left = match (refusals.gave_up(), interrupted) {
            (Some(error), _) => format!("not tried: {} was given up", error.place),
            (None, true) => "not done before the interruption".to_owned(),
            (None, false) => "not done".to_owned(),
        };
        let mut images: Vec<ImageId> = resolution.images().collect();
        images.sort_by_key(|image| resolution.rank(*image));
        let mut all = Vec::new();
        let mut is_whole = true;
        for image in images {
            let request = resolution.request(image);
            let unresolved = || vec![None; request.destinations.len()];
            let outcomes = deliveries.take_outcomes(image).unwrap_or_else(unresolved);
            for (name, outcome) in outcomes.into_iter().enumerate() {
                let is_left = outcome.is_none();
                let outcome = outcome.unwrap_or_else(|| Outcome::Left(why_left.clone()));
                let told = told(&target, request, name, outcome);
                if is_left {
                    tally.delivered(told.clone());
                }
                is_whole &= matches!(told.outcome, Outcome::Copied { .. } | Outcome::Present(_));
                all.push(told);
            }
        }
        let unfinished = target.finish(is_whole).await.err();
        if let Some(error) = &unfinished {
            for delivered in &mut all {
                if matches!(delivered.outcome, Outcome::Copied { .. }) {
                    delivered.outcome = Outcome::Left(format!("not there yet: {}", error.reason()));
                }
            }
        }
        let gave_up = refusals.gave_up().cloned();
        Finished { deliveries: all, totals: tally.totals(), gave_up, unfinished, interrupted }
    }
}

/// What is told of one of the names of an image.
pub(super) fn told(target: &Target, request: &Request, name: usize, outcome: Outcome) -> Delivered {
    Delivered {
        source: request.reference.to_string(),
        target: target.full_name(&request.destinations[name]),
        refers_to: request.refers_to.clone(),
        outcome,
    }
}
