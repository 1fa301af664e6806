//! Layers that are marked as not to be distributed, where the user wants them at the target all the same.
//!
//! A manifest is complete without them, so that its being at the target says nothing of them.

use futures_util::future::join_all;

use super::resolver::Resolver;
use super::{Levels, Request};
use crate::image::reference::Repository;

impl Resolver {
    /// Whether a destination that has the image already lacks foreign layers of it. Its own manifests tell which there
    /// are: asking the source would count against its rate limit.
    pub(super) async fn lacks_foreign_layers(&self, request: &Request) -> bool {
        if !self.rules.include_foreign {
            return false;
        }
        let here = self.here();
        let looks = request.destinations.iter().map(|location| async {
            match self.fetch_tree(&here, location, &request.platforms, false).await {
                Ok(levels) => !self.has_foreign_layers(request, &location.repository, &levels).await,
                Err(_) => true,
            }
        });
        join_all(looks).await.into_iter().any(|lacks| lacks)
    }

    /// Whether the foreign layers of an image are in a repository of the target, if they are wanted at all.
    pub(super) async fn has_foreign_layers(
        &self,
        request: &Request,
        repository: &Repository,
        levels: &Levels,
    ) -> bool {
        if !self.rules.include_foreign {
            return true;
        }
        let layers = request.blobs_in(levels, true).filter(|blob| blob.is_foreign());
        let looks = layers.map(|layer| self.has_blob(repository, layer));
        join_all(looks).await.into_iter().all(|there| there)
    }
}
