//! How a run ended, in the order in which its images were asked for.

use super::Run;
use crate::error::Error;
use crate::events::{Delivered, Outcome};
use crate::plan::{Fate, ImageId, Request};
use crate::record::Draft;
use crate::store::{Ending, Target};

/// Most images that a warning names; each is told where it fails as well.
const TOLD_MAX: usize = 5;

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
    /// The target was made without images that have failed, as it may be.
    pub is_incomplete: bool,
    pub interrupted: bool,
    /// What there is to record of the images.
    pub(crate) draft: Draft,
}

impl Run {
    pub(super) async fn finish(self, interrupted: bool) -> Finished {
        let Self {
            target,
            resolution,
            plan,
            tasks,
            on_their_way,
            mut deliveries,
            refusals,
            tally,
            contents,
            ..
        } = self;
        let may_lack = plan.rules().allow_incomplete && !interrupted && refusals.gave_up().is_none();
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
        let mut ends: Vec<usize> = Vec::with_capacity(images.len());
        let mut is_whole = true;
        for image in &images {
            let request = resolution.request(*image);
            let unresolved = || vec![None; request.destinations.len()];
            let outcomes = deliveries.take_outcomes(*image).unwrap_or_else(unresolved);
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
            ends.push(all.len());
        }
        let ending = match (is_whole, may_lack) {
            (true, _) => Ending::Whole,
            (false, true) => Ending::Lacking,
            (false, false) => Ending::Open,
        };
        let draft = |all: &[Delivered]| {
            let mut draft = Draft::default();
            let mut begin = 0;
            for (image, end) in images.iter().zip(&ends) {
                let fates = all[begin..*end].iter().map(fate).collect();
                resolution.request(*image).record(&mut draft, contents.get(image).map(AsRef::as_ref), fates);
                begin = *end;
            }
            draft
        };
        let mut recorded = draft(&all);
        let unfinished = target.finish(ending, &recorded).await.err();
        let is_incomplete = target.wants_all_first() && ending == Ending::Lacking && unfinished.is_none();
        if is_incomplete {
            tell_what_is_lacking(&target, &all);
        }
        if let Some(error) = &unfinished {
            for delivered in &mut all {
                if matches!(delivered.outcome, Outcome::Copied { .. }) {
                    delivered.outcome = Outcome::Left(format!("not there yet: {}", error.reason()));
                }
            }
            recorded = draft(&all);
        }
        let gave_up = refusals.gave_up().cloned();
        let totals = tally.totals();
        Finished { deliveries: all, totals, gave_up, unfinished, is_incomplete, interrupted, draft: recorded }
    }
}

fn fate(delivered: &Delivered) -> Fate {
    match &delivered.outcome {
        Outcome::Copied { extent, .. } | Outcome::Present(extent) => Fate::there(extent),
        Outcome::Failed(error) => Fate::Missing(error.to_string()),
        Outcome::Left(why) => Fate::Missing(why.clone()),
    }
}

/// Says which images a target is without.
fn tell_what_is_lacking(target: &Target, all: &[Delivered]) {
    let is_there = |told: &&Delivered| matches!(told.outcome, Outcome::Copied { .. } | Outcome::Present(_));
    let lacking: Vec<&str> =
        all.iter().filter(|told| !is_there(told)).map(|told| told.source.as_str()).collect();
    let more = match lacking.len().saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = lacking[..lacking.len().min(TOLD_MAX)].join(", ");
    tracing::warn!("{} is written and not complete: it is without {shown}{more}", target.place());
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
