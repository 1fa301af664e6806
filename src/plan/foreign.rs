//! Layers that are marked as not to be distributed, where the user wants them at the target all the same.
//!
//! A manifest is complete without them, so that its being at the target says nothing of them.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{Place, Questions, Request, State, blobs_of};
use crate::manifest::{Descriptor, Manifest};
use crate::platforms::Platforms;
use crate::reference::Repository;

impl Questions<'_> {
    /// Whether a destination that has the image already lacks foreign layers of it. Its own manifests tell which there
    /// are: asking the source would count against its rate limit.
    pub(super) async fn lacks_foreign_layers(&self, request: &Request) -> bool {
        if !self.rules.include_foreign {
            return false;
        }
        let here = Place { peer: self.target.clone(), prefix: None };
        let looks = request.destinations.iter().map(|spot| async {
            match self.fetch_tree(&here, spot, &Platforms::default(), false).await {
                Ok(levels) => !self.has_foreign(&spot.repository, &levels).await,
                Err(_) => true,
            }
        });
        join_all(looks).await.into_iter().any(|lacks| lacks)
    }

    /// The same for what was just fetched from the source.
    pub(super) async fn compare_foreign(
        &self,
        request: &Request,
        states: Vec<State>,
        levels: &[Vec<Arc<Manifest>>],
    ) -> Vec<State> {
        if !self.rules.include_foreign {
            return states;
        }
        let compared = states.into_iter().zip(&request.destinations).map(|(state, spot)| async move {
            match state {
                State::Present(_) if !self.has_foreign(&spot.repository, levels).await => State::Different,
                state => state,
            }
        });
        join_all(compared).await
    }

    async fn has_foreign(&self, repository: &Repository, levels: &[Vec<Arc<Manifest>>]) -> bool {
        let layers = levels.iter().flatten().flat_map(|m| blobs_of(m, true)).filter(|b| b.is_foreign());
        let looks = layers.map(|layer: &Descriptor| async {
            let _permit = self.permit().await;
            matches!(self.target.blob_size(repository, &layer.digest).await, Ok(Some(size)) if size == layer.size)
        });
        join_all(looks).await.into_iter().all(|there| there)
    }
}
