//! Whether the target has the wanted platforms of an image. The digest of an index says nothing of what is below it.

use std::sync::Arc;

use futures_util::future::join_all;

use super::resolver::{AtTarget, Resolver, compare_bytes};
use super::{Lack, Levels, Request, State};
use crate::image::manifest::{Extent, Manifest, StandIn, Trimmed};
use crate::image::reference::{Digest, Location, TagOrDigest};
use crate::store::Head;

impl Resolver {
    /// What all destinations, which have the right index, have of it; `None` if one lacks a wanted platform. The
    /// target's own manifests tell, so that the source is not asked for what is there.
    pub(super) async fn trees_there(&self, request: &Request, index: &Digest) -> Option<Vec<Levels>> {
        let destinations = request.destinations.iter();
        let trees = destinations.map(|location| self.fetch_there(request, location, index));
        let trees = join_all(trees).await.into_iter().collect::<Result<Vec<_>, _>>().ok()?;
        trees.iter().all(|levels| !levels.is_empty()).then_some(trees)
    }

    /// What each destination lacks of `levels`: an index may be there from a run for other platforms, and a trimmed
    /// one is there only with all that it names.
    pub(super) async fn compare_parts(
        &self,
        request: &Request,
        at_target: Vec<AtTarget>,
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
        let is_trimmed = |answer: &AtTarget| match (answer, &trimmed) {
            (AtTarget::Digest(there), Some(trimmed)) if *there == trimmed.target => Some(trimmed.clone()),
            _ => None,
        };
        let known: Vec<Option<Trimmed>> = at_target.iter().map(is_trimmed).collect();
        let states = compare_bytes(at_target, root).into_iter().zip(known).zip(&request.destinations);
        let checked = states.map(|((state, trimmed), location)| async move {
            match (state, trimmed) {
                (_, Some(trimmed)) => State::Trimmed(trimmed),
                (State::Present(_), None) if !self.has_all(location, below).await => {
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

    async fn has_all(&self, location: &Location, below: &[Vec<Arc<Manifest>>]) -> bool {
        let children = below.iter().flatten().map(|child| async {
            let name = TagOrDigest::Digest(child.digest.clone());
            self.is_at(&Location { name, ..location.clone() }, &child.digest).await
        });
        join_all(children).await.into_iter().all(|there| there)
    }

    async fn is_at(&self, location: &Location, digest: &Digest) -> bool {
        let _permit = self.permit_for_target().await;
        match self.target.resolve(location).await {
            Ok(Head::Found(there)) => there == *digest,
            Ok(Head::Mute) => self.target.manifest(location, None).await.is_ok(),
            Ok(Head::Absent) | Err(_) => false,
        }
    }
}
