//! Whether the target has the wanted platforms of an image. The digest of an index says nothing of what is below it.

use std::sync::Arc;

use futures_util::future::join_all;

use super::questions::{Answer, Questions, compare_bytes};
use super::{Lack, Request, State};
use crate::manifest::{Extent, Manifest, StandIn, Trimmed};
use crate::reference::{Digest, Name, Spot};
use crate::registry::Head;

impl Questions {
    /// How much all destinations, which have the right index, have of it; `None` if one lacks a wanted platform. The
    /// target's own manifests tell, so that the source is not asked for what is there.
    pub(super) async fn extent(&self, request: &Request, index: &Digest) -> Option<Extent> {
        let here = self.here();
        let trees = request.destinations.iter().map(|spot| {
            let spot = Spot { name: Name::Digest(index.clone()), ..spot.clone() };
            let here = &here;
            async move { self.fetch_tree(here, &spot, &request.platforms, false).await }
        });
        let mut extent = None;
        for tree in join_all(trees).await {
            extent = Some(tree.ok()?.last()?.first()?.extent());
        }
        extent
    }

    /// What each destination lacks of `levels`: an index may be there from a run for other platforms, and a trimmed
    /// one is there only with all that it names.
    pub(super) async fn compare_parts(
        &self,
        request: &Request,
        at_target: Vec<Answer>,
        levels: &[Vec<Arc<Manifest>>],
    ) -> Vec<State> {
        let Some((root, below)) = levels.split_last() else { return Vec::new() };
        let root = root.first();
        let trimmed = root.and_then(|root| match &root.stand_in {
            StandIn::Index(index) => {
                Some(Trimmed { source: root.digest.clone(), target: index.digest.clone() })
            }
            StandIn::None | StandIn::Forbidden | StandIn::Nested => None,
        });
        let is_trimmed = |answer: &Answer| match (answer, &trimmed) {
            (Answer::Digest(there), Some(trimmed)) if *there == trimmed.target => Some(trimmed.clone()),
            _ => None,
        };
        let known: Vec<Option<Trimmed>> = at_target.iter().map(is_trimmed).collect();
        let states = compare_bytes(at_target, root).into_iter().zip(known).zip(&request.destinations);
        let checked = states.map(|((state, trimmed), spot)| async move {
            match (state, trimmed) {
                (_, Some(trimmed)) => State::Trimmed(trimmed),
                (State::Present(_), None) if !self.has_all(spot, below).await => {
                    State::Partial(Lack::Platforms)
                }
                (State::Present(digest), None) => {
                    State::present(digest, &root.map_or(Extent::Whole, |root| root.extent()))
                }
                (state, None) => state,
            }
        });
        join_all(checked).await
    }

    async fn has_all(&self, spot: &Spot, below: &[Vec<Arc<Manifest>>]) -> bool {
        let children = below.iter().flatten().map(|child| async {
            let name = Name::Digest(child.digest.clone());
            self.is_at(&Spot { name, ..spot.clone() }, &child.digest).await
        });
        join_all(children).await.into_iter().all(|there| there)
    }

    async fn is_at(&self, spot: &Spot, digest: &Digest) -> bool {
        let _permit = self.permit_for_target().await;
        matches!(self.target.resolve(spot).await, Ok(Head::Found(there)) if there == *digest)
    }
}
