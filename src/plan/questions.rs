//! What both sides have of an image, asked with as few requests as will do.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tokio::sync::{OnceCell, Semaphore};

use super::{Lack, Place, Plan, Request, Rules, State, blobs_of};
use crate::error::Remedy;
use crate::manifest::{Extent, Manifest};
use crate::platforms::Platforms;
use crate::reference::{Digest, Host, Name, Repository, Spot};
use crate::registry::{Error, Head, Kind, Peer};

/// What asking about one image brought.
pub(super) struct Found {
    pub states: Vec<State>,
    pub levels: Option<Vec<Vec<Arc<Manifest>>>>,
}

/// The digest under a name, as far as can be told.
pub(super) enum Answer {
    Digest(Digest),
    Nothing,
    Failed(Error),
}

impl Answer {
    fn digest(&self) -> Option<Digest> {
        match self {
            Answer::Digest(digest) => Some(digest.clone()),
            Answer::Nothing | Answer::Failed(_) => None,
        }
    }
}

/// Whoever asks while a plan is made.
pub(super) struct Questions<'a> {
    pub target: &'a Arc<Peer>,
    pub rules: Rules,
    /// Held for one question each, by whoever asks it, and for nothing else.
    permits: Semaphore,
    /// What indexes name, so that two tags of one image fetch it once.
    pub fetched: Mutex<HashMap<Named, Arc<OnceCell<Arc<Manifest>>>>>,
}

/// A manifest as an index names it: where, which, and how many bytes it should have.
pub(super) type Named = (Host, Repository, Digest, u64);

impl<'a> Questions<'a> {
    pub fn new(target: &'a Arc<Peer>, rules: Rules, parallel: NonZeroUsize) -> Self {
        Self { target, rules, permits: Semaphore::new(parallel.get()), fetched: Mutex::default() }
    }

    pub async fn permit(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }

    pub async fn resolve_image(&self, request: &Request) -> Found {
        let at_target = join_all(request.destinations.iter().map(|spot| self.digest_at_target(spot))).await;
        let names: Vec<Option<Digest>> = at_target.iter().map(Answer::digest).collect();
        let mut found = self.find(request, at_target).await;
        if self.rules.no_clobber {
            self.keep_others(&mut found, request, &names);
        }
        found
    }

    async fn find(&self, request: &Request, at_target: Vec<Answer>) -> Found {
        // A target that cannot be asked cannot be pushed to: the source is left alone.
        if at_target.iter().all(|answer| matches!(answer, Answer::Failed(_))) {
            return Found { states: compare(at_target, None), levels: None };
        }
        let closely = request.platforms.are_looked_for();
        if let Some(wanted) = self.wanted_digest(request, &at_target).await
            && at_target.iter().all(|a| matches!(a, Answer::Digest(d) if *d == wanted))
            && let Some(extent) =
                if closely { self.extent(request, &wanted).await } else { Some(Extent::Whole) }
            && !self.lacks_foreign_layers(request).await
            && self.is_registered(request).await
        {
            let present = || State::present(wanted.clone(), &extent);
            return Found { states: at_target.iter().map(|_| present()).collect(), levels: None };
        }
        let spot = request.source.place(&request.reference.spot());
        let pinned = request.reference.digest.is_some();
        match self.fetch_tree(&request.source, &spot, &request.platforms, pinned).await {
            // For other platforms only: nothing is to be done for it.
            Ok(levels) if levels.is_empty() => {
                tracing::warn!("{} has none of the wanted platforms and is left out", request.reference);
                Found { states: Vec::new(), levels: None }
            }
            Ok(levels) => {
                let states = match closely {
                    true => self.compare_parts(request, at_target, &levels).await,
                    false => compare_bytes(at_target, levels.last().and_then(|level| level.first())),
                };
                let states = self.compare_beyond(request, states, &levels).await;
                let levels = states.iter().any(State::is_wanted).then_some(levels);
                Found { states, levels }
            }
            Err(error) => Found {
                states: at_target.iter().map(|_| State::Failed(error.clone())).collect(),
                levels: None,
            },
        }
    }

    /// Fails the names that other content has.
    fn keep_others(&self, found: &mut Found, request: &Request, names: &[Option<Digest>]) {
        for ((state, name), spot) in found.states.iter_mut().zip(names).zip(&request.destinations) {
            if let (State::Different, Some(digest)) = (&state, name) {
                let why = format!("it has another image there, {digest}");
                let error = self.target.error(Kind::Immutable, format!("write manifest {spot}"), why);
                *state = State::Failed(error.with_remedy(Remedy::NotClobbered));
            }
        }
        if !found.states.iter().any(State::is_wanted) {
            found.levels = None;
        }
    }

    /// Fails to find whole what its manifests alone do not make whole: foreign layers, where they are wanted, and the
    /// list that makes a referrer findable.
    async fn compare_beyond(
        &self,
        request: &Request,
        states: Vec<State>,
        levels: &[Vec<Arc<Manifest>>],
    ) -> Vec<State> {
        let any = states.iter().any(|state| state.digest_there().is_some());
        let registered = !any || self.is_registered(request).await;
        let compared = states.into_iter().zip(&request.destinations).map(|(state, spot)| async move {
            match () {
                () if state.digest_there().is_none() => state,
                () if !registered => State::Partial(Lack::Listing),
                () if !self.has_foreign_layers(&spot.repository, levels).await => {
                    State::Partial(Lack::Layers)
                }
                () => state,
            }
        });
        join_all(compared).await
    }

    /// What the target should have, if that can be told without fetching it: by the pin, or by a HEAD at the
    /// source, which is asked only where the target has something to compare it with.
    async fn wanted_digest(&self, request: &Request, at_target: &[Answer]) -> Option<Digest> {
        if let Some(pin) = &request.reference.digest {
            return Some(pin.clone());
        }
        if !at_target.iter().any(|a| matches!(a, Answer::Digest(_))) {
            return None;
        }
        let _permit = self.permit().await;
        match request.source.peer.head_manifest(&request.source.place(&request.reference.spot())).await {
            Ok(Head::Found(digest)) => Some(digest),
            // Some answer a HEAD wrongly; the GET that follows tells.
            Ok(Head::Absent | Head::Mute) | Err(_) => None,
        }
    }

    async fn digest_at_target(&self, spot: &Spot) -> Answer {
        let _permit = self.permit().await;
        match self.target.head_manifest(spot).await {
            Ok(Head::Found(digest)) => Answer::Digest(digest),
            Ok(Head::Absent) => Answer::Nothing,
            Ok(Head::Mute) => match self.target.get_manifest(spot, None).await {
                Ok(manifest) => Answer::Digest(manifest.digest),
                Err(error) if error.kind == Kind::NotFound => Answer::Nothing,
                Err(error) => Answer::Failed(error),
            },
            // Several registries say so of a repository that is not there yet; the push will show.
            Err(error) if error.kind == Kind::Denied && !self.rules.no_clobber => Answer::Nothing,
            Err(error) => Answer::Failed(error),
        }
    }

    /// Where the target has images whole already, their repositories hold blobs that others need: those need not
    /// cross the network again. The target's own manifests tell.
    pub async fn look_for_held(&self, plan: &mut Plan, platforms: &Platforms) {
        if plan.bytes_to_move() == 0 {
            return;
        }
        let here = Place { peer: self.target.clone(), prefix: None };
        let present: Vec<Spot> = plan
            .images
            .iter()
            .flat_map(|image| &image.deliveries)
            .filter_map(|delivery| {
                let name = Name::Digest(delivery.state.digest_there()?.clone());
                Some(Spot { repository: delivery.spot.repository.clone(), name })
            })
            .collect();
        let trees = join_all(present.iter().map(|spot| async {
            let tree = self.fetch_tree(&here, spot, platforms, false).await;
            (spot.repository.clone(), tree)
        }));
        let mut holders: HashMap<Digest, Repository> = HashMap::new();
        for (repository, tree) in trees.await {
            // Not knowing costs bytes, not correctness.
            // A foreign layer that a manifest there names need not be there.
            for blob in tree.iter().flatten().flatten().flat_map(|manifest| blobs_of(manifest, false)) {
                holders.entry(blob.digest.clone()).or_insert_with(|| repository.clone());
            }
        }
        for blob in &mut plan.blobs {
            blob.held_by = holders.remove(&blob.descriptor.digest);
        }
    }
}

/// The same against the bytes themselves: a registry may name them by another algorithm than the one asked by.
pub(super) fn compare_bytes(at_target: Vec<Answer>, root: Option<&Arc<Manifest>>) -> Vec<State> {
    let one = |answer: Answer| {
        let digest = match (&answer, root) {
            (Answer::Digest(there), Some(root)) => Some(Digest::of(there.algorithm(), &root.bytes)),
            _ => None,
        };
        compare(vec![answer], digest.as_ref())
    };
    at_target.into_iter().flat_map(one).collect()
}

/// What each destination lacks, against the digest that it should have.
fn compare(at_target: Vec<Answer>, wanted: Option<&Digest>) -> Vec<State> {
    let state = |answer| match answer {
        Answer::Failed(error) => State::Failed(error),
        Answer::Nothing => State::Missing,
        Answer::Digest(digest) if Some(&digest) == wanted => State::Present(digest),
        Answer::Digest(_) => State::Different,
    };
    at_target.into_iter().map(state).collect()
}
