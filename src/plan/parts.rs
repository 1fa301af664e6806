//! Whether the target has the wanted platforms of an image.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{Answer, Questions, Request, State, compare_bytes};
use crate::manifest::{Manifest, StandIn};
use crate::reference::{Digest, Name, Spot};
use crate::registry::Head;

impl Questions<'_> {
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
            StandIn::Index(trimmed) => Some(&trimmed.digest),
            StandIn::None | StandIn::Forbidden => None,
        });
        let states = compare_bytes(at_target, root).into_iter().zip(&request.destinations);
        let checked = states.map(|(state, spot)| async move {
            match state {
                State::Present(digest) if self.has_all(spot, below).await => State::Present(digest),
                State::Present(_) => State::Different,
                State::Different if self.is_at(spot, trimmed).await => match trimmed {
                    Some(digest) => State::Present(digest.clone()),
                    None => State::Different,
                },
                other => other,
            }
        });
        join_all(checked).await
    }

    async fn has_all(&self, spot: &Spot, below: &[Vec<Arc<Manifest>>]) -> bool {
        let children = below.iter().flatten().map(|child| async {
            let name = Name::Digest(child.digest.clone());
            self.is_at(&Spot { name, ..spot.clone() }, Some(&child.digest)).await
        });
        join_all(children).await.into_iter().all(|there| there)
    }

    async fn is_at(&self, spot: &Spot, digest: Option<&Digest>) -> bool {
        let Some(digest) = digest else { return false };
        let _permit = self.permit().await;
        matches!(self.target.head_manifest(spot).await, Ok(Head::Found(there)) if there == *digest)
    }
}
