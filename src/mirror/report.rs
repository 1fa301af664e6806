//! How a run ended, in the order in which its images were asked for.

use std::collections::HashMap;

use super::Run;
use crate::events::{Delivered, Event, Outcome};
use crate::plan::{ImageId, Plan};
use crate::store::registry::Error;

/// What a run moved, in bytes and numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Blobs streamed, and their bytes.
    pub blobs_copied: usize,
    pub bytes_copied: u64,
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
    pub interrupted: bool,
}

impl Run {
    pub(super) fn finish(mut self) -> Finished {
        self.tasks.abort_all();
        // What was needed to move things makes room for what is told of them.
        self.plan = Plan::new(&self.target, self.rules);
        self.on_their_way = HashMap::new();
        let why = match (self.refusals.gave_up(), self.interrupted) {
            (Some(error), _) => format!("not tried: {} was given up", error.place),
            (None, true) => "not done before the interruption".to_owned(),
            (None, false) => "not done".to_owned(),
        };
        let mut images: Vec<ImageId> = self.resolution.images().collect();
        images.sort_by_key(|image| self.resolution.rank(*image));
        let deliveries = images.into_iter().flat_map(|image| self.deliveries_of(image, &why)).collect();
        let moved = self.totals.bytes_copied.saturating_add(self.totals.bytes_found);
        self.totals.bytes_shared = self.bytes_of_copied.saturating_sub(moved);
        Finished {
            deliveries,
            totals: self.totals,
            gave_up: self.refusals.gave_up().cloned(),
            interrupted: self.interrupted,
        }
    }

    /// What has become of each name of an image; what is not settled was left undone.
    fn deliveries_of(&mut self, image: ImageId, why_left: &str) -> Vec<Delivered> {
        let known = self.names.get(&image).copied();
        let names = known.map_or(self.resolution.request(image).destinations.len(), |(_, names)| names);
        let outcome_of = |run: &mut Self, name: usize| {
            let (first, _) = known?;
            run.deliveries[first.index() + name].outcome.take()
        };
        (0..names)
            .map(|name| match outcome_of(self, name) {
                Some(outcome) => self.delivered(image, name, outcome),
                None => {
                    let left = Outcome::Left(why_left.to_owned());
                    let told = self.delivered(image, name, left);
                    (self.listener)(Event::Delivered(told.clone()));
                    told
                }
            })
            .collect()
    }

    pub(super) fn delivered(&self, image: ImageId, name: usize, outcome: Outcome) -> Delivered {
        let request = self.resolution.request(image);
        Delivered {
            source: request.reference.to_string(),
            target: format!("{}/{}", self.target.place(), request.destinations[name]),
            refers_to: request.refers_to.clone(),
            outcome,
        }
    }
}
